//! Resources and prompts of MCP servers: listed and read as far as the Claw is granted them.
//!
//! A prompt or resource that may not be read is answered like one that does not exist; that it was tried is on
//! record.

use std::sync::Arc;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CompleteRequestParams, CompleteResult, GetPromptRequestParams, GetPromptResponse, Prompt,
        ReadResourceRequestParams, ReadResourceResponse, Reference, Resource, ResourceTemplate,
    },
    service::{RequestContext, SubscriptionContext},
};
use serde_json::{Value, json};

use super::{
    conversation::Conversation,
    exchange::Question,
    foreign::{Fault, Server, View, is_incomplete, no_answer, typed},
    updates::{self, Listener},
    wire::{self, Era},
};

type Context = RequestContext<RoleServer>;

/// The resources that the Claw may read.
pub(super) fn resources(view: View<'_>, servers: &[Server]) -> Vec<Resource> {
    let mut all = Vec::new();
    for server in servers {
        let granted = server
            .offer
            .resources
            .iter()
            .filter(|said| text(said, "uri").is_some_and(|uri| view.may_read(server, "resource", uri)));
        all.extend(granted.cloned().filter_map(typed::<Resource>));
    }
    all
}

/// The templates of which the Claw may read some resource: the part before the first variable is one it may read
/// below, or all of the server's resources are.
pub(super) fn templates(view: View<'_>, servers: &[Server]) -> Vec<ResourceTemplate> {
    let mut all = Vec::new();
    for server in servers {
        let granted = server.offer.templates.iter().filter(|said| {
            let fixed = text(said, "uriTemplate").and_then(|template| template.split('{').next());
            fixed.is_some_and(|fixed| view.may_read(server, "resource", &format!("{fixed}any")))
        });
        all.extend(granted.cloned().filter_map(typed::<ResourceTemplate>));
    }
    all
}

/// The prompts that the Claw may get.
pub(super) fn prompts(view: View<'_>, servers: &[Server]) -> Vec<Prompt> {
    let mut all = Vec::new();
    for server in servers {
        for said in &server.offer.prompts {
            let name = text(said, "name").filter(|name| view.may_read(server, "prompt", name));
            let shown = name.and_then(|name| {
                let mut said = said.clone();
                wire::set(&mut said, "name", server.name_of(name));
                typed::<Prompt>(said)
            });
            all.extend(shown);
        }
    }
    all
}

fn text<'a>(said: &'a Value, member: &str) -> Option<&'a str> {
    said.get(member).and_then(Value::as_str)
}

/// Reads a resource: of the server that lists it, else of the first on which it may be read.
pub(super) async fn read(
    view: View<'_>,
    servers: &[Server],
    request: ReadResourceRequestParams,
    context: &Context,
) -> Result<ReadResourceResponse, ErrorData> {
    let uri = request.uri.clone();
    let server = holder(view, servers, &uri).ok_or_else(|| no_resource(&uri))?;
    let mut params = json!({ "uri": uri });
    retry(&mut params, &json!(request));
    match view
        .ask(server, about("resources/read", params, Some(&uri)), context)
        .await
    {
        Ok(result) if is_incomplete(&result) => typed(result)
            .map(ReadResourceResponse::InputRequired)
            .ok_or_else(no_answer),
        Ok(result) => typed(result)
            .map(ReadResourceResponse::Complete)
            .ok_or_else(no_answer),
        Err(fault) => Err(told(fault, || no_resource(&uri))),
    }
}

fn holder<'a>(view: View<'_>, servers: &'a [Server], uri: &str) -> Option<&'a Server> {
    let lists = |server: &&Server| {
        let resources = &server.offer.resources;
        resources.iter().any(|said| text(said, "uri") == Some(uri))
    };
    let readable = || {
        servers
            .iter()
            .find(|server| view.may_read(server, "resource", uri))
    };
    servers
        .iter()
        .find(lists)
        .or_else(readable)
        .or_else(|| servers.first())
}

/// Gets a prompt.
pub(super) async fn prompt(
    view: View<'_>,
    servers: &[Server],
    request: GetPromptRequestParams,
    context: &Context,
) -> Result<GetPromptResponse, ErrorData> {
    let (server, name) = of_prompt(servers, &request.name).ok_or_else(|| no_prompt(&request.name))?;
    let arguments = request.arguments.clone().unwrap_or_default();
    let mut params = json!({ "name": name, "arguments": arguments });
    retry(&mut params, &json!(request));
    match view
        .ask(server, about("prompts/get", params, Some(name)), context)
        .await
    {
        Ok(result) if is_incomplete(&result) => typed(result)
            .map(GetPromptResponse::InputRequired)
            .ok_or_else(no_answer),
        Ok(result) => typed(result)
            .map(GetPromptResponse::Complete)
            .ok_or_else(no_answer),
        Err(fault) => Err(told(fault, || no_prompt(&request.name))),
    }
}

fn of_prompt<'a>(servers: &'a [Server], name: &'a str) -> Option<(&'a Server, &'a str)> {
    servers.iter().find_map(|server| {
        let own = server.own_name(name)?;
        let has = server
            .offer
            .prompts
            .iter()
            .any(|said| text(said, "name") == Some(own));
        has.then_some((server, own))
    })
}

