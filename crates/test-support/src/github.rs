//! A stand-in GitHub REST API, version 2022-11-28: issues, comments and contents of one repository.
//!
//! Shapes after <https://docs.github.com/rest>: errors are `{"message","documentation_url","status"}`, lists are
//! paginated with `per_page` and `page` and a `Link` header, rate limits show in `x-ratelimit-*`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::LINK},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    faults::Fault,
    server::{Control, bearer_is},
};

const DOCS: &str = "https://docs.github.com/rest";

/// The token it accepts and the one repository that the token can see.
#[derive(Debug, Clone)]
pub struct GitHub {
    control: Control,
    token: Arc<str>,
    repository: Arc<str>,
    issues: Arc<Mutex<Vec<Value>>>,
}

#[derive(Debug, Deserialize)]
struct Paging {
    per_page: Option<usize>,
    page: Option<usize>,
    state: Option<String>,
}

impl GitHub {
    /// `repository` is `owner/name`; it starts with three open issues.
    pub fn new(token: &str, repository: &str) -> Self {
        let titles = [
            "Login page misses a label",
            "Export times out above 10,000 rows",
            "Dark mode for the status page",
        ];
        let issues = (1_u64..)
            .zip(titles)
            .map(|(number, title)| issue(repository, number, title, ""))
            .collect();
        Self {
            control: Control::default(),
            token: token.into(),
            repository: repository.into(),
            issues: Arc::new(Mutex::new(issues)),
        }
    }

    /// Its routes, the control routes included.
    pub fn router(self) -> Router {
        let control = self.control.routes();
        Router::new()
            .route(
                "/repos/{owner}/{repo}/issues",
                get(list_issues).post(create_issue),
            )
            .route("/repos/{owner}/{repo}/issues/{number}", get(read_issue))
            .route(
                "/repos/{owner}/{repo}/issues/{number}/comments",
                get(list_comments).post(create_comment),
            )
            .route("/repos/{owner}/{repo}/contents/{*path}", get(read_contents))
            .fallback(unknown)
            .with_state(self)
            .merge(control)
    }

    fn error(&self, call: &str, status: StatusCode, message: &str) -> Response {
        let body =
            json!({"message": message, "documentation_url": DOCS, "status": status.as_u16().to_string()});
        self.control.answer(call, status, body)
    }

    /// What every endpoint checks first; an answer when the request ends here.
    fn gate(&self, call: &str, headers: &HeaderMap, owner: &str, repo: &str) -> Result<(), Box<Response>> {
        if !bearer_is(headers, &self.token) {
            return Err(Box::new(self.error(
                call,
                StatusCode::UNAUTHORIZED,
                "Bad credentials",
            )));
        }
        if headers.get("user-agent").is_none() {
            let text = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.";
            return Err(Box::new(self.error(call, StatusCode::FORBIDDEN, text)));
        }
        if !format!("{owner}/{repo}").eq_ignore_ascii_case(&self.repository) {
            return Err(Box::new(self.error(call, StatusCode::NOT_FOUND, "Not Found")));
        }
        match self.control.faults.take() {
            None | Some(Fault::DoneButSilent) => Ok(()),
            Some(Fault::RateLimited) => {
                let mut response = self.error(call, StatusCode::FORBIDDEN, "API rate limit exceeded");
                response
                    .headers_mut()
                    .insert("x-ratelimit-remaining", HeaderValue::from_static("0"));
                response
                    .headers_mut()
                    .insert("retry-after", HeaderValue::from_static("1"));
                Err(Box::new(response))
            }
            Some(Fault::ServerError) => Err(Box::new(self.error(
                call,
                StatusCode::BAD_GATEWAY,
                "Server Error",
            ))),
            Some(Fault::Nonsense) => Err(Box::new((StatusCode::OK, "<html>unicorn</html>").into_response())),
        }
    }

