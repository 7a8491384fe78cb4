//! Who appends, and how.
//!
//! All begin with their events in memory and stop when the last one is confirmed, whichever way they have to know
//! that. The raw client and the SDK's producer begin with messages that are built and encoded; this library begins with
//! typed events, so that its encoding counts against it, and so does making its ids. At most 1,024 events are under way
//! at a time, and each goes to the partition of its key, unless a contender says otherwise.

mod by_hand;
#[cfg(feature = "peers")]
pub(crate) mod jetstream;
mod least;
mod ours;
pub(crate) mod producer;
pub(crate) mod raw;

use async_trait::async_trait;

pub(crate) use self::by_hand::ByHand;
pub(crate) use self::least::Least;
pub(crate) use self::ours::{Appends, Batches};
use crate::Failure;
use crate::bench::Bench;
use crate::event::Event;
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::Topic;

/// Events that are under way at a time.
pub(crate) const IN_FLIGHT: u64 = 1_024;

/// The numbers of a task's events, of which it has so many.
fn numbers_of(task: u64, each: u64) -> impl Iterator<Item = u64> {
    (0..each).map(move |nth| task + nth * IN_FLIGHT)
}

/// So many events for each of the tasks.
fn events_by_task(bench: &Bench, each: u64) -> Vec<Vec<Event>> {
    let events = |task| numbers_of(task, each).map(|number| bench.events.event(number)).collect();
    (0..IN_FLIGHT).map(events).collect()
}

/// Somebody who appends.
#[async_trait]
pub(crate) trait Producer: Send + Sync {
    fn name(&self) -> &'static str;

    /// What it does, in a line, and what it does not do that the others do.
    fn what(&self) -> &'static str;

    /// Whether each event goes to the partition of its key.
    fn keeps_keys(&self) -> bool {
        true
    }

    /// Whether it has looked by itself, because its log is not the topic.
    fn is_elsewhere(&self) -> bool {
        false
    }

    /// Gets ready, starts the watch, appends until its window is over, and stops it when all is confirmed. Returns
    /// which events were.
    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure>;
}
