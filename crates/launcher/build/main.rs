//! Compiles `seccomp/cage.json` to BPF for the target, so that the launcher carries the finished filter and no
//! parser: what is on the allow-list runs, what is `absent` answers `ENOSYS`, everything else is `EPERM`. The same
//! table makes the Docker back end's profile, in `crates/cage`.

mod filter;
mod table;

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let path = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../seccomp/cage.json");
    println!("cargo::rerun-if-changed={}", path.display());
    println!("cargo::rerun-if-changed=build");
    let text = fs::read_to_string(&path)?;
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let steps = table::compile(&text, &arch)?;
    let mut source = format!("static FILTER: [sock_filter; {}] = [\n", steps.len());
    for filter::Step { code, jt, jf, k } in steps {
        let (high, low) = (k >> 16, k & 0xFFFF);
        writeln!(
            source,
            "    sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: 0x{high:04x}_{low:04x} }},"
        )?;
    }
    source.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("filter.rs"), source)?;
    Ok(())
}
