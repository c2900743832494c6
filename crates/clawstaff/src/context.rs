//! What every command starts from: the global options, and the clients made of them.

use std::path::PathBuf;

use clawstaff_types::Secret;

use crate::{
    client::{Client, Endpoint},
    failure::Failure,
    output::Format,
    place::Place,
};

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Context {
    /// Server to talk to, instead of the local installation; the token is read from `CLAWSTAFF_TOKEN`
    #[arg(long, global = true, value_name = "URL", env = "CLAWSTAFF_SERVER")]
    server: Option<String>,

    /// Data directory of the local installation [default: `/var/lib/clawstaff` as root, else
    /// `$XDG_DATA_HOME/clawstaff`]
    #[arg(long, global = true, value_name = "DIR", env = "CLAWSTAFF_DATA")]
    data: Option<PathBuf>,

    /// How to print
    #[arg(
        short,
        long = "output",
        global = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,
}

impl Context {
    /// The local installation.
    pub(crate) fn place(&self) -> Result<Place, Failure> {
        Place::find(self.data.clone())
    }

    /// Whether a server elsewhere is talked to.
    pub(crate) const fn is_remote(&self) -> bool {
        self.server.is_some()
    }

    /// What tells this installation from others: the server's address, or the data directory.
    pub(crate) fn installation(&self) -> Result<String, Failure> {
        match &self.server {
            Some(server) => Ok(server.clone()),
            None => Ok(self.place()?.root().display().to_string()),
        }
    }

    /// The control plane's API.
    pub(crate) fn api(&self) -> Result<Client, Failure> {
        const WHO: &str = "the control plane";
        let Some(address) = &self.server else {
            let place = self.place()?;
            return Ok(Client::local(place.api_socket(), place.control(), WHO));
        };
        let token = std::env::var("CLAWSTAFF_TOKEN")
            .ok()
            .filter(|token| !token.is_empty());
        let endpoint = Endpoint::server(address, token.map(Secret::new))?;
        Ok(Client::new(endpoint, WHO))
    }

    /// The gateway's API, on its own host only.
    pub(crate) fn gateway(&self) -> Result<Client, Failure> {
        let place = self.place()?;
        Ok(Client::local(
            place.gateway_socket(),
            place.gateway(),
            "the gateway",
        ))
    }

    /// The runner's API, on its own host only.
    pub(crate) fn runner(&self) -> Result<Client, Failure> {
        let place = self.place()?;
        Ok(Client::local(place.runner_socket(), place.runner(), "the runner"))
    }
}
