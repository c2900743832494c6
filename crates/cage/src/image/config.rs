//! What an image says about how it wants to run: the `config` of the OCI image configuration, version 1. A wish, and
//! bounded like one.

use serde::{Deserialize, Serialize};

use super::{ImageError, refused};
use crate::CAGE_UID;

/// The most variables and the longest one that are taken from an image.
const MOST_VARIABLES: usize = 256;
const LONGEST_VARIABLE: usize = 32 << 10;
/// The most words of a command, and the longest one.
const MOST_WORDS: usize = 1024;
const LONGEST_WORD: usize = 64 << 10;

/// How an image wants its program to be run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Entry point and arguments.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The directory to start in.
    pub directory: Option<String>,
    /// The user id inside; never 0.
    pub user: Option<u32>,
}

impl RunConfig {
    /// The user id of the cage's processes, as they see it.
    pub fn uid(&self) -> u32 {
        self.user.unwrap_or(CAGE_UID)
    }
}

/// The parts of an image configuration that are of use here.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    config: Option<Wishes>,
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RootFs {
    pub(super) diff_ids: Vec<clawstaff_types::Digest>,
}

/// The wishes as they stand in the configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Wishes {
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) env: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) cmd: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) working_dir: Option<String>,
}

impl ImageConfig {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let config: Self = serde_json::from_slice(bytes)
            .map_err(|error| refused(format!("its configuration cannot be read: {error}")))?;
        if config.os != "linux" || config.architecture != architecture() {
            return Err(refused(format!(
                "it is for {}/{}, and this host is linux/{}",
                config.os,
                config.architecture,
                architecture()
            )));
        }
        Ok(config)
    }

    /// The wishes. `user_id` finds the id of a user's name in the image.
    pub(super) fn run(self, user_id: impl FnOnce(&str) -> Option<u32>) -> Result<RunConfig, ImageError> {
        self.config.unwrap_or_default().run(user_id)
    }
}

impl Wishes {
    /// Whether the user is given by name.
    pub(crate) fn names_a_user(&self) -> bool {
        let name = self
            .user
            .as_deref()
            .unwrap_or_default()
            .split(':')
            .next()
            .unwrap_or_default();
        !name.is_empty() && name != "root" && name.parse::<u32>().is_err()
    }

    /// The wishes that can be fulfilled. `user_id` finds the id of a user's name in the image.
    pub(crate) fn run(self, user_id: impl FnOnce(&str) -> Option<u32>) -> Result<RunConfig, ImageError> {
        let wishes = self;
        let command: Vec<String> = [wishes.entrypoint, wishes.cmd]
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let env = wishes.env.unwrap_or_default();
        let clean = |text: &String, longest| text.len() <= longest && !text.contains('\0');
        if command.len() > MOST_WORDS || !command.iter().all(|word| clean(word, LONGEST_WORD)) {
            return Err(refused("its command is too long"));
        }
        let variable =
            |text: &String| clean(text, LONGEST_VARIABLE) && text.find('=').is_some_and(|at| at > 0);
        if env.len() > MOST_VARIABLES || !env.iter().all(variable) {
            return Err(refused(
                "its variables are too many or too long, or one of them is none",
            ));
        }
        let directory = wishes
            .working_dir
            .filter(|dir| dir.starts_with('/') && !dir.contains('\0'));
        let user = user(wishes.user.as_deref().unwrap_or_default(), user_id)?;
        Ok(RunConfig {
            command,
            env,
            directory,
            user,
        })
    }
}

/// `""`, `user`, `uid`, `user:group`, `uid:gid`; a cage has one group, which is the user's. Root becomes the cage's
/// own user: nothing in a cage is root.
fn user(text: &str, user_id: impl FnOnce(&str) -> Option<u32>) -> Result<Option<u32>, ImageError> {
    let name = text.split(':').next().unwrap_or_default();
    if name.is_empty() || name == "root" {
        return Ok(None);
    }
    let id = name.parse().ok().or_else(|| user_id(name));
    match id {
        Some(0) => Ok(None),
        Some(id) if id < u32::MAX => Ok(Some(id)),
        Some(_) | None => Err(refused(format!(
            "it wants to run as the user `{}`, whom it does not have",
            name.chars().take(40).collect::<String>()
        ))),
    }
}

/// The id of a user in the text of an `/etc/passwd`.
pub(crate) fn id_in(passwd: &str, name: &str) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// This machine's architecture by its Go name, which images use.
pub(crate) const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(inner: &str) -> Result<RunConfig, ImageError> {
        let text = format!(
            r#"{{"os":"linux","architecture":"{}","config":{inner},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#,
            architecture()
        );
        ImageConfig::parse(text.as_bytes())?
            .run(|name| id_in("root:x:0:0::/:\nnode:x:1000:1000::/home/node:\n", name))
    }

    #[test]
    fn entry_point_and_arguments_are_one_command() {
        let run =
            config(r#"{"Entrypoint":["/e"],"Cmd":["a"],"Env":["A=b"],"WorkingDir":"/app","User":"node"}"#)
                .unwrap();
        assert_eq!(run.command, ["/e", "a"]);
        assert_eq!(
            (run.env, run.directory.as_deref(), run.user),
            (vec!["A=b".to_owned()], Some("/app"), Some(1000))
        );
        assert_eq!(config("null").unwrap(), RunConfig::default());
    }

    #[test]
    fn nothing_in_a_cage_is_root_whatever_the_image_wants() {
        for user in ["", "0", "root", "0:0", "root:root"] {
            assert_eq!(
                config(&format!(r#"{{"User":"{user}"}}"#)).unwrap().uid(),
                CAGE_UID,
                "{user}"
            );
        }
        assert_eq!(config(r#"{"User":"1234:0"}"#).unwrap().uid(), 1234);
        assert!(config(r#"{"User":"nobody-here"}"#).is_err());
    }

    #[test]
    fn variables_that_no_environment_can_carry_and_images_for_other_machines_are_refused() {
        assert!(config(r#"{"Env":["NONE"]}"#).is_err());
        assert!(config(r#"{"Env":["=x"]}"#).is_err());
        let other = r#"{"os":"windows","architecture":"amd64","rootfs":{"diff_ids":[]}}"#;
        assert!(
            ImageConfig::parse(other.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("windows")
        );
    }
}
