//! `clawstaff node`: other hosts with a gateway and a runner of their own.
//!
//! A host joins with a one-time token, which is read and never an argument; from then on it dials out to the control
//! plane with a certificate of its own, and nothing dials it.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clawstaff_api::{
    join::{JoinRequest, JoinToken, NoJoinToken},
    people::{NodeInvite, NodeToken, NodeView},
};
use clawstaff_types::{NodeName, PoolName, Secret};
use http::Method;

use super::up::{self, HostArgs, OwnerArgs};
use crate::{
    client::escape,
    context::Context,
    failure::Failure,
    output::{self, Cell},
    uplink::{
        self, Wire,
        identity::{Identity, Key},
    },
};

/// A join token is far shorter.
const MAX_TOKEN: u64 = 8192;

/// Nodes: other hosts with a gateway and a runner of their own
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Let a host join under this name: once, within the hour
    #[command(after_help = "Example:
  clawstaff node token berlin --pool eu > berlin.token

The token is a secret. The control plane must listen to other hosts: `clawstaff up --nodes ADDRESS`.")]
    Token {
        /// The node's name
        name: NodeName,
        /// The pool that it is to be in
        #[arg(long, value_name = "POOL")]
        pool: Option<PoolName>,
    },
    /// List the nodes
    #[command(after_help = "Example:\n  clawstaff node list -o json")]
    List,
    /// Turn a node away; its Claws work on there under the last state that it got
    #[command(after_help = "Example:\n  clawstaff node revoke berlin")]
    Revoke {
        /// The node's name
        name: NodeName,
    },
    /// On the host itself: join a control plane, with a token from standard input
    #[command(after_help = "Example:\n  clawstaff node join control.example.com:7412 < berlin.token")]
    Join {
        /// `HOST:PORT` where the control plane serves nodes
        address: String,
        /// File to read the token from, instead of standard input
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        #[command(flatten)]
        owners: OwnerArgs,
    },
    /// On the host itself: run gateway and runner, in the foreground
    #[command(after_help = "Example:\n  clawstaff node up --cage native")]
    Up {
        #[command(flatten)]
        host: Box<HostArgs>,
        /// Write the secrets of the connections to the control plane here, so that what is said can be captured and read
        #[arg(long, value_name = "FILE")]
        tls_key_log: Option<PathBuf>,
        #[command(flatten)]
        owners: OwnerArgs,
    },
    /// On the host itself: get a certificate for a new key now, instead of in time
    #[command(after_help = "Example:\n  clawstaff node rotate")]
    Rotate,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Token { name, pool } => {
            let invite = NodeInvite { node: name, pool };
            let token: NodeToken = context.api()?.post("/v1/nodes", &invite).await?;
            output::note(&format!("good for one join, until {}", token.expires));
            context.output.sentence(&token, |token| token.token.clone())
        }
        Command::List => list(context).await,
        Command::Revoke { name } => {
            let path = format!("/v1/nodes/{}", escape(name.as_str()));
            context.api()?.tell(Method::DELETE, &path, Bytes::new()).await?;
            output::note(&format!("turned {name} away"));
            Ok(())
        }
        Command::Join {
            address,
            token_file,
            owners,
        } => join(context, address, token_file.as_deref(), &owners).await,
        Command::Up {
            host,
            tls_key_log,
            owners,
        } => up::node(&context.place()?, &host, &owners, tls_key_log.as_deref()).await,
        Command::Rotate => {
            let expires = Wire::new(context.place()?, None)?.renew().await?;
            output::note(&format!("the node has a new certificate until {expires}"));
            Ok(())
        }
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let nodes: Vec<NodeView> = context.api()?.get("/v1/nodes").await?;
    let columns = ["NAME", "POOL", "GATEWAY", "RUNNER", "CLAWS", "CERTIFICATE"];
    context.output.list(&nodes, &columns, |node| {
        let heard = |connected: Option<bool>| match (node.revoked, connected) {
            (Some(_), _) => "revoked",
            (None, Some(true)) => "connected",
            (None, Some(false)) => "silent",
            (None, None) => "never heard of",
        };
        vec![
            Cell::new(&node.name),
            Cell::new(node.pool.as_ref().map_or("", PoolName::as_str)),
            Cell::new(heard(node.gateway.as_ref().map(|one| one.connected))),
            Cell::new(heard(node.runner.as_ref().map(|one| one.connected))),
            Cell::new(node.claws),
            Cell::new(node.expires.map(|end| format!("until {end}")).unwrap_or_default()),
        ]
    })
}

async fn join(
    context: &Context,
    address: String,
    file: Option<&Path>,
    owners: &OwnerArgs,
) -> Result<(), Failure> {
    let place = context.place()?;
    if place.control().join("control.db").exists() {
        let message = format!(
            "{} is a control plane's own data directory",
            place.root().display()
        );
        return Err(Failure::usage(message).hint("use another --data directory"));
    }
    if !address.contains(':') {
        return Err(
            Failure::usage(format!("`{address}` names no port")).hint("as in `control.example.com:7412`")
        );
    }
    let token: JoinToken = read(file)?
        .expose_secret()
        .parse()
        .map_err(|error: NoJoinToken| Failure::usage(error))?;
    let key = Key::generate()?;
    let request = JoinRequest {
        node: token.node.clone(),
        public_key: key.public(),
        tokens: up::prepare_node(&place, owners)?,
    };
    let issued = uplink::join(&address, &token, &request).await?;
    let identity = Identity::new(
        (token.node.clone(), address, token.authority.clone()),
        &key,
        issued,
    );
    identity.keep(&place)?;
    output::note(&format!(
        "joined as {}; start it with `clawstaff node up`",
        identity.node
    ));
    Ok(())
}

fn read(file: Option<&Path>) -> Result<Secret<String>, Failure> {
    let mut text = String::new();
    let read = match file {
        Some(path) => {
            std::fs::File::open(path).and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text))
        }
        None if std::io::stdin().is_terminal() => {
            return Err(
                Failure::usage("the join token is read from standard input or a file")
                    .hint("`clawstaff node join ADDRESS < TOKEN_FILE`"),
            );
        }
        None => std::io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text),
    };
    let text = Secret::new(text);
    read.map_err(|error| Failure::usage(format!("cannot read the join token: {error}")))?;
    Ok(text)
}
