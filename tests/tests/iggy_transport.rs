//! The transport of a real iggy-server does what the engine relies on.

event_log_core::transport_conformance!(event_log_tests::iggy::IggyHarness::new());
