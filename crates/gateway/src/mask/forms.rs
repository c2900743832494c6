//! The ways in which a service may spell a secret that it was sent.
//!
//! Pure. Base64 is cut to the characters that the secret alone determines, so that it is found whatever stands
//! before and after it (RFC 4648, both alphabets).

use std::ops::Range;

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use clawstaff_types::Secret;

use super::escape::unescaped;

/// Shorter values are no secrets, and masking them would destroy ordinary text.
const SHORTEST: usize = 6;

/// All spellings of one secret that are searched for; wiped when dropped.
#[derive(Debug)]
pub(super) struct Forms {
    secret: Secret<String>,
    /// The secret as it would stand in the name of a header; `None` when it is too short to be one.
    lower_case: Option<Secret<Vec<u8>>>,
    spellings: Vec<Secret<Vec<u8>>>,
    begins: Begins,
}

impl Forms {
    /// The spellings of `secret`; none when it is too short to be one.
    pub(super) fn of(secret: &Secret<String>) -> Self {
        let plain = secret.expose_secret().as_bytes();
        let mut forms = Vec::new();
        if plain.len() >= SHORTEST {
            forms = spellings(plain);
        }
        let mut begins = Begins::default();
        for form in &forms {
            begins.add(form.expose_secret());
        }
        let lower_case = || Secret::new(plain.to_ascii_lowercase());
        Self {
            secret: secret.clone(),
            lower_case: (plain.len() >= SHORTEST).then(lower_case),
            spellings: forms,
            begins,
        }
    }

    /// Whether they are the spellings of `secret`.
    pub(super) fn are_of(&self, secret: &Secret<String>) -> bool {
        self.secret.expose_secret() == secret.expose_secret()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.spellings.iter().map(|form| form.expose_secret().as_slice())
    }

    pub(super) fn lower_case(&self) -> Option<&[u8]> {
        self.lower_case
            .as_ref()
            .map(|lower| lower.expose_secret().as_slice())
    }

    /// Where the spellings are, in the order of their beginnings; none overlaps another of the same spelling. One
    /// pass for all of them, and nothing is prepared for it that would outlive the secret.
    pub(super) fn find(&self, text: &[u8], found: &mut impl FnMut(Range<usize>)) {
        let mut ends = Vec::new();
        let begun = text
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| self.begins.has(pair));
        for (at, _) in begun {
            let rest = text.get(at..).unwrap_or_default();
            for (which, form) in self.all().enumerate().filter(|(_, form)| rest.starts_with(form)) {
                ends.resize(self.spellings.len(), 0);
                if let Some(end) = ends.get_mut(which).filter(|end| at >= **end) {
                    *end = at + form.len();
                    found(at..*end);
                }
            }
        }
    }
}

/// By which two bytes a spelling can begin: a table that says so for some others as well.
#[derive(Debug)]
struct Begins([bool; 1024]);

impl Default for Begins {
    fn default() -> Self {
        Self([false; 1024])
    }
}

impl Begins {
    fn place(pair: &[u8]) -> usize {
        let [first, second, ..] = *pair else { return 0 };
        (usize::from(first) << 3 ^ usize::from(second)) & 1023
    }

    fn add(&mut self, form: &[u8]) {
        if let Some(place) = self.0.get_mut(Self::place(form)) {
            *place = true;
        }
    }

    fn has(&self, pair: &[u8]) -> bool {
        self.0.get(Self::place(pair)).copied().unwrap_or_default()
    }
}

fn spellings(plain: &[u8]) -> Vec<Secret<Vec<u8>>> {
    let mut forms = vec![
        plain.to_vec(),
        hex::encode(plain).into_bytes(),
        hex::encode_upper(plain).into_bytes(),
    ];
    for before in 0..3 {
        forms.push(base64(&BASE64_STANDARD_NO_PAD, plain, before));
        forms.push(base64(&BASE64_URL_SAFE_NO_PAD, plain, before));
    }
    // What has an escape in itself is also found where a reader has undone it, if enough of it is left.
    let undone: Vec<Vec<u8>> = forms.iter().filter_map(|form| unescaped(form)).collect();
    forms.extend(undone.into_iter().filter(|form| form.len() >= SHORTEST));
    forms.sort();
    forms.dedup();
    forms.into_iter().map(Secret::new).collect()
}

/// The characters that `secret` alone determines in the base64 of a text that has it after `before` (0, 1 or 2)
/// bytes, counted modulo 3.
fn base64(engine: &impl base64::Engine, secret: &[u8], before: usize) -> Vec<u8> {
    let mut text = vec![0; before];
    text.extend_from_slice(secret);
    let whole = text.len() * 8 / 6;
    let text = Secret::new(text);
    let mut encoded = engine.encode(text.expose_secret()).into_bytes();
    encoded.truncate(whole);
    encoded.drain(..(before * 8).div_ceil(6).min(whole));
    encoded
}
