//! See `checkpoint` in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clawstaff_fuzz::checkpoint(data));
