//! Connectors and connections as people see them.

use clawstaff_api::people::{ActionView, ConnectorView};
use clawstaff_connectors::{Action, Connector};
use clawstaff_types::{ConnectorId, spec::Connection};

use super::{context::App, nearest::nearest, problem::Problem};

impl App {
    /// Every connector, by id.
    pub(crate) fn connectors(&self) -> Vec<ConnectorView> {
        let mut views: Vec<ConnectorView> = self.catalogue.iter().map(view).collect();
        views.sort_by(|left, right| left.id.cmp(&right.id));
        views
    }

    /// One connector.
    pub(crate) fn connector(&self, id: &ConnectorId) -> Result<ConnectorView, Problem> {
        self.catalogue.get(id).map(view).ok_or_else(|| {
            let problem = Problem::not_found(format!("there is no connector `{id}`"));
            match nearest(id.as_str(), self.catalogue.iter().map(|one| one.id().as_str())) {
                Some(near) => problem.hint(format!("the nearest is `{near}`")),
                None => problem,
            }
        })
    }

    /// The connections, by name.
    pub(crate) async fn connections(&self) -> Result<Vec<Connection>, Problem> {
        Ok(self.store.snapshot().await?.connections)
    }
}

fn view(connector: &Connector) -> ConnectorView {
    ConnectorView {
        id: connector.id().clone(),
        name: connector.name().to_owned(),
        description: connector.description().to_owned(),
        hosts: connector
            .hosts()
            .iter()
            .map(|host| host.as_str().to_owned())
            .collect(),
        actions: connector.actions().iter().map(action_view).collect(),
    }
}

fn action_view(action: &Action) -> ActionView {
    ActionView {
        id: action.id.clone(),
        access: action.access,
        resource: action.resource.as_ref().map(ToString::to_string),
        description: action.description.clone(),
        tool: action.tool.as_ref().map(|tool| tool.name.clone()),
    }
}
