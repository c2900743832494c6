//! Reading the arguments of local tools, as a model wrote them. Pure.

use http::{HeaderName, HeaderValue, Method, Uri};
use rustix::process::Signal;
use serde_json::{Map, Value};

/// Headers of one request.
const MAX_HEADERS: usize = 32;

/// A call of a local tool, understood.
#[derive(Debug)]
pub(super) enum LocalCall {
    /// `read_file {path}`
    ReadFile { path: String },
    /// `write_file {path, content}`
    WriteFile { path: String, content: String },
    /// `list_directory {path}`
    ListDirectory { path: String },
    /// `http_request {method, url, body?, headers?}`
    HttpRequest(HttpRequest),
    /// `list_processes {}`
    ListProcesses,
    /// `send_signal {pid, signal}`; no signal is signal 0, which only asks whether one could be sent.
    SendSignal { pid: i32, signal: Option<Signal> },
    /// `show_environment {}`
    ShowEnvironment,
}

/// A request to somewhere else.
#[derive(Debug)]
pub(super) struct HttpRequest {
    pub(super) method: Method,
    /// Absolute, http or https.
    pub(super) url: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: String,
}

/// Arguments that a tool does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgumentError {
    #[error("there is no tool of that name")]
    NoSuchTool,
    #[error("the argument `{0}` is missing or is not text")]
    NotText(&'static str),
    #[error("the argument `pid` is missing or is not a process id")]
    NotPid,
    #[error("the argument `signal` is not the name or number of a signal")]
    NotSignal,
    #[error("the argument `method` is not an HTTP method")]
    NotMethod,
    #[error("the argument `url` is not an http or https URL with a host")]
    NotUrl,
    #[error("the argument `headers` is not an object of at most {MAX_HEADERS} header values")]
    NotHeaders,
    #[error("the header `{0}` belongs to the connection and cannot be set")]
    ReservedHeader(String),
}

impl LocalCall {
    /// Reads a call. Arguments that the tool does not know are left alone.
    ///
    /// # Errors
    /// When an argument is missing or is not what the tool takes.
    pub(super) fn parse(name: &str, arguments: &Map<String, Value>) -> Result<Self, ArgumentError> {
        match name {
            "read_file" => Ok(Self::ReadFile {
                path: text(arguments, "path")?,
            }),
            "write_file" => Ok(Self::WriteFile {
                path: text(arguments, "path")?,
                content: text(arguments, "content")?,
            }),
            "list_directory" => Ok(Self::ListDirectory {
                path: text(arguments, "path")?,
            }),
            "http_request" => Ok(Self::HttpRequest(http_request(arguments)?)),
            "list_processes" => Ok(Self::ListProcesses),
            "send_signal" => Ok(Self::SendSignal {
                pid: pid(arguments.get("pid"))?,
                signal: signal(arguments.get("signal"))?,
            }),
            "show_environment" => Ok(Self::ShowEnvironment),
            _ => Err(ArgumentError::NoSuchTool),
        }
    }
}

fn text(arguments: &Map<String, Value>, field: &'static str) -> Result<String, ArgumentError> {
    let value = arguments.get(field).and_then(Value::as_str);
    value.map(str::to_owned).ok_or(ArgumentError::NotText(field))
}

/// A number or its decimal text; `i32::MIN` has no positive counterpart and is no process group.
fn pid(value: Option<&Value>) -> Result<i32, ArgumentError> {
    let number = match value {
        Some(Value::Number(number)) => number.as_i64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    number
        .and_then(|number| i32::try_from(number).ok())
        .filter(|pid| *pid != i32::MIN)
        .ok_or(ArgumentError::NotPid)
}

const SIGNALS: &[(&str, Signal)] = &[
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ABRT", Signal::ABORT),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("CHLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
];

fn signal(value: Option<&Value>) -> Result<Option<Signal>, ArgumentError> {
    let text = match value {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.trim().to_ascii_uppercase(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => {
            return Err(ArgumentError::NotSignal);
        }
    };
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            0 => Ok(None),
            _ => Signal::from_named_raw(number)
                .map(Some)
                .ok_or(ArgumentError::NotSignal),
        };
    }
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    let known = SIGNALS.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, signal)| Some(*signal))
        .ok_or(ArgumentError::NotSignal)
}

