//! See `xlb_fuzz::netlink`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| xlb_fuzz::netlink(input));
