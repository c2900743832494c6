//! Names and passwords for private registries: one file of the runner's host, in the form of Docker's `config.json`.
//!
//! ```json
//! { "auths": { "registry.example:5000": { "auth": "<base64 of name:password>" } } }
//! ```
//!
//! It is read when an image is pulled and kept nowhere. Nobody but its owner may read it, or it is refused; programs that
//! would give credentials (`credsStore`, `credHelpers`) are never run.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use clawstaff_types::Secret;
use serde::Deserialize;

use super::{ImageError, RegistryName, refused};

/// The most that is read of the file, in bytes.
const MOST: u64 = 64 << 10;
/// Other names for Docker Hub in such files.
const HUB: [&str; 4] = [
    "registry-1.docker.io",
    "https://index.docker.io/v1/",
    "index.docker.io",
    "docker.io",
];

/// What is sent to a registry: base64 of name and password.
pub(crate) struct Credential(Secret<String>);

impl Credential {
    /// The value of an `Authorization` header.
    pub(super) fn header(&self) -> String {
        format!("Basic {}", self.0.expose_secret())
    }

    /// The name and the password.
    pub(crate) fn pair(&self) -> Option<(String, String)> {
        let bytes = BASE64.decode(self.0.expose_secret()).ok()?;
        let (name, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
        Some((name.to_owned(), password.to_owned()))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Where the file is, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Option<PathBuf>);

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
}

impl Credentials {
    /// Takes them from this file, which need not be there.
    pub const fn from_file(path: PathBuf) -> Self {
        Self(Some(path))
    }

    /// What this registry is told, if anything.
    pub(crate) fn of(&self, name: &RegistryName) -> Result<Option<Credential>, ImageError> {
        let Some(path) = &self.0 else {
            return Ok(None);
        };
        let text = match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| {
                refused(format!(
                    "the credentials in {} cannot be used: {error}",
                    path.display()
                ))
            })?,
        };
        // What is wrong with it is not repeated: it would repeat a part of it.
        let config: Config = serde_json::from_str(text.expose_secret()).map_err(|_| {
            refused(format!(
                "the credentials in {} are not in the form of Docker's config.json",
                path.display()
            ))
        })?;
        let hub = HUB.contains(&name.host.as_str());
        let is_it = |key: &str| key == name.host || hub && HUB.contains(&key);
        let mut found = config.auths.into_iter().filter(|(key, _)| is_it(key));
        match found.next().map(|(_, entry)| entry.auth) {
            None => Ok(None),
            Some(Some(auth)) if is_base64(&auth) => Ok(Some(Credential(Secret::new(auth)))),
            Some(_) => Err(refused(format!(
                "the credentials for `{}` in {} have no `auth` of base64; programs that would give them are not run",
                name.host,
                path.display()
            ))),
        }
    }
}

fn is_base64(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

fn read(path: &Path) -> io::Result<Secret<String>> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "others may read it, or it is no file: chmod 600",
        ));
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own && found.uid() != 0 {
        return Err(io::Error::other(
            "it belongs to neither root nor the runner's user",
        ));
    }
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text)?;
    let text = Secret::new(text);
    if text.expose_secret().len() as u64 > MOST {
        return Err(io::Error::other("it is larger than 64 KiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn asked(content: &str, mode: u32, host: &str) -> Result<Option<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.json");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let super::super::Reference::Registry(name) = format!("{host}/a/b:1").parse().unwrap() else {
            panic!("no registry")
        };
        let found = Credentials::from_file(path).of(&name);
        found
            .map(|found| found.map(|credential| credential.header()))
            .map_err(|error| error.to_string())
    }

    const FILE: &str = r#"{"auths": {"r.example:5000": {"auth": "bmFtZTpwYXNz"}, "helped.example": {},
        "https://index.docker.io/v1/": {"auth": "aHVi"}}, "credsStore": "desktop"}"#;

    #[test]
    fn a_registry_is_told_what_is_under_its_own_name_and_nothing_else() {
        assert_eq!(
            asked(FILE, 0o600, "r.example:5000"),
            Ok(Some("Basic bmFtZTpwYXNz".to_owned()))
        );
        assert_eq!(asked(FILE, 0o400, "docker.io"), Ok(Some("Basic aHVi".to_owned())));
        assert_eq!(asked(FILE, 0o600, "r.example"), Ok(None));
        assert_eq!(asked(FILE, 0o600, "r.example:5000.evil.example"), Ok(None));
        assert!(
            asked(FILE, 0o600, "helped.example")
                .unwrap_err()
                .contains("not run")
        );
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_none_is_refused_without_a_word_of_it() {
        assert!(
            asked(FILE, 0o640, "r.example:5000")
                .unwrap_err()
                .contains("chmod 600")
        );
        let broken = asked(r#"{"auths": "c2VjcmV0"}"#, 0o600, "r.example").unwrap_err();
        assert!(!broken.contains("c2VjcmV0"), "{broken}");
        let large = format!("{{\"x\": \"{}\"}}", "y".repeat(70_000));
        assert!(asked(&large, 0o600, "r.example").unwrap_err().contains("64 KiB"));
        let dir = tempfile::tempdir().unwrap();
        let absent = Credentials::from_file(dir.path().join("none"));
        let super::super::Reference::Registry(name) = "r.example/a:1".parse().unwrap() else {
            panic!("no registry")
        };
        assert!(absent.of(&name).unwrap().is_none());
    }
}