fn http_request(arguments: &Map<String, Value>) -> Result<HttpRequest, ArgumentError> {
    let method = text(arguments, "method")?.to_ascii_uppercase();
    let url: Uri = text(arguments, "url")?
        .parse()
        .map_err(|_| ArgumentError::NotUrl)?;
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    if !matches!(url.scheme_str(), Some("http" | "https")) || !has_host {
        return Err(ArgumentError::NotUrl);
    }
    Ok(HttpRequest {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| ArgumentError::NotMethod)?,
        url,
        headers: headers(arguments.get("headers"))?,
        body: body(arguments.get("body")),
    })
}

/// Text as it is; anything else as its JSON, which is what a model that writes an object means.
fn body(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn headers(value: Option<&Value>) -> Result<Vec<(HeaderName, HeaderValue)>, ArgumentError> {
    let map = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(map)) if map.len() <= MAX_HEADERS => map,
        Some(_) => return Err(ArgumentError::NotHeaders),
    };
    map.iter().map(|(name, value)| header(name, value)).collect()
}

fn header(name: &str, value: &Value) -> Result<(HeaderName, HeaderValue), ArgumentError> {
    let name: HeaderName = name.parse().map_err(|_| ArgumentError::NotHeaders)?;
    let reserved = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    if reserved.contains(&name.as_str()) {
        return Err(ArgumentError::ReservedHeader(name.to_string()));
    }
    let value = value.as_str().ok_or(ArgumentError::NotHeaders)?;
    Ok((name, value.parse().map_err(|_| ArgumentError::NotHeaders)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(name: &str, arguments: Value) -> Result<LocalCall, ArgumentError> {
        LocalCall::parse(name, arguments.as_object().unwrap())
    }

    #[test]
    fn signals_are_read_by_name_and_by_number() {
        for (given, expected) in [
            (json!("TERM"), Some(Signal::TERM)),
            (json!("sigkill"), Some(Signal::KILL)),
            (json!(9), Some(Signal::KILL)),
            (json!("15"), Some(Signal::TERM)),
            (json!(0), None),
        ] {
            match parse("send_signal", json!({ "pid": -1, "signal": given })) {
                Ok(LocalCall::SendSignal { pid: -1, signal }) => assert_eq!(signal, expected),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            parse("send_signal", json!({ "pid": 1, "signal": "HUGE" })).unwrap_err(),
            ArgumentError::NotSignal
        );
        assert_eq!(
            parse("send_signal", json!({ "pid": "x", "signal": 9 })).unwrap_err(),
            ArgumentError::NotPid
        );
    }

    #[test]
    fn requests_go_to_http_and_https_hosts_only() {
        for url in [
            "file:///etc/passwd",
            "/relative",
            "http://",
            "ftp://a/b",
            "nonsense",
        ] {
            let error = parse("http_request", json!({ "method": "GET", "url": url })).unwrap_err();
            assert_eq!(error, ArgumentError::NotUrl, "{url}");
        }
        assert!(
            parse(
                "http_request",
                json!({ "method": "post", "url": "https://a.com/b", "body": {"a": 1} })
            )
            .is_ok()
        );
    }

    #[test]
    fn headers_of_the_connection_cannot_be_set() {
        let arguments =
            json!({ "method": "GET", "url": "http://a", "headers": { "Transfer-Encoding": "chunked" } });
        assert!(matches!(
            parse("http_request", arguments),
            Err(ArgumentError::ReservedHeader(_))
        ));
    }

    proptest! {
        #[test]
        fn no_arguments_make_reading_panic(
            tool in "(read_file|send_signal|http_request|other)",
            field in "(path|pid|signal|method|url|headers|body)",
            text in "\\PC{0,40}",
            number in any::<i64>(),
        ) {
            for value in [json!(text), json!(number), json!({ text.clone(): text.clone() }), json!([number])] {
                let _ = parse(&tool, json!({
                    "pid": 1, "signal": 1, "method": "GET", "url": "http://a", field.clone(): value,
                }));
            }
        }
    }
}
