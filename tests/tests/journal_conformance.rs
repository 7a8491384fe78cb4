//! The conformance suite on a log in files, which was written from the documentation alone.

event_log_core::conformance!(event_log_tests::journal::JournalHarness::new());
