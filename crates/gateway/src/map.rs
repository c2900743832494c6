//! map: from a canonical request to the action it is and the resources it touches, by the connector.
//!
//! A request to a known tool that is none of its actions is refused, and so is a host of no connection. A
//! [`Call`] is what policy judges, the log commits to and the wire carries; its digest binds the three.

use std::sync::Arc;

use bytes::Bytes;
use clawstaff_connectors::{Mapped, Protocol, RequestView, Unmapped};
use clawstaff_types::{ClawName, Digest};
use http::{HeaderMap, Method, header};
use jiff::Timestamp;

use crate::{
    commit::Commitment,
    content::framed,
    decide::Question,
    mcp::Talk,
    parse::Request,
    record::Who,
    state::{Link, State},
};

/// One call of one action through one connection.
#[derive(Debug)]
pub struct Call {
    /// The connection.
    pub(crate) link: Arc<Link>,
    /// What the connector recognised.
    pub(crate) mapped: Arc<Mapped>,
    /// The method.
    pub(crate) method: Method,
    /// Path below the API's address, canonical, and the query.
    pub(crate) path_and_query: String,
    /// The media type of the body.
    pub(crate) content_type: Option<String>,
    /// The cage's headers, unfiltered; inject drops what must not travel.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Bytes,
    /// Keyed digest of method, address, path, query, media type and body.
    pub(crate) digest: Digest,
}

impl Call {
    /// What is committed to, and kept if content is kept.
    pub(crate) fn framed(&self) -> Vec<u8> {
        framed(&self.parts())
    }

    fn parts(&self) -> [&[u8]; 5] {
        [
            self.method.as_str().as_bytes(),
            self.link.base.url().as_bytes(),
            self.path_and_query.as_bytes(),
            self.content_type.as_deref().unwrap_or_default().as_bytes(),
            &self.body,
        ]
    }

    /// What policy is asked about it.
    pub(crate) fn question(&self, who: &Who) -> Question {
        Question {
            claw: who.claw.clone(),
            on_behalf_of: who.on_behalf_of.clone(),
            link: Arc::clone(&self.link),
            mapped: Arc::clone(&self.mapped),
            digest: self.digest,
            approved: false,
        }
    }
}

/// How the connection of a request is found.
#[derive(Debug, Clone)]
pub enum Route {
    /// By the host it is for.
    ByHost,
    /// By the door it came through; the path is as at the API's public address.
    Public(Arc<Link>),
    /// It was built from a tool's arguments; the path is relative to the API's address.
    Relative(Arc<Link>),
    /// It is a message to an MCP server in one of the Claw's conversations with it.
    #[expect(private_interfaces, reason = "made and read in this crate alone")]
    Server(Box<Within>),
}

/// What the gateway knows of a message to an MCP server beside the message itself.
#[derive(Debug, Clone)]
pub(crate) struct Within {
    /// The connection.
    pub(crate) link: Arc<Link>,
    /// On behalf of which client of the Claw.
    pub(crate) talk: Talk,
    /// The action that it is part of, when it is no call by itself: an answer to what the server asked in between, a
    /// stream that stays open.
    pub(crate) of: Option<Arc<Mapped>>,
}

impl Route {
    /// On behalf of which client of the Claw a message goes to an MCP server.
    pub(crate) fn talk(&self) -> Talk {
        match self {
            Self::Server(within) => within.talk.clone(),
            Self::ByHost | Self::Public(_) | Self::Relative(_) => Talk::default(),
        }
    }

    fn part_of(&self) -> Option<Arc<Mapped>> {
        match self {
            Self::Server(within) => within.of.clone(),
            Self::ByHost | Self::Public(_) | Self::Relative(_) => None,
        }
    }
}

/// Why a request is no call.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// No connection answers for the host.
    #[error("no connection of this organization answers for `{host}`")]
    UnknownHost {
        /// The host.
        host: String,
    },
    /// More than one does, and nothing says which is meant.
    #[error(
        "several connections answer for `{host}`: use the credential placeholder of the one that is meant, \
         or its tools at /mcp"
    )]
    Ambiguous {
        /// The host.
        host: String,
    },
    /// It is none of the connector's actions.
    #[error("`{method} {path}` is none of the actions of connection `{connection}`: {source}", connection = .link.name())]
    Unknown {
        /// The connection.
        link: Arc<Link>,
        /// The method.
        method: Method,
        /// The path, canonical, without query; shortened for reading.
        path: String,
        /// What the connector said.
        source: Unmapped,
    },
}

