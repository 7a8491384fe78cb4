//! The transport of the log in files does what the engine relies on.

event_log_core::transport_conformance!(event_log_tests::journal::JournalHarness::new());
