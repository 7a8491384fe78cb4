//! The transport of the in-memory log does what the engine relies on.

use event_log_memory::MemoryHarness;

event_log_core::transport_conformance!(MemoryHarness::new());
