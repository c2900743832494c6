//! A stand-in Notion API, version 2022-06-28: pages and database queries.
//!
//! Shapes after <https://developers.notion.com/reference>: `Notion-Version` is required, errors are
//! `{"object":"error","status","code","message"}`, lists are paginated with `start_cursor` and `page_size`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    faults::Fault,
    server::{Control, bearer_is, silent},
};

/// The integration token it accepts, and the databases that the integration was shared with.
#[derive(Debug, Clone)]
pub struct Notion {
    control: Control,
    token: Arc<str>,
    databases: Arc<[String]>,
    pages: Arc<Mutex<Vec<Value>>>,
}

impl Notion {
    /// A workspace with these databases and no pages.
    pub fn new(token: &str, databases: Vec<String>) -> Self {
        let databases = databases.iter().map(|id| plain_id(id)).collect();
        Self {
            control: Control::default(),
            token: token.into(),
            databases,
            pages: Arc::default(),
        }
    }

    /// Its routes, the control routes included.
    pub fn router(self) -> Router {
        let control = self.control.routes();
        Router::new()
            .route("/v1/pages", post(create_page))
            .route("/v1/pages/{id}", get(read_page))
            .route("/v1/databases/{id}", get(read_database))
            .route("/v1/databases/{id}/query", post(query_database))
            .fallback(unknown)
            .with_state(self)
            .merge(control)
    }

    fn error(&self, call: &str, status: StatusCode, code: &str, message: &str) -> Response {
        let body = json!({"object": "error", "status": status.as_u16(), "code": code, "message": message,
            "request_id": "9d4e2c1a-5f0b-4a53-9c1c-6f2f0a7b3c11"});
        self.control.answer(call, status, body)
    }

    /// What every endpoint checks first; an answer when the request ends here.
    fn gate(&self, call: &str, headers: &HeaderMap) -> Result<bool, Box<Response>> {
        if !bearer_is(headers, &self.token) {
            let status = StatusCode::UNAUTHORIZED;
            return Err(Box::new(self.error(
                call,
                status,
                "unauthorized",
                "API token is invalid.",
            )));
        }
        if headers.get("notion-version").is_none() {
            let text =
                "Notion-Version header failed validation: it should be defined, instead was undefined.";
            return Err(Box::new(self.error(
                call,
                StatusCode::BAD_REQUEST,
                "missing_version",
                text,
            )));
        }
        match self.control.faults.take() {
            None => Ok(false),
            Some(Fault::DoneButSilent) => Ok(true),
            Some(Fault::RateLimited) => {
                let mut response = self.error(
                    call,
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limited",
                    "You have been rate limited.",
                );
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
                Err(Box::new(response))
            }
            Some(Fault::ServerError) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Err(Box::new(self.error(
                    call,
                    status,
                    "internal_server_error",
                    "Unexpected error occurred.",
                )))
            }
            Some(Fault::Nonsense) => Err(Box::new(
                (StatusCode::OK, "<html>maintenance</html>").into_response(),
            )),
        }
    }

    fn knows(&self, database: &str) -> bool {
        self.databases.contains(&plain_id(database))
    }
}

/// Notion takes ids with and without dashes.
fn plain_id(id: &str) -> String {
    id.replace('-', "").to_lowercase()
}

async fn create_page(State(notion): State<Notion>, headers: HeaderMap, body: axum::body::Bytes) -> Response {
    let call = "POST /v1/pages";
    let silently = match notion.gate(call, &headers) {
        Ok(silently) => silently,
        Err(response) => return *response,
    };
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return notion.error(
            call,
            StatusCode::BAD_REQUEST,
            "invalid_json",
            "Error parsing JSON body.",
        );
    };
    let Some(database) = body.pointer("/parent/database_id").and_then(Value::as_str) else {
        let text = "body failed validation: body.parent should be defined.";
        return notion.error(call, StatusCode::BAD_REQUEST, "validation_error", text);
    };
    if !notion.knows(database) {
        let text = format!(
            "Could not find database with ID: {database}. Make sure the relevant pages and databases are shared with your integration."
        );
        return notion.error(call, StatusCode::NOT_FOUND, "object_not_found", &text);
    }
    let Some(properties) = body.get("properties").filter(|value| value.is_object()) else {
        let text = "body failed validation: body.properties should be defined.";
        return notion.error(call, StatusCode::BAD_REQUEST, "validation_error", text);
    };
    let page = notion.add_page(database, properties);
    let response = notion.control.answer(call, StatusCode::OK, page);
    if silently { silent() } else { response }
}

