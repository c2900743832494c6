//! Who is calling? On `api.sock` the operating system says it, over TCP a token does, and nodes have their own, to
//! which one on another host adds its certificate.
//!
//! Tokens are compared by their SHA-256, in constant time. A cookie is good for reading only: what changes things
//! needs the `Authorization` header, which no other site can make a browser send.

use std::{path::PathBuf, sync::Arc};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{
    Extension,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use clawstaff_api::nodes::NodeTokens;
use clawstaff_types::{Digest, MemberId, NodeName, Secret};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{AUTHORIZATION, COOKIE, LOCATION, SET_COOKIE},
};

use super::doorbook::{Doorbook, Via};
use crate::{
    app::{context::App, permission::Role, problem::Problem},
    dashboard, keys,
    serve::Peer,
};

const COOKIE_NAME: &str = "clawstaff";
/// Where a browser puts its cookie away.
pub(crate) const LOGOUT: &str = "/logout";
/// The member that the dashboard's token stands for.
const TOKEN_MEMBER: &str = "dashboard-token";

/// Who may come in.
#[derive(Debug, Clone)]
pub(crate) struct Logins {
    /// Uids of this host.
    pub(crate) uids: Vec<u32>,
    /// Digest of the dashboard's token.
    pub(crate) dashboard: Digest,
    /// The file with the digests of the nodes' tokens, read for each request so that tokens can be rotated.
    pub(crate) nodes: PathBuf,
}

/// Who it is.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) member: MemberId,
    pub(crate) role: Role,
    /// The node that it is on; people are where the control plane is.
    pub(crate) node: NodeName,
}

/// What a host that joins shows, for the one route that it may use.
#[derive(Debug, Clone)]
pub(crate) struct JoinSecret(pub(crate) Secret<String>);

/// What the doors of a socket need: who may come in, and where it is written down.
pub(crate) type Doors = (Arc<Doorbook>, Arc<Logins>);

/// Lets people in, or says why not.
pub(crate) async fn person(
    State((book, logins)): State<Doors>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let known = match peer {
        Some(Peer::Uid(uid)) => local(uid, &logins).map(|caller| (caller, Via::Socket)),
        Some(Peer::Certified(_) | Peer::Uncertified(_)) => Err(Problem::unauthenticated(
            "this is the place of people, not of nodes",
        )),
        Some(Peer::Network(_)) => match offered(request.uri()) {
            Some(token) => return log_in(&book, &logins, &token, request.uri(), peer).await,
            None => remote(&request, &logins),
        },
        None => Err(Problem::unauthenticated("nobody knows who is calling")),
    };
    match known {
        Ok((caller, via)) => {
            book.entered(&caller, via).await;
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(book);
            next.run(request).await
        }
        Err(problem) => {
            book.refused(peer, &problem).await;
            refused(problem, &request)
        }
    }
}

fn refused(problem: Problem, request: &Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/v1/") || request.method() != Method::GET {
        problem.into_response()
    } else {
        dashboard::refused(&problem)
    }
}

fn local(uid: u32, logins: &Logins) -> Result<Caller, Problem> {
    if !logins.uids.contains(&uid) {
        let text = format!("uid {uid} may not log in here");
        return Err(Problem::forbidden(text)
            .hint("root, the uid that runs the control plane, and those it was told of may"));
    }
    Ok(Caller {
        member: format!("uid-{uid}").parse()?,
        role: Role::Owner,
        node: NodeName::local(),
    })
}

/// Whether the browser's cookie will do: for reading, and for putting the cookie away.
fn cookie_will_do(request: &Request) -> bool {
    request.method().is_safe() || request.uri().path() == LOGOUT
}

fn remote(request: &Request, logins: &Logins) -> Result<(Caller, Via), Problem> {
    let unknown = || {
        Problem::unauthenticated("a token is needed: `Authorization: Bearer …`")
            .hint("it is in `control/dashboard.token` of the installation's data directory")
    };
    let headers = request.headers();
    let (token, via) = if let Some(token) = bearer(headers) {
        (token, Via::Token)
    } else {
        let cookie = cookie(headers).filter(|_| cookie_will_do(request));
        (cookie.ok_or_else(unknown)?, Via::Browser)
    };
    if is_token(token, &logins.dashboard) {
        Ok((token_caller()?, via))
    } else {
        Err(Problem::unauthenticated("this token is not valid"))
    }
}

fn token_caller() -> Result<Caller, Problem> {
    Ok(Caller {
        member: TOKEN_MEMBER.parse()?,
        role: Role::Owner,
        node: NodeName::local(),
    })
}

fn is_token(token: &str, digest: &Digest) -> bool {
    verify_slices_are_equal(Digest::of(token.as_bytes()).as_bytes(), digest.as_bytes()).is_ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE_NAME).then_some(value))
}

/// The token in `?token=…` of the link that `clawstaff up` prints.
fn offered(uri: &Uri) -> Option<String> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .into_iter()
        .find_map(|(name, value)| (name == "token").then(|| value.to_owned()))
}

