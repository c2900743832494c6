//! Where an image is, as it stands in a spec file.
//!
//! | text | means |
//! |---|---|
//! | `oci:/path` or `oci:/path:tag` | an OCI image layout in a directory of this host |
//! | `oci-archive:/path.tar` | an archive of such a layout, or one that `docker save` wrote |
//! | `docker:name:tag` | an image that the local engine has |
//! | `host/name:tag`, `name@sha256:…` | a registry (without a host: Docker Hub); with a digest nothing else is taken |

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use clawstaff_types::Digest;

/// The registry of names without a host.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// The longest reference, in bytes.
const LONGEST: usize = 512;

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// An OCI image layout in a directory.
    Layout {
        /// The directory.
        path: PathBuf,
        /// The image in it, by its annotation `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// An archive file.
    Archive(PathBuf),
    /// An image of the local engine.
    Engine(String),
    /// An image of a registry.
    Registry(RegistryName),
}

/// A name in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryName {
    /// Host and perhaps port.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// The tag; ignored when there is a digest.
    pub tag: String,
    /// The manifest's digest, if the name has one.
    pub digest: Option<Digest>,
}

/// A text that is no reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no image: {why}; an image is `oci:/directory`, `oci-archive:/file.tar`, `docker:NAME` (from the \
     local engine) or `registry.example/name:tag`"
)]
pub struct BadReference {
    text: String,
    why: &'static str,
}

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        let bad = |why| BadReference {
            text: text.chars().filter(|c| !c.is_control()).take(80).collect(),
            why,
        };
        if text.len() > LONGEST || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad("it is too long or has spaces in it"));
        }
        if let Some(path) = text
            .strip_prefix("oci-archive:")
            .or_else(|| text.strip_prefix("docker-archive:"))
        {
            return absolute(path)
                .map(Self::Archive)
                .ok_or_else(|| bad("the path is not absolute"));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = match rest.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
                Some(_) | None => (rest, None),
            };
            let path = absolute(path).ok_or_else(|| bad("the path is not absolute"))?;
            return Ok(Self::Layout { path, tag });
        }
        if let Some(name) = text.strip_prefix("docker:") {
            let name: RegistryName = name.parse().map_err(bad)?;
            return Ok(Self::Engine(name.in_engine()));
        }
        text.parse().map(Self::Registry).map_err(bad)
    }
}

fn absolute(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.is_absolute().then(|| path.to_owned())
}

impl FromStr for RegistryName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| "its digest is none")?)),
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, tag),
            Some(_) | None => (rest, "latest"),
        };
        let (host, repository) = match rest.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            Some(_) => (DOCKER_HUB, rest.to_owned()),
            None => (DOCKER_HUB, format!("library/{rest}")),
        };
        if !host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
        {
            return Err("its host is no host");
        }
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        if !repository.split('/').all(part) {
            return Err(
                "its name has other characters than lower-case letters, digits, `.`, `_`, `-` and `/`",
            );
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if tag.is_empty() || tag.len() > 128 || !tag.bytes().all(word) {
            return Err("its tag is none");
        }
        Ok(Self {
            host: host.to_owned(),
            repository,
            tag: tag.to_owned(),
            digest,
        })
    }
}

/// Whether the first part of a name is a host, by the rule that Docker has.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

impl RegistryName {
    /// The name as an engine knows it.
    pub(crate) fn in_engine(&self) -> String {
        let name = match (self.host.as_str(), self.repository.strip_prefix("library/")) {
            (DOCKER_HUB, Some(short)) => short.to_owned(),
            (DOCKER_HUB, None) => self.repository.clone(),
            (host, _) => format!("{host}/{}", self.repository),
        };
        match &self.digest {
            Some(digest) => format!("{name}@{digest}"),
            None => format!("{name}:{}", self.tag),
        }
    }

    /// Whether the registry is on this very host, where plain HTTP is good enough.
    pub fn is_local(&self) -> bool {
        let host = self
            .host
            .rsplit_once(':')
            .map_or(self.host.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => write!(f, ":{}", self.tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registry(text: &str) -> RegistryName {
        match text.parse() {
            Ok(Reference::Registry(name)) => name,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let hub = registry("alpine");
        assert_eq!(
            (hub.host.as_str(), hub.repository.as_str(), hub.tag.as_str()),
            (DOCKER_HUB, "library/alpine", "latest")
        );
        let name = registry("localhost:5000/team/agent:1.4");
        assert_eq!(
            (name.host.as_str(), name.repository.as_str(), name.tag.as_str()),
            ("localhost:5000", "team/agent", "1.4")
        );
        assert!(name.is_local() && !hub.is_local() && registry("127.0.0.1:5000/a").is_local());
        assert!(!registry("127.0.0.1.example/a").is_local());
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned = registry(&format!("ghcr.io/acme/agent@{digest}"));
        assert_eq!(pinned.digest.unwrap().to_string(), digest);
    }

    #[test]
    fn each_form_is_told_apart() {
        assert_eq!(
            "oci:/a/b:1".parse(),
            Ok(Reference::Layout {
                path: "/a/b".into(),
                tag: Some("1".into())
            })
        );
        assert_eq!(
            "oci:/a/b".parse(),
            Ok(Reference::Layout {
                path: "/a/b".into(),
                tag: None
            })
        );
        assert_eq!(
            "oci-archive:/a.tar".parse(),
            Ok(Reference::Archive("/a.tar".into()))
        );
        assert_eq!(
            "docker:acme/agent".parse(),
            Ok(Reference::Engine("acme/agent:latest".into()))
        );
        assert_eq!("docker:node:22".parse(), Ok(Reference::Engine("node:22".into())));
    }

    #[test]
    fn what_is_no_reference_is_refused_and_says_what_would_be_one() {
        for text in [
            "",
            "oci:relative",
            "UPPER/case",
            "a b",
            "a/../b",
            "host.example/",
            "a:b:c/",
            "x@sha256:12",
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains("oci-archive:"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_judge(text in "\\PC{0,80}") {
            let _ = text.parse::<Reference>();
        }
    }
}
