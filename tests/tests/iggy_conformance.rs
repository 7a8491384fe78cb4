//! The conformance suite on a real iggy-server.

event_log_core::conformance!(event_log_tests::iggy::IggyHarness::new());
