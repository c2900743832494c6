//! JSON in which every name means one thing.
//!
//! RFC 8259 leaves open what a second member of the same name means, and parsers differ. A document that has
//! one is refused, at any depth, so policy and the tool cannot read different values.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Why a body is not JSON that can be judged. The texts hold no part of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// Not RFC 8259, not UTF-8, or nested deeper than 128.
    Malformed,
    /// A member occurs twice in one object.
    Duplicate,
}

const DUPLICATE: &str = "duplicate member";

/// Parses a whole body.
pub(crate) fn parse(body: &[u8]) -> Result<Value, JsonError> {
    let classify = |error: serde_json::Error| {
        if error.to_string().starts_with(DUPLICATE) {
            JsonError::Duplicate
        } else {
            JsonError::Malformed
        }
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Unique.deserialize(&mut reader).map_err(classify)?;
    reader.end().map_err(classify)?;
    Ok(value)
}

/// A value all of whose objects have each member once.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element_seed(Self)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(Self)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_occurs_twice_is_refused_at_any_depth_and_in_any_spelling() {
        for body in [
            r#"{"channel":"A","channel":"B"}"#,
            r#"{"a":[{"b":{"c":1,"c":1}}]}"#,
            r#"{"channel":"A","\u0063hannel":"B"}"#,
        ] {
            assert_eq!(parse(body.as_bytes()), Err(JsonError::Duplicate), "{body}");
        }
    }

    #[test]
    fn other_json_is_as_serde_json_reads_it() {
        let body = r#" {"a":[1,-2,3.5,true,null,"x\n"],"b":{}} "#;
        assert_eq!(
            parse(body.as_bytes()).unwrap(),
            serde_json::from_str::<Value>(body).unwrap()
        );
        for body in ["", "{", "{}x", "\u{feff}{}", "[1,]"] {
            assert_eq!(parse(body.as_bytes()), Err(JsonError::Malformed), "{body}");
        }
        assert_eq!(parse("[".repeat(10_000).as_bytes()), Err(JsonError::Malformed));
    }
}
