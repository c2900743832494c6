//! Vectors, round trips, and everything that must not open.

use proptest::prelude::*;

use super::*;

fn key_from_hex(hex: &str) -> PrivateKey {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    files::write_private(&path, BASE64.encode(hex::decode(hex).unwrap()).as_bytes()).unwrap();
    PrivateKey::load(&path).unwrap()
}

/// RFC 9180, appendix A.2.1: our suite in base mode.
#[test]
fn the_suite_is_the_one_of_rfc_9180_appendix_a_2() {
    let key = key_from_hex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb");
    let public = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
    assert_eq!(hex::encode(key.public().as_bytes()), public);
    let enc = hex::decode("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a").unwrap();
    let ciphertext = hex::decode(
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
    );
    let plaintext = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
        &OpModeR::Base,
        &key.secret,
        &<Kem as hpke::Kem>::EncappedKey::from_bytes(&enc).unwrap(),
        b"Ode on a Grecian Urn",
        &ciphertext.unwrap(),
        b"Count-0",
    );
    assert_eq!(plaintext.unwrap(), b"Beauty is truth, truth beauty");
}

#[test]
fn what_is_sealed_opens_with_its_key_and_label_only() {
    let (key, other) = (PrivateKey::generate(), PrivateKey::generate());
    let sealed = seal(key.public(), "message", b"hello").unwrap();
    assert_eq!(key.open(&sealed, "message").unwrap().expose_secret(), b"hello");
    assert_eq!(
        key.open(&sealed, "instructions").unwrap_err(),
        UnsealError::Refused
    );
    let foreign = other.open(&sealed, "message").unwrap_err();
    assert!(matches!(foreign, UnsealError::OtherRecipient { .. }));
    let mut relabelled = sealed;
    relabelled.recipient = other.public().digest();
    assert_eq!(
        other.open(&relabelled, "message").unwrap_err(),
        UnsealError::Refused
    );
}

#[test]
fn a_digest_that_is_not_the_contents_is_refused() {
    let key = PrivateKey::generate();
    let mut sealed = seal(key.public(), "message", b"hello").unwrap();
    sealed.digest = Digest::of(b"another");
    assert_eq!(key.open(&sealed, "message").unwrap_err(), UnsealError::Refused);
}

#[test]
fn content_and_keys_have_bounds() {
    let key = PrivateKey::generate();
    let most = vec![0; MAX_CONTENT];
    let sealed = seal(key.public(), "l", &most).unwrap();
    assert_eq!(key.open(&sealed, "l").unwrap().expose_secret().len(), MAX_CONTENT);
    assert_eq!(
        seal(key.public(), "l", &vec![0; MAX_CONTENT + 1]),
        Err(SealError::TooLong(MAX_CONTENT + 1))
    );
    let small_order: PublicKey = BASE64.encode([0; 32]).parse().unwrap();
    assert_eq!(seal(&small_order, "l", b"x"), Err(SealError::BadKey));
    assert!(BASE64.encode([0; 31]).parse::<PublicKey>().is_err());
    assert!("not base64".parse::<PublicKey>().is_err());
}

#[test]
fn the_key_survives_its_file_and_is_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    let key = PrivateKey::load_or_create(&path).unwrap();
    let again = PrivateKey::load_or_create(&path).unwrap();
    assert_eq!(key.public(), again.public());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!format!("{key:?}").contains(text.trim()));
    assert_eq!(
        key.public().to_string().parse::<PublicKey>().unwrap(),
        *key.public()
    );
}

#[test]
fn a_key_file_that_others_can_read_or_that_holds_no_key_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    PrivateKey::generate().save(&path).unwrap();
    for mode in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = PrivateKey::load(&path).unwrap_err();
        assert!(
            matches!(error, KeyFileError::File(PrivateFileError::Exposed { .. })),
            "{mode:o}"
        );
    }
    files::write_private(&path, b"AAAA").unwrap();
    assert!(matches!(
        PrivateKey::load(&path).unwrap_err(),
        KeyFileError::Malformed
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_content_opens_again(content in proptest::collection::vec(any::<u8>(), 0..2048), label in "[a-z]{0,20}") {
        let key = PrivateKey::generate();
        let sealed = seal(key.public(), &label, &content).unwrap();
        let opened = key.open(&sealed, &label).unwrap();
        prop_assert_eq!(opened.expose_secret(), &content);
    }

    #[test]
    fn one_changed_bit_anywhere_opens_nothing(content in proptest::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let key = PrivateKey::generate();
        let sealed = seal(key.public(), "message", &content).unwrap();
        let mut enc = BASE64.decode(&sealed.enc).unwrap();
        let mut ciphertext = BASE64.decode(&sealed.ciphertext).unwrap();
        let at = at.index(enc.len() + ciphertext.len());
        // The top bit of an X25519 coordinate is ignored (RFC 7748 section 5), yet HPKE binds the bytes.
        if at < enc.len() { enc[at] ^= 1 << bit } else { ciphertext[at - enc.len()] ^= 1 << bit }
        let altered = Sealed { enc: BASE64.encode(enc), ciphertext: BASE64.encode(ciphertext), ..sealed };
        prop_assert!(key.open(&altered, "message").is_err());
    }

    #[test]
    fn no_sealed_value_makes_opening_panic(enc in "\\PC{0,64}", ciphertext in "\\PC{0,64}") {
        let key = PrivateKey::generate();
        let sealed = Sealed { recipient: key.public().digest(), enc, ciphertext, digest: Digest::of(b"") };
        prop_assert!(key.open(&sealed, "message").is_err());
    }
}
