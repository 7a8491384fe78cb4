//! The life of a group, compared with a small model: which records it has to see, and which must not come again.
//!
//! A life is a start and two things that happen to the group, one after the other, on whatever a conformance [`Harness`]
//! stands for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use event_log_core::conformance::{Fault, Harness, Probe, Spec};
use event_log_core::{
    ConsumerOptions, Cursor, EventConsumer, EventLog, EventLogExt as _, Offset, PartitionId, SeekPosition,
    Timestamp, partition_of,
};
use tokio::time::Instant;

const PARTITIONS: u32 = 2;
/// The timeout of a poll that finds what it looks for at once.
const SHORT: Duration = Duration::from_millis(100);
/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// An event of this partition.
fn event(partition: u32, number: u64) -> Probe {
    let mut keys = (0..).map(|n: u32| format!("k{n}"));
    let key = keys.find(|key| partition_of(key, PARTITIONS) == PartitionId(partition)).expect("there is one");
    Probe::new(&key, number)
}

/// What happens to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happens {
    /// Every member leaves; one opens.
    Restart,
    /// One more member.
    ScaleOut,
    /// The newest member dies with records that it has not committed; one opens.
    Death,
    /// A member seeks to the beginning, reads, and commits.
    SeekBack,
    /// The log begins again.
    Truncation,
    /// A member commits an old cursor once more.
    LateCommit,
}

/// All that can happen.
pub const HAPPENS: [Happens; 6] = [
    Happens::Restart,
    Happens::ScaleOut,
    Happens::Death,
    Happens::SeekBack,
    Happens::Truncation,
    Happens::LateCommit,
];

/// What a group owes, in pure data: numbers instead of records.
#[derive(Debug, Default)]
struct Model {
    /// In the log, and at or behind the group's start.
    due: BTreeSet<u64>,
    /// Handled and committed: these must not come again.
    done: BTreeSet<u64>,
    /// In the log now.
    retained: BTreeSet<u64>,
}

impl Model {
    /// What is still to come when this has been seen.
    fn owed(&self, seen: &BTreeSet<u64>) -> Vec<u64> {
        let due = self.due.intersection(&self.retained).copied();
        due.filter(|number| !self.done.contains(number) && !seen.contains(number)).collect()
    }
}

struct Life<'a> {
    harness: &'a dyn Harness,
    log: Arc<dyn EventLog<Probe>>,
    start: SeekPosition,
    model: Model,
    members: Vec<Box<dyn EventConsumer<Probe>>>,
    next: u64,
    old_cursor: Option<Cursor>,
    trace: String,
}

impl<'a> Life<'a> {
    async fn begin(harness: &'a dyn Harness, start: SeekPosition) -> Self {
        let mut spec = Spec::default();
        spec.partitions = Some(PARTITIONS);
        let log = harness.open(&spec).await.expect("the log opens");
        let model = Model::default();
        let mut life = Self {
            harness,
            log,
            trace: format!("{start:?}"),
            start,
            model,
            members: Vec::new(),
            next: 0,
            old_cursor: None,
        };
        life.append(false).await;
        // Five are in each partition: numbers 0, 2, .. in partition 0, and 1, 3, .. in partition 1.
        let from = |offset: u64| (0..10).filter(move |number| number / 2 >= offset);
        life.model.due = match &life.start {
            SeekPosition::Beginning | SeekPosition::Timestamp(_) => from(0).collect(),
            SeekPosition::End => BTreeSet::new(),
            SeekPosition::FromEnd(count) => (10 - *count as u64..10).collect(),
            _ => from(3).collect(),
        };
        life.join().await;
        life
    }

    /// Appends five events to each partition.
    async fn append(&mut self, is_due: bool) {
        for number in self.next..self.next + 10 {
            let partition = (number % u64::from(PARTITIONS)) as u32;
            self.log.append_acked(event(partition, number)).await.expect(&self.trace);
            // Which records are the last is a matter of their times, which are all the same in time that stands still.
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.model.retained.insert(number);
            if is_due {
                self.model.due.insert(number);
            }
        }
        self.next += 10;
    }

    async fn join(&mut self) {
        let options = ConsumerOptions::starting_at(self.start.clone());
        self.members.push(self.log.consumer_with("life", options).await.expect(&self.trace));
    }

