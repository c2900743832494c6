//! A server that conforms to one revision of the protocol and has everything that the suite asks for.

#![expect(deprecated, reason = "the suite still asks for logging as 2025-11-25 has it")]

use std::{borrow::Cow, convert::Infallible, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CustomRequest,
        GetPromptRequestParams, GetPromptResponse, Implementation, InputRequiredResult, ListPromptsResult,
        ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingMessageNotificationParam,
        PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams,
        ReadResourceResponse, ServerCapabilities, ServerConfig, ServerRequest, SetLevelRequestParams,
        SubscribeRequestParams, Tool, UnsubscribeRequestParams,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::fixtures;

type Context = RequestContext<RoleServer>;
/// What the server remembers in `requestState`; anything else is not its own.
const STATES: [&str; 3] = ["state-confirm-5b1f", "state-round-1-77ac", "state-round-2-c09e"];

/// The revision that it speaks, and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    Sessions,
    Stateless,
}

#[derive(Debug, Clone, Copy)]
struct Reference {
    era: Era,
}

/// Starts it; gives its address.
pub(super) async fn serve(era: Era) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = StreamableHttpService::new(
        move || Ok(Reference { era }),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default()
            .with_allowed_origins(["http://127.0.0.1:*", "http://localhost:*"]),
    );
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let service = service.clone();
                    async move { Ok::<_, Infallible>(service.handle(request).await) }
                });
                let _client_is_gone = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    format!("http://127.0.0.1:{port}/mcp")
}

