//! The in-memory backend keeps the contract: every case of the suite is a test here.

use event_log_memory::MemoryHarness;

event_log_core::conformance!(MemoryHarness::new());
