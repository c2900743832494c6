//! The shortcut does not compile: no permit, no receipt, no injected credential, nothing to send.

#[test]
fn nothing_can_be_sent_without_a_permit_and_a_receipt() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