    /// Polls the members in turn, until everything that is owed has come and then nothing more. Returns what they have read;
    /// `commits` says whether they commit it.
    async fn read(&mut self, commits: bool) -> BTreeSet<u64> {
        let (start, mut seen, mut quiet) = (Instant::now(), BTreeSet::new(), 0);
        while quiet < 2 {
            let mut has_read = false;
            for member in &mut self.members {
                let batch = member.poll(100, SHORT).await.expect(&self.trace);
                has_read |= !batch.is_empty();
                if commits && !batch.is_empty() {
                    // A partition that has just gone elsewhere concerns itself alone: what it had comes again there.
                    let failed: BTreeSet<_> = match member.commit(batch.cursor()).await {
                        Ok(()) => BTreeSet::new(),
                        Err(error) => error.failures().iter().map(|(partition, _)| *partition).collect(),
                    };
                    let stored = batch.records.iter().filter(|one| !failed.contains(&one.position.partition));
                    let stored = stored.filter_map(|one| one.event.as_ref().ok()).map(|event| event.number);
                    self.model.done.extend(stored);
                    self.old_cursor.get_or_insert_with(|| batch.cursor().clone());
                }
                seen.extend(batch.into_events().map(|event| event.number));
            }
            let is_owed = !self.model.owed(&seen).is_empty() && start.elapsed() < PATIENCE;
            quiet = if has_read || is_owed { 0 } else { quiet + 1 };
        }
        seen
    }

    /// Everything that is due and not done comes, nothing that is done does, and in the end the group has no lag.
    async fn settle(&mut self) {
        let done = self.model.done.clone();
        let seen = self.read(true).await;
        let again: Vec<_> = seen.intersection(&done).collect();
        assert!(again.is_empty(), "{}: {again:?} is committed and comes again", self.trace);
        let owed = self.model.owed(&seen);
        assert!(owed.is_empty(), "{}: {owed:?} never comes", self.trace);
        let early: Vec<_> = seen.difference(&self.model.due).collect();
        assert!(early.is_empty(), "{}: {early:?} is from before the start", self.trace);
        assert_eq!(self.log.lag("life").await.expect(&self.trace).total(), 0, "{}", self.trace);
    }

    async fn happens(&mut self, what: Happens) {
        self.trace = format!("{}, {what:?}", self.trace);
        match what {
            Happens::Restart => {
                for member in self.members.drain(..) {
                    member.leave().await.expect(&self.trace);
                }
                self.append(true).await;
                self.join().await;
            }
            Happens::ScaleOut => {
                self.append(true).await;
                self.join().await;
            }
            Happens::Death => {
                self.append(true).await;
                // Read, and not committed: it is due as before.
                self.read(false).await;
                drop(self.members.pop());
                // The others have read without a commit as well: only a new member is owed all of it.
                self.members.clear();
                self.join().await;
            }
            Happens::SeekBack => {
                self.append(true).await;
                for member in &mut self.members {
                    member.seek(SeekPosition::Beginning).await.expect(&self.trace);
                }
                // What the application asks for again on purpose is neither done nor before the start.
                self.model.due = self.model.retained.clone();
                self.model.done.clear();
            }
            Happens::Truncation => {
                self.read(true).await;
                self.harness.inject(Fault::BeginAgain).await.expect(&self.trace);
                self.model.retained.clear();
                self.append(true).await;
            }
            Happens::LateCommit => {
                if let Some(old) = self.old_cursor.clone() {
                    let before = self.log.lag("life").await.expect(&self.trace).total();
                    for member in &mut self.members {
                        // Of this member or not, stored already or not: it takes nothing back.
                        drop(member.commit(&old).await);
                    }
                    let after = self.log.lag("life").await.expect(&self.trace).total();
                    assert!(after <= before, "{}: the place went back, {before} to {after}", self.trace);
                }
                self.append(true).await;
            }
        }
        self.settle().await;
    }
}

/// Where a group can start.
pub fn starts() -> Vec<SeekPosition> {
    let cursor: Cursor = (0..PARTITIONS).map(|partition| (PartitionId(partition), Offset(3))).collect();
    vec![
        SeekPosition::Beginning,
        SeekPosition::End,
        SeekPosition::FromEnd(4),
        SeekPosition::Timestamp(Timestamp(1)),
        SeekPosition::Cursor(cursor),
    ]
}

/// Lives one life, and panics where the group does not get what the model says. `settles_first` says whether the
/// group has committed something before anything happens.
pub async fn live(harness: &dyn Harness, start: SeekPosition, happens: [Happens; 2], settles_first: bool) {
    let mut life = Life::begin(harness, start).await;
    if settles_first {
        life.settle().await;
    }
    for what in happens {
        life.happens(what).await;
    }
}
