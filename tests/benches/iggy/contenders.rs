//! Who appends, and how.
//!
//! All stop when the last event is confirmed, whichever way they have to know that. The raw client and the SDK's producer
//! begin with messages that are built and encoded, and drop them when the watch has stopped. Whoever takes typed events
//! makes each when it is appended, as an application does: making, encoding and freeing it counts against them, and so do
//! ids. (A second's events made beforehand would cost them more: they lie in memory that no cache holds.) At most 1,024
//! events are under way at a time, and each goes to the partition of its key, unless a contender says otherwise.

mod by_hand;
#[cfg(feature = "peers")]
pub(crate) mod jetstream;
mod least;
mod ours;
pub(crate) mod producer;
pub(crate) mod raw;

use async_trait::async_trait;
use tokio::task::JoinHandle;

pub(crate) use self::by_hand::ByHand;
pub(crate) use self::least::Least;
pub(crate) use self::ours::{Appends, Batches};
use crate::Failure;
use crate::bench::Bench;
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::Topic;

/// Events that are under way at a time.
pub(crate) const IN_FLIGHT: u64 = 1_024;

/// The numbers of a task's events, one after the other.
fn numbers_of(task: u64) -> impl Iterator<Item = u64> {
    (task..).step_by(IN_FLIGHT as usize)
}

/// Waits for the tasks, each of which returns how many of its events were confirmed, and stops the watch. Returns which those are.
async fn all_of(
    tasks: Vec<JoinHandle<Result<usize, Failure>>>,
    watch: &mut Stopwatch,
) -> Result<Numbers, Failure> {
    let mut ended = Vec::with_capacity(tasks.len());
    for task in tasks {
        ended.push(task.await?);
    }
    watch.stop();
    let mut appended = Numbers::default();
    for (task, count) in (0..).zip(ended) {
        for number in numbers_of(task).take(count?) {
            appended.insert(number);
        }
    }
    Ok(appended)
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