impl Notion {
    fn add_page(&self, database: &str, properties: &Value) -> Value {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("59833787-2cf9-4fdf-8782-{:012x}", pages.len() + 1);
        let now = jiff::Timestamp::now().to_string();
        let page = json!({"object": "page", "id": id, "created_time": now, "last_edited_time": now,
            "parent": {"type": "database_id", "database_id": database}, "archived": false, "properties": properties,
            "url": format!("https://www.notion.so/{}", plain_id(&id))});
        pages.push(page.clone());
        page
    }
}

async fn read_page(State(notion): State<Notion>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let call = format!("GET /v1/pages/{id}");
    if let Err(response) = notion.gate(&call, &headers) {
        return *response;
    }
    let pages = notion
        .pages
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let wanted = plain_id(&id);
    let found = pages.into_iter().find(|page| {
        page.get("id")
            .and_then(Value::as_str)
            .is_some_and(|id| plain_id(id) == wanted)
    });
    match found {
        Some(page) => notion.control.answer(&call, StatusCode::OK, page),
        None => notion.error(
            &call,
            StatusCode::NOT_FOUND,
            "object_not_found",
            &format!("Could not find page with ID: {id}."),
        ),
    }
}

async fn read_database(State(notion): State<Notion>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let call = format!("GET /v1/databases/{id}");
    if let Err(response) = notion.gate(&call, &headers) {
        return *response;
    }
    if !notion.knows(&id) {
        return notion.error(
            &call,
            StatusCode::NOT_FOUND,
            "object_not_found",
            &format!("Could not find database with ID: {id}."),
        );
    }
    let properties =
        json!({"Name": {"type": "title"}, "Priority": {"type": "select"}, "Link": {"type": "url"}});
    notion.control.answer(
        &call,
        StatusCode::OK,
        json!({"object": "database", "id": id, "properties": properties}),
    )
}

async fn query_database(
    State(notion): State<Notion>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Option<Json<Value>>,
) -> Response {
    let call = format!("POST /v1/databases/{id}/query");
    if let Err(response) = notion.gate(&call, &headers) {
        return *response;
    }
    if !notion.knows(&id) {
        return notion.error(
            &call,
            StatusCode::NOT_FOUND,
            "object_not_found",
            &format!("Could not find database with ID: {id}."),
        );
    }
    let body = body.map(|Json(body)| body).unwrap_or_default();
    let start = body
        .get("start_cursor")
        .and_then(Value::as_str)
        .and_then(|cursor| cursor.parse::<usize>().ok())
        .unwrap_or(0);
    let size = body
        .get("page_size")
        .and_then(Value::as_u64)
        .map_or(100, |size| usize::try_from(size.clamp(1, 100)).unwrap_or(100));
    let pages = notion
        .pages
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let results: Vec<Value> = pages.iter().skip(start).take(size).cloned().collect();
    let end = start + results.len();
    let more = end < pages.len();
    let list = json!({"object": "list", "results": results, "has_more": more,
        "next_cursor": if more { json!(end.to_string()) } else { Value::Null }, "type": "page_or_database"});
    notion.control.answer(&call, StatusCode::OK, list)
}

async fn unknown(State(notion): State<Notion>, request: axum::extract::Request) -> Response {
    let call = format!("{} {}", request.method(), request.uri().path());
    notion.error(
        &call,
        StatusCode::BAD_REQUEST,
        "invalid_request_url",
        "Invalid request URL.",
    )
}
