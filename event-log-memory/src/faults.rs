//! Faults that a test can switch on, to see how an application takes them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event_log_core::engine::{Message, contained, foreign_id};
use event_log_core::{Headers, PartitionId, Position};

use crate::fault_state::Plan;
use crate::topic::Topic;

/// The fault switches of one topic. They act on everybody who uses the topic, like faults of a server.
///
/// ```
/// # use event_log_core::{EventLog, Partitionable};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Tick;
/// # impl Partitionable for Tick { fn partition_key(&self) -> Option<&str> { None } }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = event_log_memory::MemoryBroker::new();
/// let log = event_log_memory::builder::<Tick>().broker(&broker).open().await?;
/// let faults = broker.faults("events").expect("the topic is there once a log has opened it");
///
/// faults.disconnect();
/// let receipt = log.append(Tick).await?;
/// assert!(receipt.is_buffered());
///
/// faults.reconnect();
/// receipt.acked().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    topic: Arc<Topic>,
}

impl Faults {
    pub(crate) const fn new(topic: Arc<Topic>) -> Self {
        Self { topic }
    }

    /// Cuts every connection and lets none through until [`reconnect`](Self::reconnect). When the call has
    /// returned nothing reaches the log any more. Consumers lose their memberships.
    pub fn disconnect(&self) {
        self.topic.switch(|plan| plan.down = true);
        self.topic.faults.cut_connections();
        self.topic.groups.evict_all();
        // Whoever passed the gate before it was shut has left its partition when we get the lock.
        self.topic.wait_for_appends();
    }

    /// Lets connections through again. Whoever was cut off notices with its next attempt.
    pub fn reconnect(&self) {
        self.topic.switch(|plan| plan.down = false);
        self.topic.faults.link.change(|link| link.up = true);
    }

    /// Switches every fault off. Requests that are held stay held: see
    /// [`deliver_held_requests`](Self::deliver_held_requests).
    pub fn clear(&self) {
        self.topic.switch(|plan| *plan = Plan::default());
        self.stall_fetches(false);
        self.reconnect();
    }

    /// Cuts every connection once; they can be made again at once.
    pub fn interrupt(&self) {
        self.disconnect();
        self.reconnect();
    }

    /// Stops the broker and starts it again, as a server whose records are all on its disk: every connection is cut, and
    /// consumers have to join again.
    pub fn restart(&self) {
        self.disconnect();
        self.topic.groups.forget_instances();
        self.reconnect();
    }

    /// Kills the broker and starts it again, as a server that has everything on its disk that it has acknowledged. Beyond a
    /// [`restart`](Self::restart), requests that are held are lost.
    pub fn crash(&self) {
        self.disconnect();
        // A payload is the application's, and so is the code that frees it: not under the lock.
        let held = std::mem::take(&mut *self.topic.faults.held.lock());
        drop(held);
        self.topic.groups.forget_instances();
        self.reconnect();
    }

    /// The next `count` requests are appended, but the connection is cut before the reply: the producer
    /// cannot know. Nothing may be appended twice.
    pub fn lose_replies(&self, count: usize) {
        self.topic.switch(|plan| plan.lose_replies = count);
    }

    /// The next `count` requests get lost with their connections: the producer cannot know either.
    pub fn lose_requests(&self, count: usize) {
        self.topic.switch(|plan| plan.lose_requests = count);
    }

    /// The next `count` requests lose their connection and stay under way, until
    /// [`deliver_held_requests`](Self::deliver_held_requests): what a slow network does to a producer that
    /// has long reconnected. The producer sends again, so that the log ends up with two copies, of which
    /// consumers deliver one.
    pub fn hold_requests(&self, count: usize) {
        self.topic.switch(|plan| plan.hold_requests = count);
    }

    /// Appends what [`hold_requests`](Self::hold_requests) has held, and returns how many events that were.
    pub fn deliver_held_requests(&self) -> usize {
        let held = std::mem::take(&mut *self.topic.faults.held.lock());
        held.into_iter().fold(0, |count, (partition, messages)| {
            let count = count + messages.len();
            self.topic.append(partition, messages.into_iter());
            count
        })
    }

    /// Every append takes this long from now on; zero ends it. It is how a slow log is made: producers feel
    /// the backpressure.
    pub fn slow_appends(&self, each: Duration) {
        self.topic.switch(|plan| plan.slow_appends = each);
    }

    /// Every fetch of a consumer takes this long from now on; zero ends it.
    pub fn slow_fetches(&self, each: Duration) {
        self.topic.switch(|plan| plan.slow_fetches = each);
    }

    /// Every connection of a producer takes this long to be made from now on; zero ends it.
    pub fn slow_connects(&self, each: Duration) {
        self.topic.switch(|plan| plan.slow_connects = each);
    }

    /// Uses up `count` offsets behind the last record, which no record gets, as a log does that keeps notes of its own
    /// among the records. Nothing happens when there is no such partition.
    pub fn trailing_gap(&self, partition: PartitionId, count: u64) {
        if self.topic.has_partition(partition) {
            self.topic.trailing_gap(partition, count);
        }
    }

    /// The next append to the partition leaves a gap of `count` offsets before it. Nothing happens when there is no such
    /// partition.
    pub fn skip_offsets(&self, partition: PartitionId, count: u64) {
        if self.topic.has_partition(partition) {
            self.topic.with_partition(partition, |partition| partition.skip_offsets(count));
        }
    }

    /// The next `count` fetches of anybody return nothing, whatever there is.
    pub fn empty_fetches(&self, count: usize) {
        self.topic.switch(|plan| plan.empty_fetches = count);
    }

    /// The next `count` fetches of this partition fail.
    pub fn fail_fetches(&self, partition: PartitionId, count: usize) {
        self.topic.switch(|plan| _ = plan.fail_fetches.insert(partition, count));
    }

    /// Fetches of consumers are not answered any more, and their connections stay, until this is called with `false`:
    /// a log that hangs.
    pub fn stall_fetches(&self, stall: bool) {
        self.topic.faults.stalled.change(|stalled| *stalled = stall);
    }

    /// The next `count` commits of this partition fail.
    pub fn fail_commits(&self, partition: PartitionId, count: usize) {
        self.topic.switch(|plan| _ = plan.fail_commits.insert(partition, count));
    }

    /// Removes all records, as an operator can. Offsets go on where they were.
    pub fn purge(&self) {
        self.topic.purge();
    }

    /// Removes all records and whatever groups have committed, and begins the offsets again at 0: what purging a
    /// topic of Apache Iggy does, or deleting one and making it anew.
    pub fn begin_again(&self) {
        self.topic.begin_again();
    }

    /// Appends bytes as a producer would that knows nothing of this library: without an id, and possibly
    /// not an encoded event at all. `None` when there is no such partition.
    pub fn append_foreign(&self, partition: PartitionId, payload: impl Into<Bytes>) -> Option<Position> {
        let payload = contained(payload.into());
        self.topic.has_partition(partition).then(|| {
            let offset = self.topic.append_with(partition, |offset, now| Message {
                id: foreign_id(&self.topic.name(), Position::new(partition, offset), now),
                headers: Headers::new(),
                payload,
            });
            Position::new(partition, offset)
        })
    }
}
