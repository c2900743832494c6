//! Putting routes together: each one gets its permission from the table when it is added, or the server does not
//! start. A row of the table that no route uses stops it as well.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension, Router,
    extract::Request,
    handler::Handler,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};

use super::{
    auth::Caller,
    doorbook::Doorbook,
    table::{TABLE, needs},
};
use crate::{
    RunError,
    app::{context::App, permission::Permission, problem::Problem},
};

/// Whom a route is for; each has sockets of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    People,
    Nodes,
}

/// Routes under construction.
pub(crate) struct Routes {
    server: Server,
    router: Router<Arc<App>>,
    added: BTreeSet<(&'static str, &'static str)>,
    without_permission: Vec<String>,
}

impl Routes {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            server,
            router: Router::new(),
            added: BTreeSet::new(),
            without_permission: Vec::new(),
        }
    }

    pub(crate) fn get<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.add("GET", MethodFilter::GET, path, handler)
    }

    pub(crate) fn post<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.add("POST", MethodFilter::POST, path, handler)
    }

    pub(crate) fn delete<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.add("DELETE", MethodFilter::DELETE, path, handler)
    }

    fn add<H, T>(mut self, method: &'static str, filter: MethodFilter, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let Some(permission) = needs(self.server, method, path) else {
            self.without_permission
                .push(format!("{method} {path} has no permission"));
            return self;
        };
        self.added.insert((method, path));
        let guarded = on(filter, handler).layer(middleware::from_fn(move |caller, book, request, next| {
            permitted(permission, caller, book, request, next)
        }));
        self.router = self.router.route(path, guarded);
        self
    }

    /// The router, if every route has a row and every row a route.
    pub(crate) fn finish(self) -> Result<Router<Arc<App>>, RunError> {
        let mut wrong = self.without_permission;
        for row in TABLE.iter().filter(|row| row.server == self.server) {
            if !self.added.contains(&(row.method, row.path)) {
                wrong.push(format!("{} {} is not served", row.method, row.path));
            }
        }
        if wrong.is_empty() {
            Ok(self.router)
        } else {
            Err(RunError::Permissions(wrong.join("; ")))
        }
    }
}

async fn permitted(
    permission: Permission,
    caller: Extension<Caller>,
    book: Extension<Arc<Doorbook>>,
    request: Request,
    next: Next,
) -> Response {
    if caller.role.may(permission) {
        return next.run(request).await;
    }
    book.not_permitted(&caller, permission).await;
    let text = format!(
        "`{}` is {} here and may not do this",
        caller.member,
        caller.role.name()
    );
    Problem::forbidden(text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_without_a_permission_stops_the_server() {
        let routes = Routes::new(Server::Nodes).get("/nodes/v1/everything", || async {});
        let error = routes.finish().err().unwrap().to_string();
        assert!(
            error.contains("GET /nodes/v1/everything has no permission"),
            "{error}"
        );
        assert!(
            error.contains("POST /nodes/v1/gateway/hello is not served"),
            "{error}"
        );
    }
}
