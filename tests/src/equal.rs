//! The same program on two backends must be the same to see.
//!
//! The [model](crate::model) knows what a log has to do and judges one backend. Here nobody knows: a program is carried
//! out on whatever a conformance [`Harness`] stands for, and what it saw is written down so that no clock, no pace and no
//! share-out of partitions shows in it. Two backends that keep the contract see the same, down to offsets, cursors, lag
//! and the kinds of errors; where they differ, one of them is wrong, or the contract leaves open what it should not.
//!
//! So that this holds, a program is a sequence: an operation ends before the next begins, and whatever depends on who got
//! there first is looked at as a whole.

mod op;
mod produce;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event_log_core::conformance::{Fault, Harness, NotRun, Probe, Spec};
use event_log_core::{Cursor, Error, EventConsumer, EventLog, Offset, PartitionId};

pub use self::op::{Event, Op, Program, Seek, Start, program};

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an operation showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// How each event ended.
    Ended(Vec<End>),
    /// What was read, by partition, and where the reader stands.
    Read(BTreeMap<u32, Vec<(u64, What)>>, Cursor),
    /// Where a consumer stands, and what its group has committed.
    Stands(Cursor, Cursor),
    /// How far a group lags: what it has committed, and the watermarks, by partition.
    Lags(Vec<(Option<Offset>, Offset, Offset)>),
    /// Two members shared the partitions and one of them went: what they read, and what was read again for it.
    HandedOver {
        /// What both together have read, sorted.
        read: Vec<u64>,
        /// Records that were read twice before, not again after, or again although they were committed.
        wrong: Vec<u64>,
    },
    /// The operation failed.
    Failed(&'static str),
    /// There is nobody to do it.
    Nobody,
}

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At this partition and offset.
    Committed(u32, u64),
    /// Anything else, by name.
    Failed(&'static str),
}

/// What a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The event of this number.
    Event(u64),
    /// Something that cannot be decoded.
    DecodeError,
}

pub(crate) struct Member {
    consumer: Box<dyn EventConsumer<Probe>>,
    /// The cursors of what it has read, the last one last.
    cursors: Vec<Cursor>,
}

/// The world in which a program is carried out.
pub(crate) struct World<'a> {
    harness: &'a dyn Harness,
    spec: Spec,
    log: Arc<dyn EventLog<Probe>>,
    events: u64,
    members: BTreeMap<usize, Member>,
}

/// Carries a program out.
///
/// # Errors
///
/// When the harness cannot make a fault that the program has.
///
/// # Panics
///
/// When something does not happen that must.
pub async fn run(harness: &dyn Harness, program: &Program) -> Result<Vec<Seen>, NotRun> {
    let mut spec = Spec::default();
    spec.partitions = Some(program.partitions);
    spec.config.buffer_events = program.buffer;
    spec.config.overflow = program.overflow;
    let log = harness.open(&spec).await.expect("the log opens");
    let mut world = World { harness, spec, log, events: 0, members: BTreeMap::new() };
    let mut seen = Vec::with_capacity(program.ops.len());
    for op in &program.ops {
        seen.push(world.step(op).await?);
    }
    Ok(seen)
}

impl World<'_> {
    async fn step(&mut self, op: &Op) -> Result<Seen, NotRun> {
        Ok(match op {
            Op::Append(events) => self.append(events).await,
            Op::Submit(events) => self.submit(events).await,
            Op::Outage(events) => self.outage(events).await?,
            Op::LoseReply(events) => {
                self.harness.inject(Fault::LoseReplies(1)).await?;
                self.append(events).await
            }
            Op::LoseRequest(events) => {
                self.harness.inject(Fault::LoseRequests(1)).await?;
                self.append(events).await
            }
            Op::Foreign(partition) => {
                let partition = PartitionId(partition % self.partitions());
                self.harness.inject(Fault::AppendForeign(partition, "foreign"[..].into())).await?;
                self.lag(0).await
            }
            Op::Reopen => {
                self.members.clear();
                let closed = self.log.close(PATIENCE).await;
                self.log = self.harness.open(&self.spec).await.expect("the log opens again");
                if closed.is_ok() { self.lag(0).await } else { Seen::Failed("leftover") }
            }
            Op::BeginAgain(events) => {
                self.members.clear();
                self.harness.inject(Fault::BeginAgain).await?;
                self.append(events).await
            }
            Op::Join(group, start) => self.join(*group, start).await,
            Op::Leave(group, says_so) => self.leave(*group, *says_so).await,
            Op::Read(group, max) => self.read(*group, *max).await,
            Op::Commit(group, back) => self.commit(*group, *back).await,
            Op::CommitAhead(group) => self.commit_ahead(*group).await,
            Op::Seek(group, to) => self.seek(*group, to).await,
            Op::HandOver(group, events, dies) => self.hand_over(*group, events, *dies).await,
            Op::Lag(group) => self.lag(*group).await,
            Op::DeleteGroup(group) => self.delete_group(*group).await,
        })
    }

    const fn partitions(&self) -> u32 {
        match self.spec.partitions {
            Some(partitions) => partitions,
            None => event_log_core::limits::PARTITIONS,
        }
    }

    async fn delete_group(&self, group: usize) -> Seen {
        let deleting = async {
            loop {
                match self.log.delete_group(&name(group)).await {
                    Ok(()) => return self.lag(group).await,
                    // Whoever was dropped just now may still count for a moment.
                    Err(Error::InvalidArgument { .. }) if !self.members.contains_key(&group) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(error) => return Seen::Failed(kind(&error)),
                }
            }
        };
        tokio::time::timeout(PATIENCE, deleting).await.expect("those who were dropped are gone")
    }

    async fn lag(&self, group: usize) -> Seen {
        match self.log.lag(&name(group)).await {
            Ok(lag) => Seen::Lags(
                lag.iter().map(|(_, lag)| (lag.committed, lag.watermarks.low, lag.watermarks.high)).collect(),
            ),
            Err(error) => Seen::Failed(kind(&error)),
        }
    }
}

fn name(group: usize) -> String {
    format!("group-{group}")
}

/// The kind of an error, without what a backend says besides.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Unavailable(_) => "unavailable",
        Error::Timeout(_) => "timeout",
        Error::Closed => "closed",
        Error::TopologyMismatch { .. } => "topology",
        Error::Unauthorized(_) => "unauthorized",
        Error::InvalidArgument { name, .. } => name,
        Error::Unsupported(_) => "unsupported",
        Error::Poisoned { .. } => "poisoned",
        _ => "other",
    }
}
