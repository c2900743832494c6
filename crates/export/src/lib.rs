//! Audit entries in the formats that other people's systems read.
//!
//! Pure: an [`Item`] goes in, bytes come out; no clock, no network, no file. Two processes use it: the control
//! plane for what `audit export` asks for, and the gateway for its sinks. Nothing here can make a record up or
//! leave one out, and no text in an event, however hostile, can look like the start of another record: see
//! [`text`].
//!
//! ```text
//! Stored ─► Item ─┬─► jsonl   one JSON object a line, the documented field names
//!                 ├─► csv     RFC 4180, one record a line, no cell is a formula
//!                 ├─► ocsf    1.9.0, and down to 1.1.0
//!                 ├─► cef     ArcSight Common Event Format, version 0
//!                 ├─► syslog  RFC 5424 around OCSF
//!                 └─► otlp    OpenTelemetry log records, protobuf
//! ```

pub mod cef;
pub mod csv;
mod format;
mod item;
pub mod jsonl;
pub mod ocsf;
pub mod otlp;
mod severity;
pub mod sink;
pub mod syslog;
pub mod text;

pub use format::{Format, UnknownFormat};
pub use item::{Covering, Item, Part};
pub use severity::Severity;

/// Who made the records, in every format that names its producer.
pub const PRODUCT: &str = "ClawStaff";
/// The version of the producer.
pub const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");
