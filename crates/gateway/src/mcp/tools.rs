//! The tools of one Claw: exactly its granted actions. Anything else is unknown to it.

#![expect(deprecated, reason = "clients of 2025-11-25 still say what servers shall log")]

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use clawstaff_types::{Access, ClawName, Decision, Digest, EventKind};
use http::Response;
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
        ContentBlock, GetPromptRequestParams, GetPromptResponse, Implementation, JsonObject,
        ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
        PaginatedRequestParams, PromptsCapability, ProtocolVersion, ReadResourceRequestParams,
        ReadResourceResponse, ResourcesCapability, ServerCapabilities, ServerConfig, SetLevelRequestParams,
        SubscribeRequestParams, SubscriptionFilter, Tool, ToolAnnotations, UnsubscribeRequestParams,
    },
    service::{RequestContext, SubscriptionContext},
};

use serde_json::json;

use super::{
    conversation::Conversation,
    definition::Definition,
    exchange::Question,
    foreign::{self, Fault, Server, View, typed},
    reading, wire,
};
use crate::{
    body::Body,
    line::{self, Ask},
    map::Route,
    parse::{MAX_BODY, Via},
    problem::Refusal,
    record::{Stop, Who},
    settle::Succeeded,
    shared::Gateway,
    state::State,
    toolbox::Offered,
};

/// Resources whose changes are told on one stream.
const MAX_LISTENED: usize = 8;

/// Serves one Claw.
#[derive(Clone)]
pub(super) struct Tools {
    gateway: Arc<Gateway>,
    claw: ClawName,
    conversation: Arc<Conversation>,
}

impl Tools {
    pub(super) fn new(gateway: Arc<Gateway>, claw: ClawName) -> Self {
        let conversation = Conversation::new(Arc::clone(&gateway), claw.clone());
        Self {
            gateway,
            claw,
            conversation: Arc::new(conversation),
        }
    }

    /// The same, for another client.
    pub(super) fn for_another(&self) -> Self {
        Self::new(Arc::clone(&self.gateway), self.claw.clone())
    }

