//! No spelling of the secret passes, nothing else is touched, and the cuts of a stream make no difference.

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE};
use proptest::{collection::vec, prelude::*};

use super::*;

fn mask(secret: &str) -> Mask {
    Masks::default().of(&"c".parse().unwrap(), &Secret::new(secret.to_owned()))
}

fn whole(secret: &str, text: &[u8]) -> Vec<u8> {
    mask(secret).body(Bytes::copy_from_slice(text)).to_vec()
}

/// The text as a stream of pieces that end at `cuts`.
fn streamed(secret: &str, text: &[u8], cuts: &[prop::sample::Index]) -> Vec<u8> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    ends.push(text.len());
    ends.sort_unstable();
    let (mut mask, mut out, mut from) = (mask(secret), Vec::new(), 0);
    for end in ends {
        out.extend_from_slice(&mask.piece(Bytes::copy_from_slice(&text[from..end])));
        from = end;
    }
    out.extend_from_slice(&mask.rest());
    out
}

/// One spelling of `secret`, chosen by `which`, with `before` in front of it inside base64.
fn spelled(secret: &str, which: u8, before: &[u8]) -> Vec<u8> {
    let inside = [before, secret.as_bytes(), b"."].concat();
    let escape = |make: fn(u8) -> String| secret.bytes().map(make).collect::<String>().into_bytes();
    match which % 9 {
        0 => secret.as_bytes().to_vec(),
        1 => hex::encode(secret).into_bytes(),
        2 => hex::encode_upper(secret).into_bytes(),
        3 => BASE64_STANDARD.encode(inside).into_bytes(),
        4 => BASE64_URL_SAFE.encode(inside).into_bytes(),
        5 => escape(|byte| format!("%{byte:02X}")),
        6 => escape(|byte| format!("\\u00{byte:02x}")),
        7 => {
            let text = serde_json::to_string(secret).unwrap().replace('/', "\\/");
            text.as_bytes()[1..text.len() - 1].to_vec()
        }
        _ => escape(|byte| {
            if byte % 2 == 0 || byte == b'%' {
                format!("%{byte:02x}")
            } else {
                char::from(byte).to_string()
            }
        }),
    }
}

fn is_in(text: &[u8], needle: &[u8]) -> bool {
    memmem::find(text, needle).is_some()
}

prop_compose! {
    /// A secret of the kind that services hand out, or an awkward one.
    fn secret()(text in prop_oneof![
        "xox[bp]-[A-Za-z0-9]{12,60}",
        "[!-~]{6,40}",
        "[ab%\\\\u0416/]{36,48}",
    ]) -> String { text }
}

prop_compose! {
    /// A secret without backslashes: one that has them and percent escapes too is not found under JSON's escapes.
    fn plainer()(text in prop_oneof!["xox[bp]-[A-Za-z0-9]{12,60}", "[!-\\[\\]-~]{24,40}", "[ab%u0416/]{36,48}"]) -> String {
        text
    }
}

prop_compose! {
    /// Text with spellings of `secret` in it, and between them pieces that could be taken for one.
    fn text(secret: String)(
        parts in vec((0_u8..12, any::<u8>(), "[a-zA-Z0-9%\\\\u/\" \n{}:.-]{0,30}", any::<prop::sample::Index>()), 1..8),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        secret in Just(secret),
    ) -> (String, Vec<u8>, Vec<prop::sample::Index>) {
        let mut text = Vec::new();
        for (kind, which, words, cut) in parts {
            match kind {
                0..4 => text.extend(spelled(&secret, which, &words.as_bytes()[..words.len() % 4])),
                4..8 => {
                    let whole = spelled(&secret, which, b"");
                    text.extend_from_slice(&whole[..cut.index(whole.len())]);
                }
                _ => text.extend_from_slice(words.as_bytes()),
            }
        }
        (secret, text, cuts)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_stream_gives_what_the_whole_gives_wherever_it_is_cut(
        (secret, text, cuts) in secret().prop_flat_map(text)
    ) {
        prop_assert_eq!(streamed(&secret, &text, &cuts), whole(&secret, &text));
    }

    #[test]
    fn no_spelling_of_the_secret_passes(
        secret in plainer(), which in 0_u8..9, before in vec(any::<u8>(), 0..7), around in "[ -~]{0,20}"
    ) {
        let echo = spelled(&secret, which, &before);
        let text = [around.as_bytes(), b" ", &echo, b" ", around.as_bytes()].concat();
        prop_assume!(!is_in(around.as_bytes(), secret.as_bytes()));
        let out = whole(&secret, &text);
        prop_assert!(is_in(&out, MASK), "{}", String::from_utf8_lossy(&out));
        for form in mask(&secret).forms.all() {
            prop_assert!(!is_in(&out, form), "{}", String::from_utf8_lossy(&out));
        }
    }

    #[test]
    fn text_without_the_secret_passes_as_it_is_and_nothing_of_an_event_is_held_back(
        secret in "xoxb-[A-Za-z0-9]{12,60}", lines in vec("[a-zA-Z0-9%\\\\u/\" {}:.-]{0,60}", 0..20)
    ) {
        let mut mask = mask(&secret);
        for line in lines {
            let event = format!("data: {line}\n\n");
            prop_assert_eq!(mask.piece(Bytes::from(event.clone())), event);
        }
        prop_assert!(mask.rest().is_empty());
    }
}

#[test]
fn every_echo_in_a_body_is_masked() {
    let body = b"a xoxb-real b xoxb-realxoxb-real xoxb-rea";
    assert_eq!(
        whole("xoxb-real", body),
        b"a [masked] b [masked][masked] xoxb-rea"
    );
}

#[test]
fn a_body_of_many_windows_is_masked_across_their_borders() {
    let mut body = vec![b'.'; 3 * WINDOW];
    for at in [WINDOW - 4, 2 * WINDOW - 1, 2 * WINDOW + 40] {
        body[at..at + 9].copy_from_slice(b"xoxb-real");
    }
    let out = whole("xoxb-real", &body);
    assert_eq!(memmem::find_iter(&out, MASK).count(), 3);
    assert_eq!(out.len(), body.len() - 3 * (9 - MASK.len()));
}

#[test]
fn headers_are_masked_and_a_name_that_repeats_the_secret_is_left_out() {
    let mut headers = HeaderMap::new();
    headers.insert("x-echo", "Basic eHg6eG94Yi1yZWFsLg==".parse().unwrap());
    headers.insert("x-xoxb-real", "1".parse().unwrap());
    headers.insert("x-other", "xoxb-other".parse().unwrap());
    mask("xoxb-real").headers(&mut headers);
    assert_eq!(headers["x-echo"], "[masked]");
    assert_eq!(headers["x-other"], "xoxb-other");
    assert_eq!(headers.len(), 2);
}

#[test]
fn a_new_value_is_masked_and_the_old_one_is_not_any_more() {
    let (masks, connection) = (Masks::default(), "c".parse().unwrap());
    let masked = |secret: &str, text: &'static str| {
        let mut mask = masks.of(&connection, &Secret::new(secret.to_owned()));
        mask.body(Bytes::from_static(text.as_bytes())).to_vec()
    };
    assert_eq!(masked("xoxb-real", "xoxb-real xoxb-next"), b"[masked] xoxb-next");
    assert_eq!(masked("xoxb-next", "xoxb-real xoxb-next"), b"xoxb-real [masked]");
}

#[test]
fn a_short_value_is_no_secret() {
    assert_eq!(whole("short", b"short"), b"short");
}
