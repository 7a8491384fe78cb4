//! A consumer: it polls, commits some of what it gets, gives polls up, crashes, and comes back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use event_log_core::conformance::Probe;
use event_log_core::{Cursor, EventBatch, EventConsumer, EventLogExt, Notice};

use super::history::{Came, Delivered, Saw};
use super::run::{PATIENCE, World};

/// Cursors that it may commit later than they came.
const OLD_CURSORS: usize = 4;

/// How long to wait when a group cannot be joined.
const JOIN_AGAIN: Duration = Duration::from_millis(50);

/// A consumer that is open.
pub(super) struct Member {
    world: Arc<World>,
    number: u64,
    pub(super) consumer: Box<dyn EventConsumer<Probe>>,
    cursors: VecDeque<Cursor>,
}

/// Consumes until it is enough.
pub(super) async fn live(world: Arc<World>, group: &'static str, mut chance: fastrand::Rng) {
    let mut enough = world.enough();
    while !*enough.borrow() {
        let Some(mut member) = Member::join(&world, group).await else {
            let _again = tokio::time::timeout(JOIN_AGAIN, enough.wait_for(|&enough| enough)).await;
            continue;
        };
        let life = chance.u32(1..400);
        for _ in 0..life {
            if *enough.borrow() {
                break;
            }
            member.step(&mut chance).await;
        }
        member.go(chance.bool()).await;
    }
}

/// Reads all there is as the only member of a group, and commits it.
pub(super) async fn read_dry(world: &Arc<World>, group: &'static str) {
    let reading = async {
        let mut member = loop {
            match Member::join(world, group).await {
                Some(member) => break member,
                None => tokio::time::sleep(JOIN_AGAIN).await,
            }
        };
        loop {
            let came = member.poll(1_000, Duration::from_millis(20)).await;
            if came == Some(0) && world.is_at_the_end(&member).await {
                break;
            }
        }
        world.recorder.saw(Saw::Dry { consumer: member.number });
        let end = member.consumer.position().clone();
        member.commit(end).await;
        member.go(true).await;
    };
    if tokio::time::timeout(PATIENCE, reading).await.is_err() {
        world.recorder.saw(Saw::Stuck { what: format!("group {group} does not come to the end") });
    }
}

impl Member {
    async fn join(world: &Arc<World>, group: &'static str) -> Option<Self> {
        let number = world.next_consumer();
        world.recorder.saw(Saw::Joining { consumer: number, group: group.to_owned() });
        match tokio::time::timeout(PATIENCE, world.any_handle().consumer(group)).await {
            Ok(Ok(consumer)) => {
                world.recorder.saw(Saw::Joined { consumer: number });
                Some(Self { world: Arc::clone(world), number, consumer, cursors: VecDeque::new() })
            }
            Ok(Err(error)) => {
                let retryable = error.is_retryable();
                world.recorder.saw(Saw::Failed {
                    consumer: number,
                    call: format!("join: {error}"),
                    retryable,
                });
                None
            }
            Err(_) => {
                world.recorder.saw(Saw::Stuck { what: format!("joining {group}") });
                None
            }
        }
    }

    async fn step(&mut self, chance: &mut fastrand::Rng) {
        let most = if chance.bool() { chance.usize(1..20) } else { chance.usize(20..1_000) };
        let timeout = Duration::from_millis(chance.u64(0..100));
        if chance.u32(0..8) == 0 {
            // A poll that is given up in the middle, now and then in time.
            let patience = Duration::from_micros(chance.u64(0..3_000));
            let poll = self.consumer.poll(most, timeout);
            if let Ok(Ok(batch)) = tokio::time::timeout(patience, poll).await {
                self.note(batch);
            }
        } else {
            self.poll(most, timeout).await;
        }
        let cursor = match chance.u32(0..10) {
            0..5 => self.cursors.back().cloned(),
            5 => self.cursors.front().cloned(),
            _ => None,
        };
        if let Some(cursor) = cursor {
            self.commit(cursor).await;
        }
    }

    /// Polls, and says how many records came.
    async fn poll(&mut self, most: usize, timeout: Duration) -> Option<usize> {
        match tokio::time::timeout(PATIENCE, self.consumer.poll(most, timeout)).await {
            Ok(Ok(batch)) => {
                let count = batch.len();
                self.note(batch);
                Some(count)
            }
            Ok(Err(error)) => {
                let (consumer, retryable) = (self.number, error.is_retryable());
                self.saw(Saw::Failed { consumer, call: format!("poll: {error}"), retryable });
                None
            }
            Err(_) => {
                self.saw(Saw::Stuck { what: format!("a poll of consumer {}", self.number) });
                None
            }
        }
    }

    fn note(&mut self, batch: EventBatch<Probe>) {
        self.cursors.push_back(batch.cursor().clone());
        if self.cursors.len() > OLD_CURSORS {
            self.cursors.pop_front();
        }
        let delivered = batch.records.iter().map(|record| {
            let number = record.event.as_ref().ok().map(|probe| probe.number);
            Delivered(record.position.partition, record.position.offset, record.id, number)
        });
        let (consumer, records) = (self.number, delivered.collect());
        let told = batch.notices.into_iter().map(Came::from).collect();
        self.saw(Saw::Polled { consumer, records, told });
    }

    async fn commit(&mut self, up_to: Cursor) {
        let consumer = self.number;
        self.saw(Saw::Committing { consumer, up_to: up_to.clone() });
        match tokio::time::timeout(PATIENCE, self.consumer.commit(&up_to)).await {
            Ok(Ok(())) => self.saw(Saw::Committed { consumer, stored: up_to }),
            Ok(Err(error)) => {
                self.saw(Saw::Committed { consumer, stored: error.stored().clone() });
                // That a partition is somebody else's by now is how groups are.
                let retryable = error.failures().iter().all(|(_, failure)| {
                    failure.is_retryable() || matches!(failure, event_log_core::CommitErrorKind::Revoked)
                });
                self.saw(Saw::Failed { consumer, call: format!("commit: {error}"), retryable });
            }
            Err(_) => self.saw(Saw::Stuck { what: format!("a commit of consumer {consumer}") }),
        }
    }

    /// Leaves, or is dropped.
    async fn go(self, politely: bool) {
        self.world.recorder.saw(Saw::Left { consumer: self.number });
        if politely {
            // When nobody can be told it is as if it had crashed.
            let _told = tokio::time::timeout(PATIENCE, self.consumer.leave()).await;
        }
    }

    fn saw(&self, saw: Saw) {
        self.world.recorder.saw(saw);
    }
}

impl From<Notice> for Came {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Assigned(partitions) => Self::Assigned(partitions),
            Notice::Revoked(partitions) => Self::Revoked(partitions),
            Notice::Duplicate { position, first, .. } => Self::Duplicate { position, first },
            Notice::Fault { partition, .. } => Self::Fault(partition),
            other => Self::Odd(format!("{other:?}")),
        }
    }
}
