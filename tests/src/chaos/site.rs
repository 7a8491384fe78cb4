//! The places where runs take place.

mod iggy;
mod memory;

use event_log_core::conformance::Probe;

pub use self::iggy::IggySite;
pub use self::memory::MemorySite;
use super::history::EventNumber;

/// The event that a payload is, if it is one.
fn number(payload: &[u8]) -> Option<EventNumber> {
    serde_json::from_slice::<Probe>(payload).ok().map(|probe| probe.number)
}
