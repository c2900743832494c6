//! Git over HTTPS at GitHub: fetching and pushing as actions of the connector `github`, through the tool's other door.
//!
//! What is recognised is the smart HTTP protocol (<https://git-scm.com/docs/http-protocol>): two addresses that list a
//! repository's refs, one from which is fetched, and one to which is pushed. A push says in its head which ref it
//! changes; that head is read, the pack behind it is not.

use std::collections::BTreeMap;

use clawstaff_types::{Access, ActionId, ConnectorId, ResourceRef};
use http::Method;

use crate::{
    action::{Action, Auth, AuthScheme, Connector, HostPattern, Protocol, RecordKind},
    load::Rules,
    recognise::{Mapped, Unmapped},
    request::{self, RequestView},
    summary::Summary,
    value::{Format, Rule},
};

const READ: &str = "git.read";
const WRITE: &str = "git.write";
const DELETE: &str = "git.delete";
/// What a push that only asks whether it may push consists of.
const FLUSH: &[u8] = b"0000";

/// The connector, as the catalogue shows it. Its actions are GitHub's own, so that a guardrail on `github:*` holds.
pub(crate) fn connector() -> Option<Connector> {
    let action = |name: &str, access: Access, title: &str, description: &str| -> Option<Action> {
        Some(Action {
            id: id(name)?,
            access,
            title: title.to_owned(),
            description: description.to_owned(),
            resource: Some("repo".parse().ok()?),
            record: RecordKind::Tool,
            tool: None,
        })
    };
    Some(Connector {
        id: "github-git".parse().ok()?,
        name: "GitHub by git".to_owned(),
        description: "Cloning, fetching and pushing with git over HTTPS".to_owned(),
        hosts: vec![HostPattern("github.com".to_owned())],
        base_url: "https://github.com".to_owned(),
        auth: Auth {
            scheme: AuthScheme::Basic {
                username: "x-access-token".to_owned(),
            },
            placeholder_prefix: "ghp_".to_owned(),
            extra_headers: Vec::new(),
        },
        actions: vec![
            action(
                READ,
                Access::Read,
                "Clone and fetch",
                "List the refs of a repository and fetch from it",
            )?,
            action(
                WRITE,
                Access::Write,
                "Push",
                "Create or move a branch or tag; the argument `ref` says which",
            )?,
            action(
                DELETE,
                Access::Destructive,
                "Delete branches and tags",
                "Delete a branch or tag by a push",
            )?,
        ],
        rules: Rules::default(),
        protocol: Protocol::Git,
    })
}

fn id(name: &str) -> Option<ActionId> {
    let github: ConnectorId = "github".parse().ok()?;
    ActionId::new(github, name).ok()
}

/// The action that a request of git is.
///
/// # Errors
/// [`Unmapped`], whenever it is none, or a push says more than one thing.
pub(crate) fn recognise(view: &RequestView<'_>) -> Result<Mapped, Unmapped> {
    let path = request::segments(view.path)?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (view.method, path.as_slice()) {
        (&Method::GET, [owner, repo, "info", "refs"]) => {
            let service = matches!(
                view.query,
                Some("service=git-upload-pack" | "service=git-receive-pack")
            );
            if !service || !view.body.is_empty() {
                return Err(Unmapped::Query(
                    "only the refs for fetching or pushing are listed",
                ));
            }
            mapped(READ, Access::Read, (owner, repo), None)
        }
        (&Method::POST, [owner, repo, "git-upload-pack"]) => {
            takes(view, "application/x-git-upload-pack-request")?;
            mapped(READ, Access::Read, (owner, repo), None)
        }
        (&Method::POST, [owner, repo, "git-receive-pack"]) => {
            takes(view, "application/x-git-receive-pack-request")?;
            pushed(view.body, (owner, repo))
        }
        _ => Err(Unmapped::Unknown),
    }
}

fn takes(view: &RequestView<'_>, media_type: &str) -> Result<(), Unmapped> {
    if view.query.is_some() {
        return Err(Unmapped::Query("git sends none here"));
    }
    if view.content_type == Some(media_type) {
        Ok(())
    } else {
        Err(Unmapped::Body("its media type is not the one that git sends"))
    }
}