/// Turns the token in the address into a cookie and gets it out of the address. Without a record there is no
/// cookie.
async fn log_in(book: &Doorbook, logins: &Logins, token: &str, uri: &Uri, peer: Option<Peer>) -> Response {
    let caller = if is_token(token, &logins.dashboard) {
        token_caller()
    } else {
        Err(Problem::unauthenticated("this token is not valid"))
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(problem) => {
            book.refused(peer, &problem).await;
            return dashboard::refused(&problem);
        }
    };
    if let Err(problem) = book.logged_in(&caller).await {
        return dashboard::refused(&problem);
    }
    let cookie = HeaderValue::from_str(&format!(
        "{COOKIE_NAME}={token}; HttpOnly; SameSite=Strict; Path=/"
    ));
    // Only a path of our own: never a place that the address names.
    let place = HeaderValue::from_str(uri.path())
        .ok()
        .filter(|_| !uri.path().starts_with("//"));
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, place.unwrap_or(HeaderValue::from_static("/")));
    if let Ok(cookie) = cookie {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

/// Puts the browser's cookie away. The token itself stays good: it is the installation's, not the browser's.
pub(crate) async fn log_out(
    Extension(book): Extension<Arc<Doorbook>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    book.logged_out(&caller).await?;
    let mut response = (StatusCode::OK, dashboard::logged_out()).into_response();
    let gone = format!("{COOKIE_NAME}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    if let Ok(cookie) = HeaderValue::from_str(&gone) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Lets gateways and runners in, uplinks to their next certificate, and strangers to the place where one joins.
pub(crate) async fn node(
    State((app, (book, logins))): State<(Arc<App>, Doors)>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    match which_node(&app, &logins, peer, request.headers()).await {
        Ok(caller) => {
            // A stranger is nobody yet; joining has a record of its own.
            if caller.role != Role::Stranger {
                book.entered(&caller, Via::Node).await;
            }
            if let Some(secret) = bearer(request.headers()) {
                let secret = JoinSecret(Secret::new(secret.to_owned()));
                request.extensions_mut().insert(secret);
            }
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(book);
            next.run(request).await
        }
        Err(problem) => {
            book.refused(peer, &problem).await;
            problem.into_response()
        }
    }
}

async fn which_node(
    app: &App,
    logins: &Logins,
    peer: Option<Peer>,
    headers: &HeaderMap,
) -> Result<Caller, Problem> {
    let token = bearer(headers);
    let no_token = || Problem::unauthenticated("a node token is needed: `Authorization: Bearer …`");
    match peer {
        Some(Peer::Uid(_)) => {
            let tokens = keys::node_tokens(&logins.nodes).map_err(|error| Problem::internal(&error))?;
            let tokens = tokens.ok_or_else(|| Problem::unauthenticated("no node has a token yet"))?;
            part(NodeName::local(), &tokens, token.ok_or_else(no_token)?)
        }
        Some(Peer::Certified(digest)) => {
            let node = app.node_of(digest).await?;
            let node = node.ok_or_else(|| {
                Problem::unauthenticated(
                    "this certificate is not good: the node was turned away, or has a newer one",
                )
                .hint(
                    "let it join again: `clawstaff node token NAME`, then `clawstaff node join` on the node",
                )
            })?;
            match token {
                Some(token) => part(node.name, &node.tokens, token),
                None => of_node(node.name, Role::Uplink),
            }
        }
        Some(Peer::Uncertified(_)) => {
            token.ok_or_else(no_token)?;
            of_node(NodeName::local(), Role::Stranger)
        }
        Some(Peer::Network(_)) | None => Err(Problem::unauthenticated("nodes come with certificates")),
    }
}

/// The gateway or the runner of a node, by its token.
fn part(node: NodeName, tokens: &NodeTokens, token: &str) -> Result<Caller, Problem> {
    let found = [(Role::Gateway, tokens.gateway), (Role::Runner, tokens.runner)]
        .into_iter()
        .find(|(_, digest)| is_token(token, digest));
    let (role, _) = found.ok_or_else(|| Problem::unauthenticated("this node token is not valid"))?;
    of_node(node, role)
}

fn of_node(node: NodeName, role: Role) -> Result<Caller, Problem> {
    let member = if node.is_local() {
        role.name().parse()?
    } else {
        format!("{}-{node}", role.name()).parse()?
    };
    Ok(Caller { member, role, node })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins() -> Logins {
        Logins {
            uids: vec![0, 1000],
            dashboard: Digest::of(b"the-token"),
            nodes: PathBuf::new(),
        }
    }

    fn ask(method: &str, path: &str, headers: &[(http::HeaderName, &str)]) -> Request {
        let mut builder = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            builder = builder.header(name, *value);
        }
        builder.body(axum::body::Body::empty()).unwrap()
    }

    #[test]
    fn only_listed_uids_log_in() {
        assert_eq!(local(1000, &logins()).unwrap().member.to_string(), "uid-1000");
        assert_eq!(local(1001, &logins()).unwrap_err().0.status, 403);
    }

    #[test]
    fn a_cookie_reads_and_never_writes() {
        let cookie = [(COOKIE, "other=1; clawstaff=the-token")];
        assert!(remote(&ask("GET", "/", &cookie), &logins()).is_ok());
        assert!(remote(&ask("POST", LOGOUT, &cookie), &logins()).is_ok());
        let refused = remote(&ask("POST", "/v1/apply", &cookie), &logins());
        assert_eq!(refused.unwrap_err().0.status, 401);
        let bearer = [(AUTHORIZATION, "Bearer the-token")];
        assert!(remote(&ask("POST", "/v1/apply", &bearer), &logins()).is_ok());
    }

    #[test]
    fn wrong_and_missing_tokens_are_refused() {
        for wrong in ["Bearer the-toke", "Bearer ", "the-token", "Basic the-token"] {
            let request = ask("GET", "/", &[(AUTHORIZATION, wrong)]);
            assert!(remote(&request, &logins()).is_err(), "{wrong}");
        }
        assert!(remote(&ask("GET", "/", &[]), &logins()).is_err());
    }
}
