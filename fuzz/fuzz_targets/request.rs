//! See `request` in `src/connectors.rs`.
#![no_main]

#[path = "../src/connectors.rs"]
#[expect(dead_code, reason = "the other targets' functions")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::request(data));
