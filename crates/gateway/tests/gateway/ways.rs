//! One request, every way in: whichever road software in a cage takes to a host, the verdict is the same, and a road on
//! which two names disagree leads nowhere.

use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::{
    interception::{tls, tunnel},
    world::{Client, Read, World, post},
};

/// A road from a cage to a host.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Plain HTTP to a name.
    Http,
    /// TLS to a name, HTTP/1.1.
    Tls,
    /// TLS to a name, HTTP/2.
    Http2,
    /// The proxy, with an absolute `http://` address.
    Absolute,
    /// The proxy, with an absolute `https://` address.
    AbsoluteTls,
    /// The proxy, through a tunnel, with TLS inside.
    Tunnel,
    /// The same to port 80, without TLS.
    PlainTunnel,
}

const WAYS: [Way; 7] = [
    Way::Http,
    Way::Tls,
    Way::Http2,
    Way::Absolute,
    Way::AbsoluteTls,
    Way::Tunnel,
    Way::PlainTunnel,
];

/// The names that a request bears; all one, unless somebody lies.
#[derive(Debug, Clone)]
struct Names<'a> {
    dialled: &'a str,
    sni: &'a str,
    said: &'a str,
}

impl<'a> Names<'a> {
    const fn all(name: &'a str) -> Self {
        Self {
            dialled: name,
            sni: name,
            said: name,
        }
    }
}

const PATH: &str = "/api/chat.postMessage";

/// As it stands in an address: an IPv6 literal has brackets there, and none where a shim names it.
fn in_url(name: &str) -> String {
    if name.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{name}]")
    } else {
        name.to_owned()
    }
}

fn request(names: &Names<'_>, channel: &str) -> Request<Full<bytes::Bytes>> {
    post(
        &in_url(names.said),
        PATH,
        &json!({ "channel": channel, "text": "x" }),
    )
}

/// Sends it; a tunnel that is refused is the answer.
async fn send(world: &World, way: Way, names: &Names<'_>, channel: &str) -> StatusCode {
    let mut request = request(names, channel);
    let absolute = |scheme: &str| {
        format!("{scheme}://{}{PATH}", in_url(names.dialled))
            .parse()
            .unwrap()
    };
    let read = match way {
        Way::Http => {
            let opening = format!("name {} 80", names.dialled);
            world.send(&opening, request).await
        }
        Way::Tls => {
            let conn = world.connect(&format!("name {} 443", names.dialled)).await;
            let stream = tls(world, conn, names.sni, b"http/1.1").await;
            Client::over(stream).await.send(request).await
        }
        Way::Http2 => return over_http2(world, names, channel).await,
        Way::Absolute => {
            *request.uri_mut() = absolute("http");
            world.send("proxy", request).await
        }
        Way::AbsoluteTls => {
            *request.uri_mut() = absolute("https");
            world.send("proxy", request).await
        }
        Way::Tunnel => match tunnel(world, &format!("{}:443", in_url(names.dialled))).await {
            Ok(conn) => {
                let stream = tls(world, conn, names.sni, b"http/1.1").await;
                Client::over(stream).await.send(request).await
            }
            Err(head) => return status(&head),
        },
        Way::PlainTunnel => match tunnel(world, &format!("{}:80", in_url(names.dialled))).await {
            Ok(conn) => Client::over(conn).await.send(request).await,
            Err(head) => return status(&head),
        },
    };
    let Read { status, .. } = read;
    status
}

async fn over_http2(world: &World, names: &Names<'_>, channel: &str) -> StatusCode {
    let conn = world.connect(&format!("name {} 443", names.dialled)).await;
    let stream = tls(world, conn, names.sni, b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let (mut parts, body) = request(names, channel).into_parts();
    parts.headers.remove("host");
    parts.uri = format!("https://{}{PATH}", in_url(names.said)).parse().unwrap();
    let answer = sender.send_request(Request::from_parts(parts, body)).await;
    answer.unwrap().status()
}

fn status(head: &str) -> StatusCode {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn world() -> World {
    let world = World::new().await;
    world.grant("slack", "messages.send", "channel:C1").await;
    world
}

#[tokio::test]
async fn every_way_to_a_host_has_the_same_verdict() {
    let world = world().await;
    for way in WAYS {
        for (host, channel, wanted) in [
            ("slack.com", "C1", StatusCode::OK),
            ("slack.com", "C2", StatusCode::FORBIDDEN),
            ("evil.example", "C1", StatusCode::FORBIDDEN),
            ("169.254.169.254", "C1", StatusCode::FORBIDDEN),
            ("2001:db8::1", "C1", StatusCode::FORBIDDEN),
            ("::1", "C1", StatusCode::FORBIDDEN),
            ("fd00:ec2::254", "C1", StatusCode::FORBIDDEN),
            ("::ffff:169.254.169.254", "C1", StatusCode::FORBIDDEN),
        ] {
            // A tunnel leads to 443 alone: to port 80 one needs none.
            let closed = matches!(way, Way::PlainTunnel);
            let wanted = if closed { StatusCode::FORBIDDEN } else { wanted };
            let found = send(&world, way, &Names::all(host), channel).await;
            assert_eq!(found, wanted, "{way:?} to {host}, {channel}");
        }
    }
    assert_eq!(
        world.upstream.seen().len(),
        WAYS.len() - 1,
        "only what was granted went out"
    );
}

#[tokio::test]
async fn a_way_on_which_names_disagree_leads_nowhere() {
    let world = world().await;
    let (good, bad) = ("slack.com", "evil.example");
    let lies = [
        Names {
            dialled: bad,
            sni: bad,
            said: good,
        },
        Names {
            dialled: bad,
            sni: good,
            said: good,
        },
        Names {
            dialled: good,
            sni: bad,
            said: good,
        },
        Names {
            dialled: good,
            sni: good,
            said: bad,
        },
        Names {
            dialled: good,
            sni: good,
            said: "slack.com:8443",
        },
        Names {
            dialled: good,
            sni: good,
            said: "slack.com.evil.example",
        },
        Names {
            dialled: good,
            sni: good,
            said: "127.0.0.1",
        },
        Names {
            dialled: good,
            sni: good,
            said: "::1",
        },
        Names {
            dialled: good,
            sni: good,
            said: "::ffff:127.0.0.1",
        },
        Names {
            dialled: "2001:db8::1",
            sni: "2001:db8::1",
            said: good,
        },
        Names {
            dialled: "::ffff:127.0.0.1",
            sni: good,
            said: good,
        },
    ];
    for way in WAYS {
        for names in &lies {
            let has_tls = matches!(way, Way::Tls | Way::Http2 | Way::Tunnel);
            if !has_tls && names.said == names.dialled {
                continue; // without TLS there is no second name to lie with
            }
            let found = send(&world, way, names, "C1").await;
            let refused = [
                StatusCode::MISDIRECTED_REQUEST,
                StatusCode::FORBIDDEN,
                StatusCode::BAD_REQUEST,
            ];
            assert!(refused.contains(&found), "{way:?} {names:?}: {found}");
        }
    }
    assert!(world.upstream.seen().is_empty(), "{:?}", world.upstream.seen());
}

#[tokio::test]
async fn one_name_in_other_letters_is_still_that_name() {
    let world = world().await;
    for said in ["SLACK.com", "slack.com:443"] {
        let names = Names {
            said,
            ..Names::all("slack.com")
        };
        assert_eq!(
            send(&world, Way::Tls, &names, "C1").await,
            StatusCode::OK,
            "{said}"
        );
    }
}
