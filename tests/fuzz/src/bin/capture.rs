//! See `xlb_fuzz::capture`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| xlb_fuzz::capture(input));
