//! Texts that must not be somewhere, and the search for them in every form in which they could be there.
//!
//! Each canary is looked for as it is, in base64 at any alignment and in both alphabets, in hexadecimal, with its
//! characters percent-encoded, escaped as JSON does it, and in all of these inside gzip and zlib streams.

use std::{collections::BTreeSet, io::Read as _};

use aho_corasick::AhoCorasick;
use anyhow::Context as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use memchr::memmem;

/// What one compressed stream may expand to; the rest of a larger one is not looked at.
const MAX_INFLATED: u64 = 16 << 20;
/// How the streams begin: gzip with deflate, and zlib at its four levels (RFC 1952, RFC 1950).
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
const ZLIB: [[u8; 2]; 4] = [[0x78, 0x01], [0x78, 0x5e], [0x78, 0x9c], [0x78, 0xda]];

/// What a canary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Key,
    Prompt,
    Response,
    Argument,
}

/// Canaries, ready to be looked for.
pub(super) struct Canaries {
    kinds: Vec<Kind>,
    /// Every form of every canary, looked for in one pass.
    forms: AhoCorasick,
    /// Whose each form is.
    owners: Vec<usize>,
}

impl Canaries {
    /// Takes texts of at least eight bytes; shorter ones are nobody's alone.
    ///
    /// # Errors
    /// When they are too many or too long for one search.
    pub(super) fn of(texts: impl IntoIterator<Item = (Kind, Vec<u8>)>) -> anyhow::Result<Self> {
        let texts: BTreeSet<(Kind, Vec<u8>)> =
            texts.into_iter().filter(|(_, text)| text.len() >= 8).collect();
        let (mut kinds, mut forms, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, text) in texts {
            let own = forms_of(&text);
            owners.extend(own.iter().map(|_| kinds.len()));
            forms.extend(own);
            kinds.push(kind);
        }
        let forms = AhoCorasick::new(forms).context("too much to be looked for at once")?;
        Ok(Self { kinds, forms, owners })
    }

    /// How many there are of a kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.kinds.iter().filter(|own| **own == kind).count()
    }

    /// Notes which canaries occur in `bytes`, compressed streams in it included.
    pub(super) fn search(&self, bytes: &[u8], found: &mut BTreeSet<usize>) {
        self.search_plain(bytes, found);
        for start in memmem::find_iter(bytes, &GZIP) {
            let stream = bytes.get(start..).unwrap_or_default();
            self.search_plain(&inflated(flate2::bufread::GzDecoder::new(stream)), found);
        }
        for start in ZLIB.iter().flat_map(|start| memmem::find_iter(bytes, start)) {
            let stream = bytes.get(start..).unwrap_or_default();
            self.search_plain(&inflated(flate2::bufread::ZlibDecoder::new(stream)), found);
        }
    }

    fn search_plain(&self, bytes: &[u8], found: &mut BTreeSet<usize>) {
        let forms = self.forms.find_overlapping_iter(bytes);
        found.extend(forms.filter_map(|form| self.owners.get(form.pattern().as_usize())));
    }

    /// How many of `found` are of a kind.
    pub(super) fn of_kind(&self, found: &BTreeSet<usize>, kind: Kind) -> usize {
        found
            .iter()
            .filter(|index| self.kinds.get(**index) == Some(&kind))
            .count()
    }
}

/// What a stream holds as far as it can be read: a broken or cut one gives its beginning.
fn inflated(stream: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _as_far_as_it_goes = stream.take(MAX_INFLATED).read_to_end(&mut bytes);
    bytes
}

fn forms_of(text: &[u8]) -> BTreeSet<Vec<u8>> {
    let percent = |upper: bool, all: bool| -> Vec<u8> {
        let encode = |byte: &u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' if !all => {
                char::from(*byte).to_string()
            }
            _ if upper => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        };
        text.iter().map(encode).collect::<String>().into_bytes()
    };
    let mut forms = BTreeSet::from([
        text.to_vec(),
        hex::encode(text).into_bytes(),
        hex::encode_upper(text).into_bytes(),
        percent(true, false),
        percent(false, false),
        percent(true, true),
        percent(false, true),
    ]);
    for before in 0..3 {
        forms.insert(in_base64(&BASE64_STANDARD_NO_PAD, text, before));
        forms.insert(in_base64(&BASE64_URL_SAFE_NO_PAD, text, before));
    }
    if let Some(json) = std::str::from_utf8(text)
        .ok()
        .and_then(|text| serde_json::to_vec(text).ok())
    {
        let inside = json.get(1..json.len() - 1).unwrap_or_default();
        forms.insert(inside.to_vec());
    }
    forms
}

/// The characters that `text` alone determines in the base64 of something that has it after `before` bytes,
/// counted modulo 3.
fn in_base64(engine: &impl base64::Engine, text: &[u8], before: usize) -> Vec<u8> {
    let mut padded = vec![0; before];
    padded.extend_from_slice(text);
    let whole = padded.len() * 8 / 6;
    let encoded = engine.encode(&padded).into_bytes();
    let start = (before * 8).div_ceil(6);
    encoded.get(start..whole).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;

    const CANARY: &str = "sk-ant-\"canary\"/+4711";

    fn finds(bytes: &[u8]) -> bool {
        let canaries = Canaries::of([
            (Kind::Key, CANARY.into()),
            (Kind::Prompt, b"another canary".to_vec()),
        ])
        .unwrap();
        let mut found = BTreeSet::new();
        canaries.search(bytes, &mut found);
        assert!(found.is_subset(&BTreeSet::from([0])));
        !found.is_empty()
    }

    #[test]
    fn a_canary_is_found_in_every_form_and_inside_compressed_streams() {
        for before in ["", "a", "ab", "abc"] {
            assert!(
                finds(BASE64_STANDARD.encode(format!("{before}{CANARY}!")).as_bytes()),
                "{before}"
            );
        }
        assert!(finds(hex::encode(CANARY).as_bytes()));
        assert!(finds(b"q=sk-ant-%22canary%22%2F%2B4711&"));
        assert!(finds(serde_json::to_string(CANARY).unwrap().as_bytes()));
        let mut gzip = flate2::write::GzEncoder::new(b"before".to_vec(), flate2::Compression::default());
        gzip.write_all(format!("x{CANARY}").as_bytes()).unwrap();
        assert!(finds(&gzip.finish().unwrap()));
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        zlib.write_all(hex::encode(CANARY).as_bytes()).unwrap();
        assert!(finds(&zlib.finish().unwrap()));
        assert!(!finds(b"sk-ant-canary-4711 \x78\x9c\x1f\x8b\x08"));
    }
}
