//! What the fault switches have set, and what it means for the next request, fetch or commit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_log_core::PartitionId;
use event_log_core::engine::Message;
use parking_lot::Mutex;

use crate::switch::Switch;

/// Whether connections can be made, and which of them are still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// Connections of an earlier epoch have been cut.
    pub(crate) epoch: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) down: bool,
    pub(crate) lose_replies: usize,
    pub(crate) lose_requests: usize,
    pub(crate) hold_requests: usize,
    pub(crate) slow_appends: Duration,
    pub(crate) slow_fetches: Duration,
    pub(crate) slow_connects: Duration,
    pub(crate) empty_fetches: usize,
    pub(crate) fail_fetches: BTreeMap<PartitionId, usize>,
    pub(crate) fail_commits: BTreeMap<PartitionId, usize>,
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
    /// No fault concerns fetches, but for a delay of all.
    fetches_are_clean: AtomicBool,
    pub(crate) link: Switch<Link>,
    /// Fetches wait for as long as it is set.
    pub(crate) stalled: Switch<bool>,
    pub(crate) held: Mutex<Vec<(PartitionId, Vec<Message>)>>,
}

impl Default for FaultState {
    fn default() -> Self {
        Self {
            plan: Mutex::default(),
            appends_are_clean: AtomicBool::new(true),
            fetches_are_clean: AtomicBool::new(true),
            link: Switch::new(Link { up: true, epoch: 0 }),
            stalled: Switch::default(),
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
        let requests = [plan.lose_replies, plan.lose_requests, plan.hold_requests];
        let clean = !plan.down && requests == [0; 3] && plan.slow_appends.is_zero();
        self.appends_are_clean.store(clean, Ordering::SeqCst);
        self.fetches_are_clean
            .store(plan.empty_fetches == 0 && plan.fail_fetches.is_empty(), Ordering::SeqCst);
        result
    }

    pub(crate) fn appends_are_clean(&self) -> bool {
        self.appends_are_clean.load(Ordering::SeqCst)
    }

    pub(crate) fn cut_connections(&self) {
        self.link.change(|link| *link = Link { up: false, epoch: link.epoch + 1 });
    }

    pub(crate) fn slow_appends(&self) -> Duration {
        self.plan.lock().slow_appends
    }

    pub(crate) fn slow_fetches(&self) -> Duration {
        self.plan.lock().slow_fetches
    }

    pub(crate) fn slow_connects(&self) -> Duration {
        self.plan.lock().slow_connects
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

    /// Completes when fetches are answered.
    pub(crate) async fn answering(&self) {
        self.stalled.wait_for(|stalled| !stalled).await;
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
