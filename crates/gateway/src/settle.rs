//! settle: what came back is on record, and every path ends here.
//!
//! A whole answer is released to the cage when its outcome is durable; a streamed one flows after the durable
//! intent and its outcome follows at its end or break ([`stream`]). A [`Settling`] that is dropped without
//! being settled records that the outcome is unknown.

mod stream;
mod usage;

use std::sync::Arc;

use bytes::Bytes;
use clawstaff_audit::{AppendError, Phase};
use clawstaff_types::Outcome;
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::{
    body::{self, Body, full},
    budget::Reservation,
    content::PartsError,
    decide::Question,
    forward::{Answered, ForwardError},
    inject::InjectError,
    limits::Place,
    line::subject::{self, CallKeys},
    mask::Mask,
    problem::{Refusal, UPSTREAM},
    record::{Intent, Stop},
    shared::Gateway,
};

/// The largest answer that is kept whole before it is released, in bytes.
const MAX_ANSWER: usize = 32 << 20;

/// Goes with a whole answer: whether the tool did what it was asked to, by the connector's reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Succeeded(pub(crate) bool);

/// A call under way: its intent is durable, its outcome is owed.
#[derive(Debug)]
pub(crate) struct Settling {
    gateway: Arc<Gateway>,
    owed: Option<Intent>,
    spend: Option<Reservation>,
    /// Held for as long as the call is under way.
    _place: Place,
    keys: CallKeys,
    question: Question,
}

impl Settling {
    pub(crate) const fn new(
        gateway: Arc<Gateway>,
        intent: Intent,
        spend: Reservation,
        place: Place,
        keys: CallKeys,
        question: Question,
    ) -> Self {
        Self {
            gateway,
            owed: Some(intent),
            spend: Some(spend),
            _place: place,
            keys,
            question,
        }
    }

    /// The credential could not join: nothing was sent.
    pub(crate) async fn not_injected(self, error: InjectError) -> Stop {
        tracing::warn!(connection = %self.question.link.name(), error = chain(&error), "credential not injected");
        let remedy = if error.is_not_for_this() {
            "is not for this connection or its address; nothing was sent. Its operator can allow it with \
             `clawstaff secret bind` at the gateway"
        } else {
            "is not available at the gateway; nothing was sent. Its operator can set it"
        };
        let refusal = Refusal::new(
            StatusCode::BAD_GATEWAY,
            "credential",
            "The credential is not available",
            format!(
                "the credential of connection `{}` {remedy}",
                self.question.link.name()
            ),
        );
        self.failed(Outcome::Failed, error.as_str(), refusal).await
    }

