//! See `witness` in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clawstaff_fuzz::witness(data));