/// Completes an argument of a prompt or of a template.
pub(super) async fn complete(
    view: View<'_>,
    servers: &[Server],
    request: CompleteRequestParams,
    context: &Context,
) -> Result<CompleteResult, ErrorData> {
    let mut params = json!(request);
    let server = match &request.r#ref {
        Reference::Prompt(reference) => {
            let (server, name) =
                of_prompt(servers, &reference.name).ok_or_else(|| no_prompt(&reference.name))?;
            if let Some(reference) = params.get_mut("ref") {
                wire::set(reference, "name", name);
            }
            Some(server)
        }
        Reference::Resource(reference) => servers.iter().find(|server| {
            let templates = &server.offer.templates;
            templates
                .iter()
                .any(|said| text(said, "uriTemplate") == Some(&reference.uri))
        }),
        _ => None,
    };
    let server =
        server.ok_or_else(|| ErrorData::invalid_params("nothing of that name can be completed", None))?;
    let unknown = || ErrorData::invalid_params("nothing of that name can be completed", None);
    match view
        .ask(server, about("completion/complete", params, None), context)
        .await
    {
        Ok(result) => typed(result).ok_or_else(no_answer),
        Err(fault) => Err(told(fault, unknown)),
    }
}

const fn about<'a>(method: &'static str, params: Value, name: Option<&'a str>) -> Question<'a> {
    Question {
        method,
        params,
        name,
        tool: None,
    }
}

/// Subscribes to a resource. Its changes are told from now on, until the client does not want that any more.
pub(super) async fn subscribe(
    view: View<'_>,
    servers: &[Server],
    uri: String,
    context: &Context,
) -> Result<(), ErrorData> {
    let server = holder(view, servers, &uri).filter(|server| view.may_read(server, "resource", &uri));
    let server = server.ok_or_else(|| no_resource(&uri))?.clone();
    if server.offer.era == Era::Sessions {
        let question = about("resources/subscribe", json!({ "uri": uri }), Some(&uri));
        let taken = view.ask(&server, question, context).await;
        taken.map_err(|fault| told(fault, || no_resource(&uri)))?;
    }
    let ended = view.conversation.subscribe(&uri).ok_or_else(|| {
        ErrorData::invalid_request("8 resources at most can be subscribed to at a time", None)
    })?;
    let (talk, peer) = (
        view.conversation.talk(&server.link, context),
        context.peer.clone(),
    );
    let updates = view.conversation.updates(&server.link);
    let (gateway, claw) = (Arc::clone(view.gateway), view.claw.clone());
    let listening = async move {
        // What is listened to here has no part in what the client says later.
        let conversation = Conversation::new(Arc::clone(&gateway), claw.clone());
        let view = View {
            gateway: &gateway,
            claw: &claw,
            conversation: &conversation,
        };
        let listener = Listener::Session(peer);
        match server.offer.era {
            Era::Sessions => updates::hear(view, &server, &uri, updates, listener).await,
            Era::Stateless => {
                if let Ok(stream) = updates::open(view, &server, talk, &uri).await {
                    updates::follow(view, &server, &uri, stream, listener).await;
                }
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = listening => {}
            () = ended.cancelled() => {}
        }
    });
    Ok(())
}

/// Ends a subscription.
pub(super) async fn unsubscribe(
    view: View<'_>,
    servers: &[Server],
    uri: String,
    context: &Context,
) -> Result<(), ErrorData> {
    view.conversation.unsubscribe(&uri);
    let server = holder(view, servers, &uri).filter(|server| view.may_read(server, "resource", &uri));
    let server = server.ok_or_else(|| no_resource(&uri))?;
    if server.offer.era == Era::Sessions {
        let question = about("resources/unsubscribe", json!({ "uri": uri }), Some(&uri));
        let taken = view.ask(server, question, context).await;
        taken.map_err(|fault| told(fault, || no_resource(&uri)))?;
    }
    Ok(())
}

/// Whether the Claw may listen to changes of a resource, on the server that holds it.
pub(super) fn may_listen(view: View<'_>, servers: &[Server], uri: &str) -> bool {
    holder(view, servers, uri).is_some_and(|server| view.may_read(server, "resource", uri))
}

/// Tells of changes of a resource until its server ends that or the future is dropped.
pub(super) async fn listen(
    view: View<'_>,
    servers: &[Server],
    uri: &str,
    context: &SubscriptionContext,
) -> Result<(), ErrorData> {
    let request = context.request_context();
    let server = holder(view, servers, uri).ok_or_else(|| no_resource(uri))?;
    let refused = |fault| told(fault, || no_resource(uri));
    let listener = Listener::Stream(context.sink().clone());
    match server.offer.era {
        Era::Sessions => {
            let updates = view.conversation.updates(&server.link);
            view.subscribed(server, uri).await.map_err(refused)?;
            updates::hear(view, server, uri, updates, listener).await;
        }
        Era::Stateless => {
            let talk = view.conversation.talk(&server.link, request);
            let stream = updates::open(view, server, talk, uri).await.map_err(refused)?;
            updates::follow(view, server, uri, stream, listener).await;
        }
    }
    Ok(())
}

/// What a client answers to a server that wanted more input before.
fn retry(params: &mut Value, request: &Value) {
    for member in ["inputResponses", "requestState"] {
        if let Some(value) = request.get(member) {
            wire::set(params, member, value.clone());
        }
    }
}

/// A no of policy looks like nothing of that name; every other refusal is told.
fn told(fault: Fault, unknown: impl FnOnce() -> ErrorData) -> ErrorData {
    match fault {
        Fault::Refused(refusal) if refusal.status == http::StatusCode::FORBIDDEN => unknown(),
        Fault::Refused(refusal) => ErrorData::internal_error(refusal.detail, None),
        Fault::Error(error) => error,
    }
}

fn no_resource(uri: &str) -> ErrorData {
    let shown: String = uri.chars().take(200).collect();
    ErrorData::resource_not_found(format!("Resource not found: {shown}"), None)
}

fn no_prompt(name: &str) -> ErrorData {
    let shown: String = name.chars().take(64).collect();
    ErrorData::invalid_params(format!("Unknown prompt: {shown}"), None)
}
