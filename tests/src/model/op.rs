//! What a program can do, and how proptest makes programs up.

use std::time::Duration;

use event_log_core::Overflow;
use event_log_core::conformance::Defect;
use proptest::collection::vec;
use proptest::prelude::*;

/// Groups that consumers of a program belong to.
pub(super) const GROUPS: usize = 2;
/// Members that a group can have at a time.
pub(super) const SLOTS: usize = 3;

/// Settings and operations: all that a run depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// How the topic and the logs are made.
    pub settings: Settings,
    /// What is done, in this order.
    pub ops: Vec<Op>,
}

/// How the topic and the logs are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Partitions of the topic.
    pub partitions: u32,
    /// Records that a partition retains; all of them when there is no number.
    pub retention: Option<u64>,
    /// Events that the queue of a log holds.
    pub buffer: usize,
    /// Events of one request.
    pub request: usize,
    /// What a full reconnect buffer does.
    pub overflow: Overflow,
    /// How long an event may wait.
    pub expiry: Option<Duration>,
    /// Where ids and jitter come from.
    pub seed: u64,
}

/// An event to append. Its number is given by the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// One of a few keys.
    pub key: Option<u8>,
    /// What is wrong with it.
    pub defect: Option<Defect>,
}

/// Where a consumer starts in a group that has never committed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// At the beginning.
    Beginning,
    /// At the end.
    End,
    /// This many records before the end.
    FromEnd(usize),
}

/// Where a consumer seeks.
#[derive(Clone, Debug, PartialEq)]
pub enum Seek {
    /// The beginning.
    Beginning,
    /// The end.
    End,
    /// An offset of a partition, which may not exist.
    Position(u32, u64),
    /// The cursor of the batch that is this many batches old.
    Batch(usize),
    /// This long ago.
    Ago(Duration),
    /// This many records before the end.
    FromEnd(usize),
}

/// What a consumer commits.
#[derive(Clone, Debug, PartialEq)]
pub enum Which {
    /// The cursor of the batch that is this many batches old; 0 is the usual thing.
    Batch(usize),
    /// Its position with one of its partitions this far ahead: a cursor that was mixed up.
    Ahead(u32, u64),
}

/// One step of a program. Consumers are named by group and slot; an operation on one that is not there does
/// nothing. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `submit`, keeping the ticket.
    Submit(Event),
    /// `submit`, dropping the ticket.
    Forget(Event),
    /// `append`; awaited now, or polled once and then left to the side.
    Append(Event, bool),
    /// `append`, polled once and dropped.
    Abandon(Event),
    /// `append_batch`, likewise.
    Batch(Vec<Event>, bool),
    /// Lets the tasks of the log run, without time passing.
    Settle,
    /// Lets time pass.
    Advance(u64),
    /// `flush`, for at most this long.
    Flush(u64),
    /// `close` with this deadline, then a new handle.
    Close(u64),
    /// The client dies: the last handle is dropped, and with it the appends under way. Then a new handle.
    Crash,
    /// Opens a consumer, in place of the one that may be there, which is dropped.
    Join(usize, usize, Start),
    /// Drops a consumer; or has it leave.
    Leave(usize, usize, bool),
    /// `poll` for so many records with this timeout.
    Poll(usize, usize, usize, u64),
    /// `poll`, looked at once and dropped when it waits.
    Glance(usize, usize, usize),
    /// `commit`.
    Commit(usize, usize, Which),
    /// `seek`.
    Seek(usize, usize, Seek),
    /// `delete_group`.
    DeleteGroup(usize),
    /// Cuts all connections, and keeps them cut.
    Disconnect,
    /// Lets connections through.
    Reconnect,
    /// Cuts all connections once.
    Interrupt,
    /// Replies to the next requests get lost.
    LoseReplies(usize),
    /// The next requests get lost.
    LoseRequests(usize),
    /// The next requests stay under way.
    HoldRequests(usize),
    /// They arrive.
    DeliverHeld,
    /// Appends take this long.
    SlowAppends(u64),
    /// A gap in a partition.
    SkipOffsets(u32, u64),
    /// The next fetches return nothing.
    EmptyFetches(usize),
    /// The next fetches of a partition fail.
    FailFetches(u32, usize),
    /// The next commits of a partition fail.
    FailCommits(u32, usize),
    /// All records are removed (only where there is retention as well).
    Purge,
    /// A message of a foreign producer.
    Foreign(u32),
}