    /// The request could not be kept although the operator wants that: nothing was sent.
    pub(crate) async fn not_kept(self, error: &PartsError) -> Stop {
        tracing::error!(error = chain(error), "a request could not be kept");
        let refusal = Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "content-unavailable",
            "The content cannot be kept",
            "this organization keeps what is sent, and that cannot be written now; nothing was sent",
        );
        self.failed(Outcome::Failed, "content", refusal).await
    }

    /// No answer came back.
    pub(crate) async fn not_forwarded(self, error: ForwardError) -> Stop {
        let (status, outcome) = match &error {
            ForwardError::AnswerTimeout(_) | ForwardError::ConnectTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, &error)
            }
            ForwardError::Address
            | ForwardError::Connect
            | ForwardError::Tls
            | ForwardError::Handshake
            | ForwardError::TlsExpired
            | ForwardError::TlsName
            | ForwardError::Broken => (StatusCode::BAD_GATEWAY, &error),
        };
        let (outcome, sent) = if outcome.never_sent() {
            (Outcome::Failed, "nothing was sent")
        } else {
            (Outcome::Unknown, "it may have taken effect")
        };
        let detail = format!("{error} (connection `{}`); {sent}", self.question.link.name());
        let refusal = Refusal::new(status, UPSTREAM, "The service did not answer", detail);
        self.failed(outcome, error.as_str(), refusal).await
    }

    async fn failed(mut self, outcome: Outcome, error: &str, refusal: Refusal) -> Stop {
        let mut facts = vec![("error", error.to_owned())];
        if outcome == Outcome::Unknown
            && let Some(spend) = self.spend.take()
        {
            facts.extend(spend.keep());
        } else if let Some(spend) = self.spend.take() {
            facts.extend(spend.release());
        }
        match self.close(outcome, facts, None).await {
            Ok(()) => Stop::Told(refusal),
            Err(_) => Stop::Told(unrecorded()),
        }
    }

    /// An answer came back: release it when its outcome is durable, or let it flow.
    pub(crate) async fn answered(self, answered: Answered) -> Result<Response<Body>, Stop> {
        let Answered { response, secret } = answered;
        let mut mask = self.gateway.masks.of(self.question.link.name(), &secret);
        let (mut head, body) = response.into_parts();
        let streamed = is_event_stream(&head.headers);
        let encoded = is_encoded(&head.headers);
        head.headers = travelling(&head.headers);
        mask.headers(&mut head.headers);
        head.version = http::Version::HTTP_11;
        head.extensions.clear();
        if streamed && !encoded {
            let body = stream::flow(self, head.status, body, mask);
            return Ok(Response::from_parts(head, body));
        }
        let (body, succeeded) = self.whole(head.status, body, &mut mask, encoded).await?;
        head.extensions.insert(Succeeded(succeeded));
        Ok(Response::from_parts(head, full(body)))
    }

    async fn whole(
        mut self,
        status: StatusCode,
        body: Incoming,
        mask: &mut Mask,
        encoded: bool,
    ) -> Result<(Bytes, bool), Stop> {
        let waits = &self.gateway.waits;
        let read = tokio::time::timeout(waits.whole, body::read(body, MAX_ANSWER, waits.piece)).await;
        let read = read.unwrap_or(Err(body::BodyError::Slow(waits.whole)));
        let bytes = match read {
            Ok(bytes) => mask.body(bytes),
            Err(error) => {
                let detail =
                    format!("the service's answer could not be read: {error}; it may have taken effect");
                let refusal = Refusal::new(StatusCode::BAD_GATEWAY, UPSTREAM, "The answer broke off", detail);
                return Err(self.failed(Outcome::Unknown, "answer_body", refusal).await);
            }
        };
        let summary =
            self.question
                .link
                .connector
                .summarise(&self.question.mapped.action, status.as_u16(), &bytes);
        let mut facts = vec![
            ("status", status.as_u16().to_string()),
            ("response_bytes", bytes.len().to_string()),
        ];
        facts.extend(summary.items.map(|items| ("items", items.to_string())));
        facts.extend(summary.error.map(|error| ("error", error)));
        if !summary.ids.is_empty() {
            facts.push(("ids", summary.ids.join(" ")));
        }
        tokens(&mut facts, summary.tokens);
        if encoded {
            facts.push(("withheld", "content-encoding".to_owned()));
        }
        let outcome = if summary.succeeded {
            Outcome::Succeeded
        } else {
            Outcome::Failed
        };
        if let Some(spend) = self.spend.take() {
            facts.extend(if status.is_success() {
                spend.settle(summary.tokens)
            } else {
                spend.release()
            });
        }
        let digest = {
            let mut running = self.keys.subject.commit.begin("response");
            running.update(&bytes);
            running.end()
        };
        if !self.keep(&bytes).await {
            facts.push(("content", "not kept".to_owned()));
        }
        match self.close(outcome, facts, Some(digest)).await {
            Err(_) => Err(Stop::Told(unrecorded())),
            Ok(()) if encoded => Err(Stop::Told(Refusal::new(
                StatusCode::BAD_GATEWAY,
                UPSTREAM,
                "The answer cannot be released",
                "the service compressed its answer although that was not asked for; the call took effect",
            ))),
            Ok(()) => Ok((bytes, summary.succeeded)),
        }
    }

    /// Keeps what came back, if the operator wants that. Whether nothing is missing.
    async fn keep(&self, response: &[u8]) -> bool {
        match &self.owed {
            Some(intent) => {
                subject::keep_response(&self.gateway, intent.receipt.index(), &self.keys, response).await
            }
            None => true,
        }
    }

    /// Makes the outcome durable.
    async fn close(
        &mut self,
        outcome: Outcome,
        facts: Vec<(&'static str, String)>,
        response: Option<clawstaff_types::Digest>,
    ) -> Result<(), AppendError> {
        let Some(mut intent) = self.owed.take() else {
            return Ok(());
        };
        intent.event.outcome = Some(outcome);
        let facts = facts.into_iter().map(|(label, fact)| (label.to_owned(), fact));
        intent.event.facts.extend(facts);
        if let Some(digest) = response {
            intent.event.digests.insert("response".to_owned(), digest);
        }
        append_outcome(&self.gateway, intent).await
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if let Some(spend) = self.spend.take() {
            if self.owed.is_some() {
                spend.keep();
            } else {
                drop(spend);
            }
        }
        let (Some(mut intent), Ok(runtime)) = (self.owed.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let gateway = Arc::clone(&self.gateway);
        runtime.spawn(async move {
            let event = &mut intent.event;
            event.outcome = Some(Outcome::Unknown);
            event.facts.insert("error".to_owned(), "abandoned".to_owned());
            let _the_log_itself_reports_it = append_outcome(&gateway, intent).await;
        });
    }
}

async fn append_outcome(gateway: &Gateway, intent: Intent) -> Result<(), AppendError> {
    let phase = Phase::Outcome {
        of: intent.receipt.index(),
    };
    let appending = gateway
        .log
        .append_event(intent.stream, phase, intent.call, &intent.event);
    let appended = appending.await.map(drop);
    if let Err(error) = &appended {
        tracing::error!(error = chain(error), "an outcome could not be recorded");
    }
    appended
}

fn unrecorded() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "log-unavailable",
        "The audit log cannot be written",
        "the audit log cannot be written; the call was sent and may have taken effect, and its answer is withheld",
    )
}

fn tokens(facts: &mut Vec<(&'static str, String)>, tokens: Option<(u64, u64)>) {
    if let Some((input, output)) = tokens {
        facts.push(("tokens_in", input.to_string()));
        facts.push(("tokens_out", output.to_string()));
    }
}

/// An error with its causes, for the gateway's own trace.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    media_type.is_some_and(|text| {
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("text/event-stream")
    })
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Headers of an answer that are between two hops or would speak for the service's own site.
static DROPPED: [HeaderName; 13] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::TE,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::SET_COOKIE,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

fn travelling(received: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(received.len());
    for (name, value) in received {
        if !DROPPED.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}