    fn issues(&self) -> Vec<Value> {
        self.issues.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn issue(repository: &str, number: u64, title: &str, body: &str) -> Value {
    json!({"id": 1_000_000 + number, "number": number, "state": "open", "title": title, "body": body, "comments": 0,
        "user": {"login": "octo-support", "id": 1}, "labels": [],
        "html_url": format!("https://github.com/{repository}/issues/{number}"),
        "url": format!("https://api.github.com/repos/{repository}/issues/{number}")})
}

async fn list_issues(
    State(github): State<GitHub>,
    headers: HeaderMap,
    Path((owner, repo)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Response {
    let call = format!("GET /repos/{owner}/{repo}/issues");
    if let Err(response) = github.gate(&call, &headers, &owner, &repo) {
        return *response;
    }
    let per_page = paging.per_page.unwrap_or(30).clamp(1, 100);
    let page = paging.page.unwrap_or(1).max(1);
    let state = paging.state.unwrap_or_else(|| "open".to_owned());
    let wanted =
        |issue: &&Value| state == "all" || issue.get("state").and_then(Value::as_str) == Some(state.as_str());
    let issues = github.issues();
    let matching: Vec<&Value> = issues.iter().filter(wanted).collect();
    let here: Vec<Value> = matching
        .iter()
        .skip((page - 1) * per_page)
        .take(per_page)
        .map(|issue| (*issue).clone())
        .collect();
    let more = page * per_page < matching.len();
    let mut response = github.control.answer(&call, StatusCode::OK, Value::Array(here));
    if more {
        let next = format!(
            "<https://api.github.com/repos/{owner}/{repo}/issues?per_page={per_page}&page={}>; rel=\"next\"",
            page + 1
        );
        if let Ok(value) = HeaderValue::from_str(&next) {
            response.headers_mut().insert(LINK, value);
        }
    }
    response
}

async fn create_issue(
    State(github): State<GitHub>,
    headers: HeaderMap,
    Path((owner, repo)): Path<(String, String)>,
    body: axum::body::Bytes,
) -> Response {
    let call = format!("POST /repos/{owner}/{repo}/issues");
    if let Err(response) = github.gate(&call, &headers, &owner, &repo) {
        return *response;
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return github.error(&call, StatusCode::BAD_REQUEST, "Problems parsing JSON");
    };
    let Some(title) = body.get("title").and_then(Value::as_str) else {
        return github.error(&call, StatusCode::UNPROCESSABLE_ENTITY, "Validation Failed");
    };
    let text = body.get("body").and_then(Value::as_str).unwrap_or_default();
    let made = {
        let mut issues = github.issues.lock().unwrap_or_else(PoisonError::into_inner);
        let made = issue(&github.repository, issues.len() as u64 + 1, title, text);
        issues.push(made.clone());
        made
    };
    github.control.answer(&call, StatusCode::CREATED, made)
}

async fn read_issue(
    State(github): State<GitHub>,
    headers: HeaderMap,
    Path((owner, repo, number)): Path<(String, String, u64)>,
) -> Response {
    let call = format!("GET /repos/{owner}/{repo}/issues/{number}");
    if let Err(response) = github.gate(&call, &headers, &owner, &repo) {
        return *response;
    }
    let found = github
        .issues()
        .into_iter()
        .find(|issue| issue.get("number").and_then(Value::as_u64) == Some(number));
    match found {
        Some(issue) => github.control.answer(&call, StatusCode::OK, issue),
        None => github.error(&call, StatusCode::NOT_FOUND, "Not Found"),
    }
}

async fn list_comments(
    State(github): State<GitHub>,
    headers: HeaderMap,
    Path((owner, repo, number)): Path<(String, String, u64)>,
) -> Response {
    let call = format!("GET /repos/{owner}/{repo}/issues/{number}/comments");
    match github.gate(&call, &headers, &owner, &repo) {
        Ok(()) => github.control.answer(&call, StatusCode::OK, json!([])),
        Err(response) => *response,
    }
}

async fn create_comment(
    State(github): State<GitHub>,
    headers: HeaderMap,
    Path((owner, repo, number)): Path<(String, String, u64)>,
    Json(body): Json<Value>,
) -> Response {
    let call = format!("POST /repos/{owner}/{repo}/issues/{number}/comments");
    if let Err(response) = github.gate(&call, &headers, &owner, &repo) {
        return *response;
    }
    let text = body.get("body").and_then(Value::as_str).unwrap_or_default();
    let made = json!({"id": 7_000_000 + number, "body": text, "user": {"login": "octo-support"},
        "html_url": format!("https://github.com/{owner}/{repo}/issues/{number}#issuecomment-1")});
    github.control.answer(&call, StatusCode::CREATED, made)
}

async fn read_contents(
    State(github): State<GitHub>,
    headers: HeaderMap,
    Path((owner, repo, path)): Path<(String, String, String)>,
) -> Response {
    let call = format!("GET /repos/{owner}/{repo}/contents/{path}");
    if let Err(response) = github.gate(&call, &headers, &owner, &repo) {
        return *response;
    }
    if path != "README.md" {
        return github.error(&call, StatusCode::NOT_FOUND, "Not Found");
    }
    let body = json!({"type": "file", "encoding": "base64", "name": "README.md", "path": "README.md", "size": 7,
        "content": "IyBTaXRlCg==\n", "sha": "3d21ec53a331a6f037a91c368710b99387d012c1"});
    github.control.answer(&call, StatusCode::OK, body)
}

async fn unknown(State(github): State<GitHub>, request: axum::extract::Request) -> Response {
    let call = format!("{} {}", request.method(), request.uri().path());
    github.error(&call, StatusCode::NOT_FOUND, "Not Found")
}
