//! The agent's environment. Pure: what was inherited and `claw.json` in, variables out.
//!
//! Three layers, a later one wins: what the image brought, what software needs to find the doors, and what the
//! gateway wrote into `claw.json`.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use clawstaff_cage_contract::{CA_FILE, ClawFile};

use crate::options::Options;

/// Where programs are looked for when the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables by which software finds the certificate authorities that it trusts.
const CA_VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",                    // OpenSSL, Go, rustls-native-certs, Ruby
    "CURL_CA_BUNDLE",                   // curl
    "REQUESTS_CA_BUNDLE",               // Python requests
    "NODE_EXTRA_CA_CERTS",              // Node.js
    "GIT_SSL_CAINFO",                   // git
    "PIP_CERT",                         // pip
    "npm_config_cafile",                // npm
    "AWS_CA_BUNDLE",                    // AWS command line and SDKs
    "CARGO_HTTP_CAINFO",                // cargo
    "DENO_CERT",                        // Deno
    "HTTPLIB2_CA_CERTS",                // Python httplib2
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", // gRPC
];

/// Variables by which software finds an HTTP proxy.
const PROXY_VARIABLES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];

/// Hosts that are the cage itself: never through the proxy.
const NO_PROXY: &str = "127.0.0.1,localhost";

/// The environment of the agent.
pub(super) fn of_agent(
    inherited: BTreeMap<OsString, OsString>,
    file: &ClawFile,
    options: &Options,
) -> BTreeMap<OsString, OsString> {
    let mut env = inherited;
    env.entry("PATH".into()).or_insert_with(|| PATH.into());
    let mut set = |name: &str, value: &OsStr| env.insert(name.into(), value.to_owned());
    set("HOME", options.data_dir.as_os_str());
    set("TMPDIR", OsStr::new("/tmp"));
    let authority = options.claw_path(CA_FILE);
    for name in CA_VARIABLES {
        set(name, authority.as_os_str());
    }
    let proxy = format!("http://{}", options.proxy);
    for name in PROXY_VARIABLES {
        set(name, OsStr::new(&proxy));
    }
    set("NO_PROXY", OsStr::new(NO_PROXY));
    set("no_proxy", OsStr::new(NO_PROXY));
    set("CLAW_URL", OsStr::new(&format!("http://{}", options.doors)));
    for (name, value) in file.env.iter().filter(|(name, value)| is_variable(name, value)) {
        set(name, OsStr::new(value));
    }
    env
}

/// Whether the kernel could carry it: starting a program with anything else fails as a whole.
fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(inherited: &[(&str, &str)], own: &[(&str, &str)]) -> BTreeMap<String, String> {
        let file = ClawFile {
            contract: 1,
            claw: "triage".parse().unwrap(),
            revision: 1,
            command: vec![],
            env: own
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            model: None,
        };
        let inherited = inherited.iter().map(|(k, v)| (k.into(), v.into())).collect();
        of_agent(inherited, &file, &Options::parse(&[]).unwrap())
            .into_iter()
            .map(|(k, v)| (k.into_string().unwrap(), v.into_string().unwrap()))
            .collect()
    }

    #[test]
    fn software_finds_the_authority_the_proxy_and_the_doors() {
        let env = environment(&[], &[]);
        for name in CA_VARIABLES {
            assert_eq!(env[*name], "/claw/ca.pem");
        }
        for name in PROXY_VARIABLES {
            assert_eq!(env[*name], "http://127.0.0.1:3128");
        }
        assert_eq!(env["NO_PROXY"], "127.0.0.1,localhost");
        assert_eq!(env["CLAW_URL"], "http://127.0.0.1:7070");
        assert_eq!(env["HOME"], "/data");
        assert_eq!(env["TMPDIR"], "/tmp");
        assert_eq!(env["PATH"], PATH);
    }

    #[test]
    fn the_gateways_word_is_the_last() {
        let env = environment(
            &[
                ("LANG", "C"),
                ("PATH", "/opt/bin"),
                ("HTTPS_PROXY", "http://elsewhere"),
            ],
            &[("SLACK_BOT_TOKEN", "xoxb-placeholder"), ("HOME", "/data/home")],
        );
        assert_eq!(env["LANG"], "C");
        assert_eq!(env["PATH"], "/opt/bin");
        assert_eq!(env["HTTPS_PROXY"], "http://127.0.0.1:3128");
        assert_eq!(env["SLACK_BOT_TOKEN"], "xoxb-placeholder");
        assert_eq!(env["HOME"], "/data/home");
    }

    #[test]
    fn what_no_environment_can_carry_is_left_out() {
        let env = environment(&[], &[("A=B", "x"), ("", "x"), ("C", "x\0y")]);
        assert!(!env.contains_key("A=B") && !env.contains_key("") && !env.contains_key("C"));
    }
}
