//! See `event_log_tests::fuzz::urls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| event_log_tests::fuzz::urls(data));
