//! See `event_log_tests::fuzz::cursors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| event_log_tests::fuzz::cursors(data));