    fn view(&self) -> View<'_> {
        View {
            gateway: &self.gateway,
            claw: &self.claw,
            conversation: &self.conversation,
        }
    }

    /// The servers as they were last seen.
    fn last_seen(&self) -> Vec<Server> {
        let state = self.gateway.state.load_full();
        foreign::last_seen(&self.gateway, &self.claw, |name| is_taken(&state, name))
    }

    /// The MCP servers outside that the Claw holds a grant on.
    async fn servers(&self) -> Vec<Server> {
        let state = self.gateway.state.load_full();
        foreign::servers(&self.gateway, &self.claw, |name| is_taken(&state, name)).await
    }

    /// Calls a tool of our own; `None` when the Claw is offered none of that name.
    pub(super) async fn own(
        &self,
        params: CallToolRequestParams,
    ) -> Option<Result<CallToolResult, ErrorData>> {
        let state = self.gateway.state.load_full();
        let offered = offered_as(&state, &self.claw, &params.name)?;
        Some(self.call_own(&offered, params).await)
    }

    /// Makes a request of a tool call and walks the line with it.
    async fn call(
        &self,
        params: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let state = self.gateway.state.load_full();
        match offered_as(&state, &self.claw, &params.name) {
            Some(offered) => self
                .call_own(&offered, params)
                .await
                .map(CallToolResponse::Complete),
            None => self.call_foreign(&state, params, context).await,
        }
    }

    /// Calls a tool of a server outside, if it has one of that name that the Claw is granted.
    async fn call_foreign(
        &self,
        state: &State,
        params: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let (view, servers) = (self.view(), self.servers().await);
        let found = servers
            .iter()
            .find_map(|server| server.tool(&params.name).map(|tool| (server, tool)));
        let Some((server, tool)) = found.filter(|(server, tool)| view.speaks_of(server, &tool.action)) else {
            return Err(self
                .unknown(state, &params.name, found.map(|(_, tool)| tool))
                .await);
        };
        if !view.offers(server, tool) {
            return Ok(refused(&view.held(server, tool).await).into());
        }
        let mut asked = json!({ "name": tool.name, "arguments": params.arguments.unwrap_or_default() });
        if let Some(responses) = params.input_responses {
            wire::set(&mut asked, "inputResponses", json!(responses));
        }
        if let Some(state) = params.request_state {
            wire::set(&mut asked, "requestState", state);
        }
        let question = Question {
            method: "tools/call",
            params: asked,
            name: Some(&tool.name),
            tool: Some(tool),
        };
        match view.ask(server, question, context).await {
            Ok(result) if foreign::is_incomplete(&result) => typed(result)
                .map(CallToolResponse::InputRequired)
                .ok_or_else(foreign::no_answer),
            Ok(result) => typed(result)
                .map(CallToolResponse::Complete)
                .ok_or_else(foreign::no_answer),
            Err(Fault::Refused(refusal)) => Ok(refused(&refusal).into()),
            Err(Fault::Error(error)) => Err(error),
        }
    }

    async fn call_own(
        &self,
        offered: &Offered<'_>,
        params: CallToolRequestParams,
    ) -> Result<CallToolResult, ErrorData> {
        let arguments = params.arguments.unwrap_or_default();
        let built = match offered.link.connector.build(&offered.action.id, &arguments) {
            Ok(built) => built,
            Err(error) => return Ok(failed(&error.to_string())),
        };
        let mut request = http::Request::builder()
            .method(built.method)
            .uri(built.path_and_query);
        if let Some(media_type) = built.content_type {
            request = request.header(http::header::CONTENT_TYPE, media_type);
        }
        let Ok(request) = request.body(Full::new(built.body)) else {
            return Ok(failed("the arguments do not make a request"));
        };
        let ask = Ask {
            claw: self.claw.clone(),
            via: Via::Door,
            route: Route::Relative(Arc::clone(offered.link)),
            request,
            max_body: MAX_BODY,
        };
        match line::walk(&self.gateway, ask).await {
            Ok(response) => Ok(result(offered, response).await),
            Err(refusal) => Ok(refused(&refusal)),
        }
    }

    /// A tool that is not granted looks like one that does not exist. That it was tried is on record.
    async fn unknown(&self, state: &State, name: &str, foreign: Option<&Definition>) -> ErrorData {
        let who = Who::now(&self.gateway, state, &self.claw);
        let reason = "no grant for the tool, or no such tool";
        let mut event = who.refused(EventKind::ToolDenied, Decision::Deny, reason);
        if let Some(aimed) = state.tools().named(name).next() {
            event.connection = Some(aimed.link.name().clone());
            event.action = Some(aimed.action.id.clone());
        } else if let Some(tool) = foreign {
            event.action = Some(tool.action.clone());
        }
        let stop = Stop::Denied {
            refusal: Refusal::denied(reason),
            event: Box::new(event),
            call: Digest::of(b""),
        };
        let refusal = line::told(&self.gateway, &who, stop).await;
        if refusal.status == http::StatusCode::FORBIDDEN {
            let shown: String = name.chars().take(64).collect();
            ErrorData::invalid_params(format!("Unknown tool: {shown}"), None)
        } else {
            ErrorData::internal_error(refusal.detail, None)
        }
    }
}

/// Whether a tool of ours has this name.
fn is_taken(state: &State, name: &str) -> bool {
    state.tools().named(name).next().is_some()
}

/// The tools that the Claw holds a grant for.
fn offered<'a>(state: &'a State, claw: &'a ClawName) -> impl Iterator<Item = Offered<'a>> {
    let now = Timestamp::now();
    let all = state.tools().all();
    all.filter(move |offered| state.speaks_of(claw, offered.link, &offered.action.id, now))
}

/// The one of them that has this name.
fn offered_as<'a>(state: &'a State, claw: &'a ClawName, name: &str) -> Option<Offered<'a>> {
    let now = Timestamp::now();
    let mut named = state.tools().named(name);
    named.find(|offered| state.speaks_of(claw, offered.link, &offered.action.id, now))
}

fn as_tool(offered: &Offered<'_>) -> Tool {
    let schema = match &offered.tool.input_schema {
        serde_json::Value::Object(schema) => schema.clone(),
        _ => JsonObject::new(),
    };
    let description: Cow<'static, str> = offered.tool.description.clone().into();
    let mut tool = Tool::new(offered.name.to_owned(), description, Arc::new(schema));
    tool.title = Some(offered.action.title.clone());
    let annotations = ToolAnnotations::new()
        .read_only(offered.action.access == Access::Read)
        .destructive(offered.action.access == Access::Destructive);
    tool.annotations = Some(annotations);
    tool
}

