//! The ways in which a service may spell a secret that it was sent.
//!
//! Pure. Base64 is cut to the characters that the secret alone determines, so that it is found whatever stands
//! before and after it (RFC 4648, both alphabets).

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use clawstaff_types::Secret;

use super::escape::unescaped;

/// Shorter values are no secrets, and masking them would destroy ordinary text.
const SHORTEST: usize = 6;

/// All spellings of one secret that are searched for; wiped when dropped.
#[derive(Debug)]
pub(super) struct Forms {
    plain: Option<Secret<Vec<u8>>>,
    forms: Vec<Secret<Vec<u8>>>,
}

impl Forms {
    /// The spellings of `secret`; none when it is too short to be one.
    pub(super) fn of(secret: &str) -> Self {
        let plain = secret.as_bytes();
        if plain.len() < SHORTEST {
            return Self {
                plain: None,
                forms: Vec::new(),
            };
        }
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
        Self {
            plain: Some(Secret::new(plain.to_vec())),
            forms: forms.into_iter().map(Secret::new).collect(),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.forms.iter().map(|form| form.expose_secret().as_slice())
    }

    /// The secret as it would stand in the name of a header.
    pub(super) fn lower_case(&self) -> Option<Secret<Vec<u8>>> {
        let plain = self.plain.as_ref()?;
        Some(Secret::new(plain.expose_secret().to_ascii_lowercase()))
    }
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