/// Maps a request to a call.
///
/// # Errors
/// See [`MapError`]; each is a denial.
pub(crate) fn call(
    state: &State,
    claw: &ClawName,
    keys: Keys<'_>,
    route: &Route,
    request: Request,
    now: Timestamp,
) -> Result<Call, MapError> {
    let (link, relative) = match route {
        Route::Relative(link) => (Arc::clone(link), Some(request.path.clone())),
        Route::Server(within) => (Arc::clone(&within.link), Some(request.path.clone())),
        Route::Public(link) => (Arc::clone(link), below(&request.path, link.public.path())),
        Route::ByHost => {
            let link = by_host(state, claw, keys.placeholders, &request, now)?;
            let prefix = link.prefix_at(&request.host, request.port).unwrap_or_default();
            let relative = below(&request.path, prefix);
            (link, relative)
        }
    };
    let unknown = |source| MapError::Unknown {
        link: Arc::clone(&link),
        method: request.method.clone(),
        path: request.path.chars().take(120).collect(),
        source,
    };
    let path = relative.ok_or_else(|| unknown(Unmapped::Unknown))?;
    let view = RequestView {
        method: &request.method,
        path: &path,
        query: request.query.as_deref(),
        content_type: request.content_type.as_deref(),
        body: &request.body,
    };
    let mapped = match route.part_of() {
        Some(mapped) => mapped,
        None => Arc::new(link.connector.recognise(&view).map_err(unknown)?),
    };
    Ok(assemble(keys.subject, link, mapped, path, request))
}

/// The keys of whose call it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'a> {
    /// What stands in the cage for credentials was derived from this one.
    pub(crate) placeholders: &'a Commitment,
    /// What is sent and received is committed to under this one.
    pub(crate) subject: &'a Commitment,
}

fn assemble(key: &Commitment, link: Arc<Link>, mapped: Arc<Mapped>, path: String, request: Request) -> Call {
    let path_and_query = match (&request.query, link.connector.protocol()) {
        (Some(query), _) => format!("{path}?{query}"),
        // The server's address is its one path; nothing is below it.
        (None, Protocol::Mcp) => String::new(),
        (None, Protocol::Http | Protocol::Git) => path,
    };
    let mut call = Call {
        link,
        mapped,
        method: request.method,
        path_and_query,
        content_type: request.content_type,
        headers: request.headers,
        body: request.body,
        digest: Digest::of(b""),
    };
    call.digest = key.to("request", &call.parts());
    call
}

/// `path` below `prefix`, still starting with `/`; `None` when it is not below it.
fn below(path: &str, prefix: &str) -> Option<String> {
    let rest = path.strip_prefix(prefix)?;
    match rest {
        "" => Some("/".to_owned()),
        _ => rest.starts_with('/').then(|| rest.to_owned()),
    }
}

/// The one connection meant: the only one, else the one whose placeholder is presented, else the only one on
/// which the Claw holds a grant.
fn by_host(
    state: &State,
    claw: &ClawName,
    key: &Commitment,
    request: &Request,
    now: Timestamp,
) -> Result<Arc<Link>, MapError> {
    let candidates: Vec<&Arc<Link>> = state.links_at(&request.host, request.port).collect();
    let host = || request.host.clone();
    match candidates.as_slice() {
        [] => return Err(MapError::UnknownHost { host: host() }),
        [only] => return Ok(Arc::clone(only)),
        _ => {}
    }
    let presented = |link: &&&Arc<Link>| {
        let placeholder = key.placeholder(&link.connector.auth().placeholder_prefix, link.name());
        presents(&request.headers, &placeholder)
    };
    if let Some(one) = only(candidates.iter().filter(presented)) {
        return Ok(one);
    }
    let granted: Vec<_> = state
        .granted_links(claw, now)
        .map(|link| link.name().clone())
        .collect();
    let mine = candidates.iter().filter(|link| granted.contains(link.name()));
    only(mine).ok_or_else(|| MapError::Ambiguous { host: host() })
}

fn only<'a>(mut links: impl Iterator<Item = &'a &'a Arc<Link>>) -> Option<Arc<Link>> {
    match (links.next(), links.next()) {
        (Some(one), None) => Some(Arc::clone(one)),
        _ => None,
    }
}

/// Whether a credential header carries `placeholder`, by itself, as bearer or token.
fn presents(headers: &HeaderMap, placeholder: &str) -> bool {
    let plain = [header::AUTHORIZATION.as_str(), "x-api-key", "api-key"];
    plain.iter().filter_map(|name| headers.get(*name)).any(|value| {
        value
            .to_str()
            .is_ok_and(|text| text.split(' ').next_back() == Some(placeholder))
    })
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn a_path_is_below_a_prefix_only_at_a_separator() {
        assert_eq!(below("/api/x", "/api").as_deref(), Some("/x"));
        assert_eq!(below("/api", "/api").as_deref(), Some("/"));
        assert_eq!(below("/apix", "/api"), None);
        assert_eq!(below("/x", "").as_deref(), Some("/x"));
    }
}