/// The service's answer as a tool result: its text, and its JSON where it is an object.
async fn result(offered: &Offered<'_>, response: Response<Body>) -> CallToolResult {
    let status = response.status();
    let known = response.extensions().get::<Succeeded>().copied();
    let bytes: Bytes = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return failed("the service's answer broke off; it may have taken effect"),
    };
    let (connector, action) = (&offered.link.connector, &offered.action.id);
    let read = || connector.summarise(action, status.as_u16(), &bytes).succeeded;
    let succeeded = known.map_or_else(read, |Succeeded(succeeded)| succeeded);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if !succeeded {
        return failed(&format!("the service answered {}: {text}", status.as_u16()));
    }
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = serde_json::from_slice(&bytes)
        .ok()
        .filter(serde_json::Value::is_object);
    result
}

fn failed(text: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

/// A refusal as a tool result, with the same problem document that an HTTP client reads.
fn refused(refusal: &Refusal) -> CallToolResult {
    let mut result = failed(&format!("{}: {}", refusal.title, refusal.detail));
    result.structured_content = serde_json::to_value(refusal.to_problem()).ok();
    result
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder().enable_tools().build();
        if foreign::any(&self.gateway.state.load(), &self.claw) {
            let mut resources = ResourcesCapability::default();
            resources.subscribe = Some(true);
            capabilities.resources = Some(resources);
            capabilities.logging = Some(JsonObject::new());
            capabilities.prompts = Some(PromptsCapability::default());
            capabilities.completions = Some(JsonObject::new());
        }
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("clawstaff-gateway", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "These are the actions granted to this Claw. A call that is refused says which rule refused it.",
            )
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let state = self.gateway.state.load_full();
        let mut tools: Vec<Tool> = offered(&state, &self.claw)
            .map(|offered| as_tool(&offered))
            .collect();
        let view = self.view();
        for server in self.servers().await {
            let offered = server
                .offer
                .tools
                .iter()
                .filter(|tool| view.offers(&server, tool));
            tools.extend(offered.filter_map(|tool| server.shown(tool)));
        }
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(reading::resources(
            self.view(),
            &self.servers().await,
        )))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let templates = reading::templates(self.view(), &self.servers().await);
        Ok(ListResourceTemplatesResult::with_all_items(templates))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let servers = self.servers().await;
        Box::pin(reading::read(self.view(), &servers, request, &context)).await
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(reading::prompts(
            self.view(),
            &self.servers().await,
        )))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let servers = self.servers().await;
        Box::pin(reading::prompt(self.view(), &servers, request, &context)).await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let servers = self.servers().await;
        Box::pin(reading::complete(self.view(), &servers, request, &context)).await
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if let Ok(serde_json::Value::String(level)) = serde_json::to_value(request.level) {
            self.conversation.set_level(level);
        }
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let servers = self.servers().await;
        Box::pin(reading::subscribe(self.view(), &servers, request.uri, &context)).await
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let servers = self.servers().await;
        Box::pin(reading::unsubscribe(self.view(), &servers, request.uri, &context)).await
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let (view, servers) = (self.view(), self.last_seen());
        let mut accepted = SubscriptionFilter::default();
        accepted.resource_subscriptions = requested.resource_subscriptions.as_ref().map(|uris| {
            let heard = uris.iter().filter(|uri| reading::may_listen(view, &servers, uri));
            heard.take(MAX_LISTENED).cloned().collect()
        });
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let servers = self.servers().await;
        let uris = context.accepted().resource_subscriptions.iter().flatten();
        let all: Vec<_> = uris
            .map(|uri| reading::listen(self.view(), &servers, uri, &context))
            .collect();
        if all.is_empty() {
            context.cancelled().await;
            return Ok(());
        }
        tokio::select! {
            ends = futures_util::future::try_join_all(all) => ends.map(drop),
            () = context.cancelled() => Ok(()),
        }
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let state = self.gateway.state.load_full();
        let own = offered_as(&state, &self.claw, name);
        own.map(|offered| as_tool(&offered)).or_else(|| {
            let (servers, view) = (self.last_seen(), self.view());
            servers.iter().find_map(|server| {
                let tool = server.tool(name).filter(|tool| view.offers(server, tool))?;
                server.shown(tool)
            })
        })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // Boxed, because rmcp moves the future of a handler several times before it is polled.
        let ct = context.ct.clone();
        let call = Box::pin(self.call(request, &context));
        // Dropping the call says that nobody waits for it any more; one that is under way goes on to its outcome.
        tokio::select! {
            result = call => result,
            () = ct.cancelled() => Err(ErrorData::internal_error("the call was cancelled", None)),
        }
    }
}
