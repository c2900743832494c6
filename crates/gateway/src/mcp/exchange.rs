//! One request to an MCP server outside, and everything that comes before its result: progress, words for the log,
//! questions of the server to the client.
//!
//! Questions are the client's to answer. Between a client and a server of one revision they stay what they are; for an
//! older client, a server of 2026-07-28 that wants more input gets it by the call being made again. An answer goes out
//! as a part of the call that it belongs to: it is judged as that action, and on record as that.

#![expect(
    deprecated,
    reason = "servers still log and ask in the ways that 2026-07-28 deprecates"
)]

use std::sync::Arc;

use bytes::Bytes;
use clawstaff_connectors::{Mapped, RequestView};
use http::{Method, Response};
use http_body_util::{BodyExt as _, Full};
use rmcp::{
    ErrorData, RoleServer,
    model::{
        CustomRequest, ErrorCode, LoggingMessageNotificationParam, ProgressNotificationParam, ServerRequest,
    },
    service::{RequestContext, ServiceError},
};
use serde_json::{Map, Value, json};

use super::{
    conversation::{self, Ear, Talk, is_stateless},
    definition::Definition,
    foreign::{Fault, Server, View, is_incomplete, no_answer, typed},
    wire::{self, Era, Events},
};
use crate::{
    body::Body,
    line::{self, Ask},
    map::{Route, Within},
    parse::{MAX_BODY, Via},
};

/// How often a server may want more input for one call of an older client, and questions at a time.
const MAX_ROUNDS: usize = 8;
const MAX_QUESTIONS: usize = 32;

type Context = RequestContext<RoleServer>;

/// What is asked of a server.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) method: &'static str,
    pub(super) params: Value,
    /// What it is about, if that has a name.
    pub(super) name: Option<&'a str>,
    /// The tool that it calls.
    pub(super) tool: Option<&'a Definition>,
}

impl View<'_> {
    /// Asks a server and waits for its result.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) async fn ask(
        &self,
        server: &Server,
        mut question: Question<'_>,
        context: &Context,
    ) -> Result<Value, Fault> {
        for _ in 0..MAX_ROUNDS {
            let result = self.ask_once(server, &question, context).await?;
            if !is_incomplete(&result) || is_stateless(context) {
                return Ok(result);
            }
            let responses = self.more_input(&result, context).await?;
            wire::set(&mut question.params, "inputResponses", responses);
            wire::set(
                &mut question.params,
                "requestState",
                result.get("requestState").cloned().unwrap_or_default(),
            );
        }
        let error = "the server wanted more input too often";
        Err(Fault::Error(ErrorData::internal_error(error, None)))
    }

    async fn ask_once(
        &self,
        server: &Server,
        question: &Question<'_>,
        context: &Context,
    ) -> Result<Value, Fault> {
        let era = server.offer.era;
        let mut params = question.params.clone();
        wire::set(&mut params, "_meta", self.meta(server, context));
        let body = Bytes::from(wire::message(question.method, &params));
        let mut request = http::Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = wire::headers(era, question.method, question.name);
        if let (Era::Stateless, Some(tool)) = (era, question.tool) {
            wire::name_arguments(request.headers_mut(), &tool.said, &params);
        }
        let talk = self.conversation.talk(&server.link, context);
        let ear = talk.to.is_some().then(|| self.conversation.ear(&server.link));
        let reading = Reading {
            view: self,
            server,
            asked: body,
            ear,
            context,
        };
        let sending = self.sent(server, talk, None, request);
        tokio::pin!(sending);
        let response = loop {
            tokio::select! {
                response = &mut sending => break response?,
                message = reading.heard() => reading.take(&message).await?,
            }
        };
        match reading.answer(response).await? {
            Value::Object(mut members) => match (members.remove("result"), members.remove("error")) {
                (Some(mut result), None) => {
                    // Servers of the older revision do not say it; rmcp leaves it out again for older clients.
                    if result.get("resultType").is_none() {
                        wire::set(&mut result, "resultType", "complete");
                    }
                    Ok(result)
                }
                (_, Some(error)) => Err(Fault::Error(typed(error).unwrap_or_else(no_answer))),
                (None, None) => Err(Fault::Error(no_answer())),
            },
            _ => Err(Fault::Error(no_answer())),
        }
    }

    /// Subscribes to a resource of a server with sessions, in a session of this conversation's own.
    pub(super) async fn subscribed(&self, server: &Server, uri: &str) -> Result<(), Fault> {
        let body = wire::message("resources/subscribe", &json!({ "uri": uri }));
        let mut request = http::Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = wire::headers(Era::Sessions, "resources/subscribe", None);
        let talk = self.conversation.listening(&server.link);
        let taken = self.sent(server, talk, None, request).await?;
        drop(taken.into_body().collect().await);
        Ok(())
    }

    /// Walks the line with a message to a server; one that is part of another call is judged as that.
    pub(super) async fn sent(
        &self,
        server: &Server,
        talk: Talk,
        of: Option<Arc<Mapped>>,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Response<Body>, Fault> {
        let link = Arc::clone(&server.link);
        let ask = Ask {
            claw: self.claw.clone(),
            via: Via::Door,
            route: Route::Server(Box::new(Within { link, talk, of })),
            request,
            max_body: MAX_BODY,
        };
        line::walk(self.gateway, ask).await.map_err(Fault::Refused)
    }

    /// What a server is told beside the call. Of what the client can do only what it may be asked for in an answer.
    fn meta(&self, server: &Server, context: &Context) -> Value {
        let era = server.offer.era;
        let mut meta = match era {
            Era::Sessions => json!({}),
            Era::Stateless => wire::meta(Value::Object(conversation::askable(context))),
        };
        if let (Era::Stateless, Some(level)) = (era, self.conversation.talk(&server.link, context).level) {
            wire::set(&mut meta, "io.modelcontextprotocol/logLevel", level);
        }
        if context.meta.get_progress_token().is_some() {
            wire::set(&mut meta, "progressToken", "call");
        }
        meta
    }

    /// The client's answers to what a server of 2026-07-28 wants to know.
    async fn more_input(&self, result: &Value, context: &Context) -> Result<Value, Fault> {
        let mut responses = Map::new();
        let wanted = result.get("inputRequests").and_then(Value::as_object);
        for (key, wanted) in wanted.into_iter().flatten().take(MAX_QUESTIONS) {
            let answer = self.put(wanted, context).await.map_err(Fault::Error)?;
            responses.insert(key.clone(), answer);
        }
        Ok(Value::Object(responses))
    }

    /// Puts a server's question to the client.
    async fn put(&self, question: &Value, context: &Context) -> Result<Value, ErrorData> {
        let method = question.get("method").and_then(Value::as_str).unwrap_or_default();
        let needs = match method {
            "ping" => return Ok(json!({})),
            "elicitation/create" => "elicitation",
            "sampling/createMessage" => "sampling",
            "roots/list" => "roots",
            _ => "nothing",
        };
        if is_stateless(context) || !conversation::askable(context).contains_key(needs) {
            let text = "the client cannot be asked for this";
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, text, None));
        }
        let request = CustomRequest::new(method, question.get("params").cloned());
        let request = ServerRequest::CustomRequest(request);
        let asked = context.peer.send_request(request);
        match tokio::time::timeout(self.gateway.waits.stream, asked).await {
            Ok(Ok(answer)) => serde_json::to_value(answer).map_err(|_| no_answer()),
            Ok(Err(ServiceError::McpError(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(ErrorData::internal_error("the client did not answer", None)),
        }
    }
}

/// The reading of one answer.
struct Reading<'a> {
    view: &'a View<'a>,
    server: &'a Server,
    asked: Bytes,
    ear: Option<Ear>,
    context: &'a Context,
}