/// Programs of up to `length` operations.
pub fn program(length: usize) -> impl Strategy<Value = Program> {
    // Without somebody who reads from early on, little of the consuming side would be reached.
    let readers = vec(join(), 0..=3);
    (settings(), readers, vec(op(), 1..=length)).prop_map(|(settings, mut ops, more)| {
        ops.extend(more);
        Program { settings, ops }
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    let overflow = prop_oneof![
        3 => Just(Overflow::DropOldest),
        1 => Just(Overflow::Reject),
        1 => Just(Overflow::Block { deadline: Duration::from_millis(1_500) }),
    ];
    let retention = prop_oneof![3 => Just(None), 1 => (3..12_u64).prop_map(Some)];
    let expiry = prop_oneof![6 => Just(None), 1 => Just(Some(Duration::from_millis(2_500)))];
    (1..=4_u32, retention, 4..=16_usize, 1..=8_usize, overflow, expiry, any::<u64>()).prop_map(
        |(partitions, retention, buffer, request, overflow, expiry, seed)| Settings {
            partitions,
            retention,
            buffer,
            request,
            overflow,
            expiry,
            seed,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let key = prop_oneof![5 => (0..5_u8).prop_map(Some), 1 => Just(None)];
    let defect = prop_oneof![
        16 => Just(None),
        1 => Just(Some(Defect::DecodeError)),
        1 => Just(Some(Defect::Unencodable)),
    ];
    (key, defect).prop_map(|(key, defect)| Event { key, defect })
}

/// Most programs are about few consumers: slot 0 of group 0 comes most often.
fn member() -> impl Strategy<Value = (usize, usize)> {
    (
        prop_oneof![3 => Just(0_usize), 1 => Just(1)],
        prop_oneof![5 => Just(0_usize), 2 => Just(1), 1 => Just(2)],
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![10 => producing(), 4 => passing(), 14 => consuming(), 6 => faulting()]
}

fn producing() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => event().prop_map(Op::Submit),
        1 => event().prop_map(Op::Forget),
        4 => (event(), any::<bool>()).prop_map(|(event, wait)| Op::Append(event, wait)),
        1 => event().prop_map(Op::Abandon),
        4 => (vec(event(), 0..10), any::<bool>()).prop_map(|(events, wait)| Op::Batch(events, wait)),
    ]
}

fn passing() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Settle),
        6 => prop_oneof![Just(7), Just(150), Just(1_100), Just(4_000)].prop_map(Op::Advance),
        2 => prop_oneof![Just(50), Just(9_000)].prop_map(Op::Flush),
        1 => prop_oneof![Just(0), Just(700), Just(5_000)].prop_map(Op::Close),
        1 => Just(Op::Crash),
    ]
}

fn join() -> impl Strategy<Value = Op> {
    let start = prop_oneof![4 => Just(Start::Beginning), 1 => Just(Start::End), 1 => (0..6_usize).prop_map(Start::FromEnd)];
    (member(), start).prop_map(|((group, slot), start)| Op::Join(group, slot, start))
}

fn consuming() -> impl Strategy<Value = Op> {
    let timeout = prop_oneof![4 => Just(0), 1 => Just(150)];
    let which = prop_oneof![
        6 => Just(Which::Batch(0)),
        2 => (1..4_usize).prop_map(Which::Batch),
        2 => (0..4_u32, 1..9_u64).prop_map(|(partition, by)| Which::Ahead(partition, by)),
    ];
    prop_oneof![
        3 => join(),
        1 => (member(), any::<bool>()).prop_map(|((group, slot), leave)| Op::Leave(group, slot, leave)),
        10 => (member(), prop_oneof![1..4_usize, Just(50)], timeout)
            .prop_map(|((group, slot), max, timeout)| Op::Poll(group, slot, max, timeout)),
        1 => (member(), 1..4_usize).prop_map(|((group, slot), max)| Op::Glance(group, slot, max)),
        8 => (member(), which).prop_map(|((group, slot), which)| Op::Commit(group, slot, which)),
        3 => (member(), seek()).prop_map(|((group, slot), to)| Op::Seek(group, slot, to)),
        1 => (0..GROUPS).prop_map(Op::DeleteGroup),
    ]
}

fn seek() -> impl Strategy<Value = Seek> {
    prop_oneof![
        2 => Just(Seek::Beginning),
        1 => Just(Seek::End),
        2 => (0..5_u32, 0..20_u64).prop_map(|(partition, offset)| Seek::Position(partition, offset)),
        2 => (0..4_usize).prop_map(Seek::Batch),
        1 => (0..2_000_u64).prop_map(|millis| Seek::Ago(Duration::from_millis(millis))),
        2 => (0..12_usize).prop_map(Seek::FromEnd),
    ]
}

fn faulting() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Disconnect),
        4 => Just(Op::Reconnect),
        2 => Just(Op::Interrupt),
        2 => (1..3_usize).prop_map(Op::LoseReplies),
        1 => (1..3_usize).prop_map(Op::LoseRequests),
        2 => (1..3_usize).prop_map(Op::HoldRequests),
        2 => Just(Op::DeliverHeld),
        2 => prop_oneof![Just(0), Just(5), Just(100)].prop_map(Op::SlowAppends),
        1 => (0..4_u32, 1..5_u64).prop_map(|(partition, count)| Op::SkipOffsets(partition, count)),
        1 => (1..4_usize).prop_map(Op::EmptyFetches),
        1 => (0..4_u32, 1..3_usize).prop_map(|(partition, count)| Op::FailFetches(partition, count)),
        1 => (0..4_u32, 1..3_usize).prop_map(|(partition, count)| Op::FailCommits(partition, count)),
        1 => Just(Op::Purge),
        1 => (0..4_u32).prop_map(Op::Foreign),
    ]
}
