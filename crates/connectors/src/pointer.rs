//! Places in a JSON document: `parent.database_id`, `messages[].ts`.
//!
//! `a.b` goes into objects, `[]` into every element of an array. A member whose name differs from a step only
//! in letter case makes the document ambiguous: some servers would read it.

use serde_json::Value;

/// Steps that a pointer may have.
const MAX_STEPS: usize = 12;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Each,
}

/// A place, or with `[]` several, in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<Step>);

/// A member has another's name in other letter case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CaseVariant;

impl Pointer {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        for word in text.split('.') {
            let name = word.trim_end_matches("[]");
            let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b' ');
            if !name.bytes().all(ok) || (name.is_empty() && !steps.is_empty()) {
                return None;
            }
            if !name.is_empty() {
                steps.push(Step::Member(name.to_owned()));
            }
            let arrays = (word.len() - name.len()) / 2;
            steps.extend(std::iter::repeat_n(Step::Each, arrays));
        }
        (1..=MAX_STEPS).contains(&steps.len()).then_some(Self(steps))
    }

    /// Everything at that place; nothing where a step does not exist.
    pub(crate) fn find<'a>(&self, document: &'a Value) -> Result<Vec<&'a Value>, CaseVariant> {
        let mut at = vec![document];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in at {
                match (step, value) {
                    (Step::Member(name), Value::Object(members)) => {
                        let variant = |key: &String| key != name && key.eq_ignore_ascii_case(name);
                        if members.keys().any(variant) {
                            return Err(CaseVariant);
                        }
                        next.extend(members.get(name));
                    }
                    (Step::Each, Value::Array(elements)) => next.extend(elements),
                    (Step::Member(_) | Step::Each, _) => {}
                }
            }
            at = next;
        }
        Ok(at)
    }

    /// For documents from a tool, where letter case decides nothing: what is exactly there.
    pub(crate) fn read<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        let mut at = vec![document];
        for step in &self.0 {
            at = match step {
                Step::Member(name) => at.into_iter().filter_map(|value| value.get(name)).collect(),
                Step::Each => at.into_iter().filter_map(Value::as_array).flatten().collect(),
            };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pointers_go_into_objects_and_arrays() {
        let document = json!({"a": [{"b": 1}, {"c": 2}, {"b": 3}], "d": {"e": "x"}});
        let found = |text: &str| Pointer::parse(text).unwrap().find(&document).unwrap().len();
        assert_eq!(
            (
                found("a[].b"),
                found("d.e"),
                found("a"),
                found("d[]"),
                found("z.e")
            ),
            (2, 1, 1, 0, 0)
        );
        assert_eq!(Pointer::parse("[].b").unwrap().read(&json!([{"b": 1}])).len(), 1);
    }

    #[test]
    fn a_member_in_other_letter_case_is_ambiguous() {
        let pointer = Pointer::parse("model").unwrap();
        assert_eq!(pointer.find(&json!({"Model": "x"})), Err(CaseVariant));
    }

    #[test]
    fn texts_that_are_no_place_are_refused() {
        for text in ["", ".", "a..b", "a.$b", "a[0]", "a.", "a.b.c.d.e.f.g.h.i.j.k.l.m"] {
            assert_eq!(Pointer::parse(text), None, "{text}");
        }
    }
}