fn typed<T: DeserializeOwned>(mut value: Value) -> Result<T, ErrorData> {
    if value.get("resultType").is_none() {
        value["resultType"] = "complete".into();
    }
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// More input is wanted: requests by key, and what to remember.
fn wanted<T: From<InputRequiredResult>>(requests: &[Asked], state: Option<&str>) -> Result<T, ErrorData> {
    let mut by_key = Map::new();
    for (key, method, params) in requests {
        by_key.insert((*key).to_owned(), json!({ "method": method, "params": params }));
    }
    let mut result = json!({ "resultType": "input_required", "inputRequests": by_key });
    if let Some(state) = state {
        result["requestState"] = state.into();
    }
    typed::<InputRequiredResult>(result).map(T::from)
}

type Asked = (&'static str, &'static str, Value);

fn form(key: &'static str, message: &str, property: &str, kind: &str) -> Asked {
    let schema =
        json!({ "type": "object", "properties": { property: { "type": kind } }, "required": [property] });
    (
        key,
        "elicitation/create",
        json!({ "message": message, "requestedSchema": schema }),
    )
}

fn sample(key: &'static str, prompt: &str) -> Asked {
    let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
    (
        key,
        "sampling/createMessage",
        json!({ "maxTokens": 100, "messages": [message] }),
    )
}

fn roots() -> Asked {
    ("client_roots", "roots/list", json!({}))
}

impl Reference {
    /// The tools that want more input (2026-07-28).
    fn asking(request: &CallToolRequestParams, context: &Context) -> Result<CallToolResponse, ErrorData> {
        let given = serde_json::to_value(&request.input_responses).unwrap_or_default();
        let has = |key: &str| given[key].is_object();
        let state = request.request_state.as_deref();
        if state.is_some_and(|state| !STATES.contains(&state)) {
            return Err(ErrorData::invalid_params("requestState is not ours", None));
        }
        let name = form("user_name", "What is your name?", "name", "string");
        let done = |words: &str| typed(fixtures::text(words)).map(CallToolResponse::Complete);
        match request
            .name
            .strip_prefix("test_input_required_result_")
            .unwrap_or("")
        {
            "elicitation" if has("user_name") => done(&format!(
                "Hello, {}!",
                given["user_name"]["content"]["name"].as_str().unwrap_or("friend")
            )),
            "elicitation" => wanted(&[name], None),
            "sampling" if has("capital_question") => done("Sampling response: Paris"),
            "sampling" => wanted(
                &[sample("capital_question", "What is the capital of France?")],
                None,
            ),
            "list_roots" if has("client_roots") => done(&given["client_roots"].to_string()),
            "list_roots" => wanted(&[roots()], None),
            "request_state" | "tampered_state" if state.is_some() => done("Confirmed: state-ok"),
            "request_state" | "tampered_state" => wanted(
                &[form("confirm", "Please confirm", "ok", "boolean")],
                Some(STATES[0]),
            ),
            "multiple_inputs"
                if state.is_some() && has("user_name") && has("greeting") && has("client_roots") =>
            {
                done("All inputs received")
            }
            "multiple_inputs" => wanted(
                &[name, sample("greeting", "Generate a greeting"), roots()],
                Some(STATES[0]),
            ),
            "multi_round" => match state {
                None => wanted(
                    &[form("step1", "Step 1: name?", "name", "string")],
                    Some(STATES[1]),
                ),
                Some(state) if state == STATES[1] => wanted(
                    &[form("step2", "Step 2: color?", "color", "string")],
                    Some(STATES[2]),
                ),
                Some(_) => done("Multi-round flow complete"),
            },
            "capabilities" if request.input_responses.is_some() => done("Capability-aware flow complete"),
            "capabilities" => {
                let can = context.client_capabilities().unwrap_or_default();
                let mut all = Vec::new();
                all.extend(can.elicitation.is_some().then_some(name));
                all.extend(
                    can.sampling
                        .is_some()
                        .then(|| sample("greeting", "Generate a greeting")),
                );
                all.extend(can.roots.is_some().then(roots));
                if all.is_empty() {
                    done("Nothing can be asked")
                } else {
                    wanted(&all, None)
                }
            }
            _ => Err(ErrorData::invalid_params(
                format!("Unknown tool: {}", request.name),
                None,
            )),
        }
    }

    /// What the client says to a question, in the way of the revision.
    async fn put(
        self,
        (key, method, params): Asked,
        request: &CallToolRequestParams,
        context: &Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let answer = match self.era {
            Era::Sessions => {
                let question = CustomRequest::new(method, Some(params));
                let asked = context
                    .peer
                    .send_request(ServerRequest::CustomRequest(question))
                    .await;
                match asked {
                    Ok(answer) => serde_json::to_value(answer).unwrap(),
                    Err(error) => json!({ "action": format!("failed: {error}") }),
                }
            }
            Era::Stateless => match request.input_responses.as_ref().and_then(|all| all.get(key)) {
                Some(answer) => answer.clone(),
                None => return wanted(&[(key, method, params)], None),
            },
        };
        let words = match method {
            "sampling/createMessage" => {
                format!(
                    "LLM response: {}",
                    answer["content"]["text"].as_str().unwrap_or_default()
                )
            }
            _ => format!(
                "User response: action={}, content={}",
                answer["action"], answer["content"]
            ),
        };
        typed(fixtures::text(&words)).map(CallToolResponse::Complete)
    }

    async fn log(context: &Context, words: &str) {
        let params = json!({ "level": "info", "logger": "reference", "data": words });
        let params: LoggingMessageNotificationParam = serde_json::from_value(params).unwrap();
        context.peer.notify_logging_message(params).await.unwrap();
        // With sessions, words go by the session's own stream and the answer by another: nothing says which arrives first,
        // and nobody confirms words. What comes after the answer is passed on with the next call.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn progress(context: &Context) {
        let Some(token) = context.meta.get_progress_token() else {
            return;
        };
        for progress in [0.0, 50.0, 100.0] {
            let step = ProgressNotificationParam::new(token.clone(), progress).with_total(100.0);
            context.peer.notify_progress(step).await.unwrap();
        }
    }
}

impl ServerHandler for Reference {
    fn get_info(&self) -> ServerConfig {
        let capabilities = json!({ "tools": {}, "resources": { "subscribe": self.era == Era::Sessions },
            "prompts": {}, "completions": {}, "logging": {} });
        let capabilities: ServerCapabilities = serde_json::from_value(capabilities).unwrap();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("reference", "1"))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        match self.era {
            Era::Sessions => Cow::Owned(vec![ProtocolVersion::V_2025_11_25]),
            Era::Stateless => Cow::Owned(vec![ProtocolVersion::V_2026_07_28]),
        }
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let named = fixtures::tools().into_iter().find(|tool| tool["name"] == name)?;
        serde_json::from_value(named).ok()
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        typed(json!({ "tools": fixtures::tools() }))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        if let Some(result) = fixtures::result(&request.name) {
            return typed(result).map(CallToolResponse::Complete);
        }
        if let Some(question) = fixtures::question(&request.name, &arguments) {
            return self.put(question, &request, &context).await;
        }
        match request.name.as_ref() {
            "test_tool_with_logging" => {
                for words in [
                    "Tool execution started",
                    "Tool processing data",
                    "Tool execution completed",
                ] {
                    Self::log(&context, words).await;
                }
            }
            "test_logging_tool" => {
                if context.meta.log_level().is_some() {
                    Self::log(&context, "wanted").await;
                }
            }
            "test_tool_with_progress" => Self::progress(&context).await,
            "test_missing_capability" => {
                let can = context.client_capabilities().unwrap_or_default();
                if can.sampling.is_none() {
                    let needed = serde_json::from_value(json!({ "sampling": {} })).unwrap();
                    return Err(ErrorData::missing_required_client_capability(needed));
                }
            }
            "test_streaming_elicitation" => {
                return wanted(&[form("streaming", "Provide a value", "value", "string")], None);
            }
            _ => return Self::asking(&request, &context),
        }
        typed(fixtures::text("done")).map(CallToolResponse::Complete)
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        typed(json!({ "resources": fixtures::resources() }))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        typed(json!({ "resourceTemplates": fixtures::templates() }))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match fixtures::contents(&request.uri) {
            Some(contents) => typed(contents).map(ReadResourceResponse::Complete),
            None => Err(ErrorData::resource_not_found(
                "Resource not found",
                Some(json!({ "uri": request.uri })),
            )),
        }
    }

    async fn subscribe(&self, _request: SubscribeRequestParams, _context: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _request: UnsubscribeRequestParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn set_level(&self, _request: SetLevelRequestParams, _context: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        typed(json!({ "prompts": fixtures::prompts() }))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name == "test_input_required_result_prompt" {
            let given = serde_json::to_value(&request.input_responses).unwrap_or_default();
            if !given["user_context"].is_object() {
                return wanted(
                    &[form("user_context", "Which context?", "context", "string")],
                    None,
                );
            }
            let words = format!("With context: {}", given["user_context"]["content"]["context"]);
            let message = json!({ "role": "user", "content": { "type": "text", "text": words } });
            return typed(json!({ "messages": [message] })).map(GetPromptResponse::Complete);
        }
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        match fixtures::prompt(&request.name, &arguments) {
            Some(prompt) => typed(prompt).map(GetPromptResponse::Complete),
            None => Err(ErrorData::invalid_params("Unknown prompt", None)),
        }
    }

    async fn complete(
        &self,
        _request: CompleteRequestParams,
        _context: Context,
    ) -> Result<CompleteResult, ErrorData> {
        typed(json!({ "completion": { "values": ["paris", "park"], "total": 2, "hasMore": false } }))
    }
}