fn pushed(body: &[u8], repo: (&str, &str)) -> Result<Mapped, Unmapped> {
    if body == FLUSH {
        return mapped(READ, Access::Read, repo, None);
    }
    let Command { name, deletes } = command(body)?;
    if deletes {
        mapped(DELETE, Access::Destructive, repo, Some(name))
    } else {
        mapped(WRITE, Access::Write, repo, Some(name))
    }
}

/// What a push does to one ref.
struct Command<'a> {
    name: &'a str,
    deletes: bool,
}

/// The one command of a push: pkt-lines `OLD NEW REF`, the first with capabilities behind a NUL, up to a flush.
fn command(body: &[u8]) -> Result<Command<'_>, Unmapped> {
    let malformed = || Unmapped::Body("it is not a push as git sends it");
    let mut rest = body;
    let mut found = None;
    loop {
        let (line, behind) = pkt_line(rest).ok_or_else(malformed)?;
        rest = behind;
        let Some(line) = line else { break };
        if line.starts_with(b"shallow ") {
            continue;
        }
        let text = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text)
            .map_err(|_| malformed())?
            .trim_end_matches('\n');
        let [old, new, name] = text.split(' ').collect::<Vec<_>>()[..] else {
            return Err(malformed());
        };
        if !is_oid(old) || !is_oid(new) || !is_ref(name) {
            return Err(malformed());
        }
        let deletes = new.bytes().all(|byte| byte == b'0');
        if found.replace(Command { name, deletes }).is_some() {
            return Err(Unmapped::Ambiguous(
                "it pushes several refs at once: push one branch or tag at a time".to_owned(),
            ));
        }
    }
    found.ok_or_else(malformed)
}

/// A line (`None` is a flush) and what is behind it. The first four bytes are its length in hex, themselves included.
fn pkt_line(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, behind) = bytes.split_at_checked(4)?;
    let hex = length.iter().all(u8::is_ascii_hexdigit);
    let length = usize::from_str_radix(std::str::from_utf8(length).ok().filter(|_| hex)?, 16).ok()?;
    match length {
        0 => Some((None, behind)),
        5.. => {
            let (line, behind) = behind.split_at_checked(length - 4)?;
            Some((Some(line), behind))
        }
        _ => None,
    }
}

/// An object's name: SHA-1 or SHA-256, in lower-case hex.
fn is_oid(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    matches!(text.len(), 40 | 64) && text.bytes().all(hex)
}

