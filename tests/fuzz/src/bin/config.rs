//! See `xlb_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| xlb_fuzz::config(input));
