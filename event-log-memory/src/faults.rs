//! Faults that a test can switch on, to see how an application takes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use event_log_core::engine::Message;
use event_log_core::{PartitionId, Position};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::topic::{Topic, foreign_id};

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
/// receipt.committed().await?;
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
        self.topic.faults.link.send_modify(|link| link.up = true);
    }

    /// Cuts every connection once; they can be made again at once.
    pub fn interrupt(&self) {
        self.disconnect();
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

    /// The next append to the partition leaves a gap of `count` offsets before it.
    pub fn skip_offsets(&self, partition: PartitionId, count: u64) {
        self.topic.with_partition(partition, |partition| partition.skip_offsets(count));
    }

    /// The next `count` fetches of anybody return nothing, whatever there is.
    pub fn empty_fetches(&self, count: usize) {
        self.topic.switch(|plan| plan.empty_fetches = count);
    }

    /// The next `count` fetches of this partition fail.
    pub fn fail_fetches(&self, partition: PartitionId, count: usize) {
        self.topic.switch(|plan| _ = plan.fail_fetches.insert(partition, count));
    }

    /// The next `count` commits of this partition fail.
    pub fn fail_commits(&self, partition: PartitionId, count: usize) {
        self.topic.switch(|plan| _ = plan.fail_commits.insert(partition, count));
    }

    /// Removes all records, as an operator can. Offsets go on where they were.
    pub fn purge(&self) {
        self.topic.purge();
    }

    /// Appends bytes as a producer would that knows nothing of this library: without an id, and possibly
    /// not an encoded event at all. `None` when there is no such partition.
    pub fn append_foreign(&self, partition: PartitionId, payload: impl Into<Bytes>) -> Option<Position> {
        let payload = payload.into();
        self.topic.has_partition(partition).then(|| {
            let offset = self.topic.append_with(partition, |offset| Message {
                id: foreign_id(Position::new(partition, offset)),
                payload,
            });
            Position::new(partition, offset)
        })
    }
}

/// Whether connections can be made, and which of them are still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// Connections of an earlier epoch have been cut.
    pub(crate) epoch: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    down: bool,
    lose_replies: usize,
    lose_requests: usize,
    hold_requests: usize,
    slow_appends: Duration,
    empty_fetches: usize,
    fail_fetches: BTreeMap<PartitionId, usize>,
    fail_commits: BTreeMap<PartitionId, usize>,
}

/// What is to happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Confirmed,
    ReplyLost,
    RequestLost,
    Held,
}

/// What is to happen to a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchFate {
    Answered,
    Empty,
    Failed,
}

#[derive(Debug)]
pub(crate) struct FaultState {
    plan: Mutex<Plan>,
    /// No fault concerns appends: they may go directly.
    appends_are_clean: AtomicBool,
    /// No fault concerns fetches.
    fetches_are_clean: AtomicBool,
    pub(crate) link: watch::Sender<Link>,
    pub(crate) held: Mutex<Vec<(PartitionId, Vec<Message>)>>,
}

impl Default for FaultState {
    fn default() -> Self {
        Self {
            plan: Mutex::default(),
            appends_are_clean: AtomicBool::new(true),
            fetches_are_clean: AtomicBool::new(true),
            link: watch::Sender::new(Link { up: true, epoch: 0 }),
            held: Mutex::default(),
        }
    }
}

fn draw(count: &mut usize) -> bool {
    let due = *count > 0;
    *count = count.saturating_sub(1);
    due
}

impl FaultState {
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        let mut plan = self.plan.lock();
        let result = change(&mut plan);
        let requests = plan.lose_replies + plan.lose_requests + plan.hold_requests;
        let clean = !plan.down && requests == 0 && plan.slow_appends.is_zero();
        self.appends_are_clean.store(clean, Ordering::SeqCst);
        self.fetches_are_clean
            .store(plan.empty_fetches == 0 && plan.fail_fetches.is_empty(), Ordering::SeqCst);
        result
    }

    pub(crate) fn appends_are_clean(&self) -> bool {
        self.appends_are_clean.load(Ordering::SeqCst)
    }

    pub(crate) fn cut_connections(&self) {
        self.link.send_modify(|link| *link = Link { up: false, epoch: link.epoch + 1 });
    }

    pub(crate) fn slow_appends(&self) -> Duration {
        self.plan.lock().slow_appends
    }

    pub(crate) fn request(&self) -> Fate {
        if self.appends_are_clean() {
            return Fate::Confirmed;
        }
        self.change(|plan| {
            if draw(&mut plan.lose_requests) {
                Fate::RequestLost
            } else if draw(&mut plan.lose_replies) {
                Fate::ReplyLost
            } else if draw(&mut plan.hold_requests) {
                Fate::Held
            } else {
                Fate::Confirmed
            }
        })
    }

    pub(crate) fn fetch(&self, partition: PartitionId) -> FetchFate {
        if self.fetches_are_clean.load(Ordering::SeqCst) {
            return FetchFate::Answered;
        }
        self.change(|plan| {
            if draw_of(&mut plan.fail_fetches, partition) {
                FetchFate::Failed
            } else if draw(&mut plan.empty_fetches) {
                FetchFate::Empty
            } else {
                FetchFate::Answered
            }
        })
    }

    pub(crate) fn commit_fails(&self, partition: PartitionId) -> bool {
        self.change(|plan| draw_of(&mut plan.fail_commits, partition))
    }
}

fn draw_of(counts: &mut BTreeMap<PartitionId, usize>, partition: PartitionId) -> bool {
    let due = counts.get_mut(&partition).is_some_and(draw);
    counts.retain(|_, count| *count > 0);
    due
}