fn is_ref(name: &str) -> bool {
    (6..=200).contains(&name.len())
        && name.starts_with("refs/")
        && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn mapped(
    action: &str,
    access: Access,
    (owner, repo): (&str, &str),
    pushed: Option<&str>,
) -> Result<Mapped, Unmapped> {
    let name = |text: &str| {
        let rule = Rule {
            format: Format::Name,
            ignore_case: true,
        };
        rule.canonical(text)
            .ok_or(Unmapped::Path("it names no repository"))
    };
    let owner = name(owner)?;
    let repo = name(repo.strip_suffix(".git").unwrap_or(repo))?;
    let resource = |kind: &str, id: &str| {
        let kind = kind.parse().ok()?;
        ResourceRef::new(kind, id).ok()
    };
    let resources = [
        resource("repo", &format!("{owner}/{repo}")),
        resource("org", &owner),
    ];
    let resources: Option<Vec<ResourceRef>> = resources.into_iter().collect();
    Ok(Mapped {
        action: id(action).ok_or(Unmapped::Unknown)?,
        access,
        record: RecordKind::Tool,
        resources: resources.ok_or(Unmapped::Unknown)?,
        arguments: pushed
            .map(|name| ("ref".to_owned(), name.to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    })
}

/// What a record may say of git's answer: whether it came.
pub(crate) fn summarise(status: u16) -> Summary {
    Summary {
        succeeded: (200..300).contains(&status),
        ..Summary::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        method: &Method,
        path: &str,
        query: Option<&str>,
        media: Option<&str>,
        body: &[u8],
    ) -> Result<Mapped, Unmapped> {
        recognise(&RequestView {
            method,
            path,
            query,
            content_type: media,
            body,
        })
    }

    const PUSH: &str = "application/x-git-receive-pack-request";
    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";
    const NONE: &str = "0000000000000000000000000000000000000000";

    fn line(text: &str) -> String {
        format!("{:04x}{text}", text.len() + 4)
    }

    fn push(lines: &[String]) -> Result<Mapped, Unmapped> {
        let body = format!("{}0000PACK…", lines.concat());
        read(
            &Method::POST,
            "/Acme/Site.git/git-receive-pack",
            None,
            Some(PUSH),
            body.as_bytes(),
        )
    }

    #[test]
    fn fetching_is_reading_a_repository() {
        let refs = read(
            &Method::GET,
            "/Acme/Site.git/info/refs",
            Some("service=git-upload-pack"),
            None,
            b"",
        )
        .unwrap();
        assert_eq!(refs.action.to_string(), "github:git.read");
        assert_eq!(refs.resources[0].to_string(), "repo:acme/site");
        assert_eq!(refs.resources[1].to_string(), "org:acme");
        let media = Some("application/x-git-upload-pack-request");
        let fetch = read(&Method::POST, "/acme/site/git-upload-pack", None, media, b"0000").unwrap();
        assert_eq!(fetch.action.to_string(), "github:git.read");
    }

    #[test]
    fn a_push_says_which_ref_it_moves_or_deletes() {
        let first = line(&format!("{OLD} {NEW} refs/heads/main\0report-status agent=git/2"));
        let moved = push(&[line("shallow 1111111111111111111111111111111111111111"), first]).unwrap();
        assert_eq!(moved.action.to_string(), "github:git.write");
        assert_eq!(moved.arguments["ref"], "refs/heads/main");
        let deleted = push(&[line(&format!("{OLD} {NONE} refs/tags/v1\0x"))]).unwrap();
        assert_eq!(deleted.action.to_string(), "github:git.delete");
        assert_eq!(deleted.access, Access::Destructive);
        let asks = read(&Method::POST, "/a/b/git-receive-pack", None, Some(PUSH), b"0000").unwrap();
        assert_eq!(asks.action.to_string(), "github:git.read");
    }

    #[test]
    fn what_could_hide_a_second_ref_or_repository_is_refused() {
        let one = |name: &str| line(&format!("{OLD} {NEW} {name}"));
        assert!(push(&[one("refs/heads/a"), one("refs/heads/b")]).is_err());
        assert!(push(&[]).is_err());
        for name in ["HEAD", "refs/heads/a b", "refs/heads/\u{e4}", ""] {
            assert!(push(&[one(name)]).is_err(), "{name}");
        }
        assert!(push(&[line("push-cert\0x")]).is_err());
        for body in ["", "000", "zzzz", "0003", "0004", "ffffshort", "+123"] {
            let media = Some(PUSH);
            assert!(
                read(
                    &Method::POST,
                    "/a/b/git-receive-pack",
                    None,
                    media,
                    body.as_bytes()
                )
                .is_err(),
                "{body}"
            );
        }
        for (path, query) in [
            ("/a/b/info/refs", None),
            ("/a/b/info/refs", Some("service=git-upload-pack&x=1")),
            ("/a/b/info/refs", Some("service=git-upload-archive")),
            ("/a/b/HEAD", None),
            ("/a/b/objects/info/packs", None),
            ("/a/../c/b/info/refs", Some("service=git-upload-pack")),
            ("/a/.git/info/refs", Some("service=git-upload-pack")),
            ("/a/b.git.git/info/refs", Some("service=git-upload-pack")),
            ("/a/b/c/info/refs", Some("service=git-upload-pack")),
        ] {
            assert!(read(&Method::GET, path, query, None, b"").is_err(), "{path}");
        }
    }
}
