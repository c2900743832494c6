//! What stores answer, as their documentation shows it. Pure; of an answer only the one field that was asked for is kept.

use std::{collections::HashMap, fmt};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clawstaff_types::{Secret, StoredAt};
use clawstaff_vault::LookupError;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// KV version 2, `GET /v1/MOUNT/data/PATH`. A deleted version has no `data.data`.
#[derive(Deserialize)]
struct Kv {
    data: Option<KvData>,
}

#[derive(Deserialize)]
struct KvData {
    data: Option<HashMap<String, Field>>,
    metadata: Option<KvMetadata>,
}

#[derive(Deserialize)]
struct KvMetadata {
    #[serde(default)]
    destroyed: bool,
}

/// Kubernetes, `GET /api/v1/namespaces/NAMESPACE/secrets/NAME`.
#[derive(Deserialize)]
struct KubernetesSecret {
    kind: String,
    #[serde(default)]
    data: Option<HashMap<String, Field>>,
}

/// A value of an entry: text, or something else that is of no interest.
enum Field {
    Text(Secret<String>),
    Other,
}

/// The field of a KV entry.
pub(super) fn of_bao(place: &StoredAt, body: &[u8]) -> Result<Secret<Vec<u8>>, LookupError> {
    let answer: Kv = parsed(place, body, "KV version 2")?;
    let data = answer.data.ok_or_else(|| malformed(place, "KV version 2"))?;
    match (data.data, data.metadata) {
        (Some(fields), Some(_)) => {
            let text = text(place, fields)?;
            Ok(Secret::new(text.expose_secret().clone().into_bytes()))
        }
        (None, Some(metadata)) => Err(LookupError::Deleted {
            store: place.store().clone(),
            path: place.path().to_owned(),
            destroyed: metadata.destroyed,
        }),
        (_, None) => Err(malformed(place, "KV version 2")),
    }
}

/// The key of a Secret, which stands there in base64.
pub(super) fn of_kubernetes(place: &StoredAt, body: &[u8]) -> Result<Secret<Vec<u8>>, LookupError> {
    const EXPECTED: &str = "a Secret of Kubernetes";
    let answer: KubernetesSecret = parsed(place, body, EXPECTED)?;
    if answer.kind != "Secret" {
        return Err(malformed(place, EXPECTED));
    }
    let text = text(place, answer.data.unwrap_or_default())?;
    let value = BASE64_STANDARD.decode(text.expose_secret());
    value.map(Secret::new).map_err(|_| malformed(place, EXPECTED))
}

/// Whether the body of a 404 speaks of an entry whose newest version was deleted, and then whether it was destroyed.
pub(super) fn deleted(body: &[u8]) -> Option<bool> {
    let answer: Kv = serde_json::from_slice(body).ok()?;
    Some(answer.data?.metadata?.destroyed)
}

fn text(place: &StoredAt, mut fields: HashMap<String, Field>) -> Result<Secret<String>, LookupError> {
    let (store, path, field) = (
        place.store().clone(),
        place.path().to_owned(),
        place.field().to_owned(),
    );
    match fields.remove(place.field()) {
        Some(Field::Text(text)) => Ok(text),
        Some(Field::Other) => Err(LookupError::NotText { store, path, field }),
        None => Err(LookupError::NoField { store, path, field }),
    }
}

fn parsed<'a, T: Deserialize<'a>>(
    place: &StoredAt,
    body: &'a [u8],
    expected: &'static str,
) -> Result<T, LookupError> {
    // The parser's own words would quote the answer.
    serde_json::from_slice(body).map_err(|_| malformed(place, expected))
}

fn malformed(place: &StoredAt, expected: &'static str) -> LookupError {
    LookupError::Malformed {
        store: place.store().clone(),
        expected,
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(Secret::new(text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Field, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}
