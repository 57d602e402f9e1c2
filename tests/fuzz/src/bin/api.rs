//! See `xlb_fuzz::api`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| xlb_fuzz::api(input));
