//! What the kernel tells of the running parts: no core, and no secret where other programs could read it.

use crate::installation::{Installation, SECRETS};

const PARTS: [&str; 3] = ["control", "gateway", "runner"];

#[test]
fn no_part_leaves_a_core_or_has_a_secret_in_its_arguments_its_environment_or_its_messages() {
    let installation = Installation::start();
    for part in PARTS {
        let pid = installation.pid(part).unwrap();
        let of = |file: &str| std::fs::read(format!("/proc/{pid}/{file}"));
        let limits = String::from_utf8(of("limits").unwrap()).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.unwrap().split_whitespace().skip(4).take(2).collect();
        assert_eq!(words, ["0", "0"], "{part}");
        let arguments = of("cmdline").unwrap();
        assert!(arguments.windows(part.len()).any(|word| word == part.as_bytes()));
        // Of a part that cannot be traced, only root may read the environment.
        let environment = of("environ").unwrap_or_default();
        let said = std::fs::read(installation.data.with_file_name("up.log")).unwrap();
        for (name, value) in SECRETS {
            for (what, bytes) in [
                ("arguments", &arguments),
                ("environment", &environment),
                ("messages", &said),
            ] {
                let found = bytes.windows(value.len()).any(|part| part == value.as_bytes());
                assert!(!found, "{name} in the {what} of {part}");
            }
        }
    }
}

#[test]
fn a_gateway_without_its_master_key_is_told_by_every_verb_that_looks_for_it() {
    let mut installation = Installation::start();
    let key = installation.data.join("gateway/vault/master.key");
    let kept = key.with_extension("kept");
    std::fs::rename(&key, &kept).unwrap();
    for verb in [["secret", "list"].as_slice(), &["status"]] {
        let ran = installation.run(verb, None);
        assert_eq!(ran.code, 0);
        assert!(ran.err.contains("clawstaff secret backup"), "{}", ran.err);
    }
    let refused = installation.run(&["secret", "set", "new"], Some("x"));
    assert!(
        refused.code != 0 && refused.err.contains("master key is gone"),
        "{}",
        refused.err
    );
    installation.end();
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_clawstaff"))
        .args(["gateway", "--ingress", "127.0.0.1:0"])
        .env("CLAWSTAFF_DATA", &installation.data)
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && why.contains("master.key is gone"),
        "{why}"
    );
    for verb in [
        ["secret", "list"].as_slice(),
        &["secret", "rotate", "notion"],
        &["status"],
    ] {
        let ran = installation.run(verb, Some("x"));
        assert_eq!(ran.code, 7);
        assert!(ran.err.contains("master.key is gone"), "{}", ran.err);
    }
}