impl Reading<'_> {
    /// The answer to a request; what comes before it is passed on as it comes.
    async fn answer(&self, response: Response<Body>) -> Result<Value, Fault> {
        let broken = || {
            let text = "the server's answer broke off or is none; the call may have taken effect";
            Fault::Error(ErrorData::internal_error(text, None))
        };
        let streamed = wire::is_stream(&response);
        let mut body = response.into_body();
        if !streamed {
            let whole = body.collect().await.map_err(|_| broken())?.to_bytes();
            return wire::last_answer(&whole).ok_or_else(broken);
        }
        let (mut events, mut found) = (Events::default(), None);
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                message = self.heard() => {
                    self.take(&message).await?;
                    continue;
                }
            };
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(|_| broken())?.into_data() else {
                continue;
            };
            for message in events.piece(&data) {
                if wire::is_answer(&message) {
                    found = Some(message);
                } else {
                    self.take(&message).await?;
                }
            }
        }
        while let Some(message) = self.ear.as_ref().and_then(Ear::waiting) {
            self.take(&message).await?;
        }
        found.ok_or_else(broken)
    }

    /// The next message on the session's own stream.
    async fn heard(&self) -> Value {
        match &self.ear {
            Some(ear) => ear.next().await,
            None => std::future::pending().await,
        }
    }

    /// A message that is no answer: passed on, or put to the client if it is a question.
    async fn take(&self, message: &Value) -> Result<(), Fault> {
        if message.get("id").is_none() {
            self.pass_on(message).await;
        } else if self.server.offer.era == Era::Sessions {
            self.reply(message).await?;
        }
        Ok(())
    }

    /// Has a question of the server answered, and sends the answer as a part of the call.
    async fn reply(&self, question: &Value) -> Result<(), Fault> {
        let id = question.get("id").cloned().unwrap_or_default();
        let reply = match self.view.put(question, self.context).await {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
        };
        let of = recognised(self.server, &self.asked)?;
        let mut request = http::Request::new(Full::from(reply.to_string()));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = wire::headers(Era::Sessions, "", None);
        let talk = self.view.conversation.talk(&self.server.link, self.context);
        let taken = self.view.sent(self.server, talk, Some(of), request).await?;
        drop(taken.into_body().collect().await);
        Ok(())
    }

    async fn pass_on(&self, message: &Value) {
        let (context, params) = (self.context, message.get("params").cloned().unwrap_or_default());
        match message.get("method").and_then(Value::as_str) {
            Some("notifications/progress") => {
                let params = typed::<ProgressNotificationParam>(params);
                if let (Some(mut params), Some(token)) = (params, context.meta.get_progress_token()) {
                    params.progress_token = token;
                    let _nobody_listens = context.peer.notify_progress(params).await;
                }
            }
            Some("notifications/message") => {
                let wanted = !is_stateless(context) || context.meta.log_level().is_some();
                if let Some(params) = typed::<LoggingMessageNotificationParam>(params).filter(|_| wanted) {
                    let _nobody_listens = context.peer.notify_logging_message(params).await;
                }
            }
            _ => {}
        }
    }
}

/// The action that a message to a server is.
pub(super) fn recognised(server: &Server, body: &[u8]) -> Result<Arc<Mapped>, Fault> {
    let view = RequestView {
        method: &Method::POST,
        path: "/",
        query: None,
        content_type: Some("application/json"),
        body,
    };
    let mapped = server.link.connector.recognise(&view);
    mapped.map(Arc::new).map_err(|_| Fault::Error(no_answer()))
}
