//! What a program can do, and how proptest makes programs up.

use event_log_core::Overflow;
use event_log_core::conformance::Defect;
use proptest::collection::vec;
use proptest::prelude::*;

/// Groups that a program has.
const GROUPS: usize = 2;

/// Settings and operations: all that a run depends on.
#[derive(Clone, Debug)]
pub struct Program {
    /// Partitions of the topic.
    pub partitions: u32,
    /// Events that the queue holds.
    pub buffer: usize,
    /// What a full reconnect buffer does.
    pub overflow: Overflow,
    /// What is done, in this order.
    pub ops: Vec<Op>,
}

/// An event to append. Its number is given by the run.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// One of a few keys.
    pub key: u8,
    /// What is wrong with it.
    pub defect: Option<Defect>,
}

/// Where a consumer starts in a group that has never committed.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// At the beginning.
    Beginning,
    /// At the end.
    End,
}

/// Where a consumer seeks.
#[derive(Clone, Copy, Debug)]
pub enum Seek {
    /// The beginning.
    Beginning,
    /// The end.
    End,
    /// So many records before the end. With several partitions: all of them, since which of two records is older
    /// depends on clocks.
    FromEnd(usize),
    /// An offset of a partition, either of which may not exist.
    Position(u32, u64),
    /// Where it was after so many reads less.
    Back(usize),
}

/// One step of a program. A group has at most one consumer but for [`HandOver`](Op::HandOver); an operation on one that
/// is not there shows that.
#[derive(Clone, Debug)]
pub enum Op {
    /// `append_batch`, and waiting for every receipt.
    Append(Vec<Event>),
    /// `submit`, one by one, and `flush`.
    Submit(Vec<Event>),
    /// `submit` while the log is away, and waiting until it is back.
    Outage(Vec<Event>),
    /// `append_batch` of which the first reply gets lost.
    LoseReply(Vec<Event>),
    /// `append_batch` of which the first request gets lost.
    LoseRequest(Vec<Event>),
    /// A message of a foreign producer.
    Foreign(u32),
    /// `close`, and opening again. Consumers go.
    Reopen,
    /// The log begins again at 0. Consumers go.
    BeginAgain(Vec<Event>),
    /// Opens the group's consumer in place of the one that may be there.
    Join(usize, Start),
    /// Drops the consumer, or has it leave.
    Leave(usize, bool),
    /// Reads so many records, or all there are. With several partitions always all: which comes first depends on clocks.
    Read(usize, usize),
    /// Commits the cursor of the last read, or of one that is so many reads older.
    Commit(usize, usize),
    /// Commits more than was delivered.
    CommitAhead(usize),
    /// Seeks.
    Seek(usize, Seek),
    /// A second member joins, both read what is appended, and it leaves or dies.
    HandOver(usize, Vec<Event>, bool),
    /// The lag of the group.
    Lag(usize),
    /// Forgets the group.
    DeleteGroup(usize),
}

/// Programs of up to `length` operations.
pub fn program(length: usize) -> impl Strategy<Value = Program> {
    let overflow = prop_oneof![2 => Just(Overflow::DropOldest), 1 => Just(Overflow::Reject)];
    let start = vec(join(), 0..=GROUPS);
    (1..=3_u32, 6..=12_usize, overflow, start, vec(op(), 1..=length)).prop_map(
        |(partitions, buffer, overflow, mut ops, more)| {
            ops.extend(more);
            Program { partitions, buffer, overflow, ops }
        },
    )
}

fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    let defect = prop_oneof![
        14 => Just(None),
        1 => Just(Some(Defect::DecodeError)),
        1 => Just(Some(Defect::Unencodable)),
    ];
    vec((0..5_u8, defect).prop_map(|(key, defect)| Event { key, defect }), 1..=most)
}

fn join() -> impl Strategy<Value = Op> {
    let start = prop_oneof![3 => Just(Start::Beginning), 1 => Just(Start::End)];
    (0..GROUPS, start).prop_map(|(group, start)| Op::Join(group, start))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![20 => producing(), 40 => consuming(), 3 => breaking()]
}

fn producing() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => events(12).prop_map(Op::Append),
        3 => events(6).prop_map(Op::Submit),
        1 => (0..3_u32).prop_map(Op::Foreign),
    ]
}

fn consuming() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => join(),
        2 => (0..GROUPS, any::<bool>()).prop_map(|(group, says_so)| Op::Leave(group, says_so)),
        12 => (0..GROUPS, prop_oneof![1..5_usize, Just(100)]).prop_map(|(group, max)| Op::Read(group, max)),
        8 => (0..GROUPS, prop_oneof![3 => Just(0_usize), 1 => 1..4_usize])
            .prop_map(|(group, back)| Op::Commit(group, back)),
        1 => (0..GROUPS).prop_map(Op::CommitAhead),
        5 => (0..GROUPS, seek()).prop_map(|(group, to)| Op::Seek(group, to)),
        3 => (0..GROUPS).prop_map(Op::Lag),
        1 => (0..GROUPS).prop_map(Op::DeleteGroup),
        1 => (0..GROUPS, events(12), any::<bool>())
            .prop_map(|(group, events, dies)| Op::HandOver(group, events, dies)),
    ]
}

fn breaking() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => events(20).prop_map(Op::Outage),
        2 => events(8).prop_map(Op::LoseReply),
        1 => events(8).prop_map(Op::LoseRequest),
        1 => Just(Op::Reopen),
        1 => events(6).prop_map(Op::BeginAgain),
    ]
}

fn seek() -> impl Strategy<Value = Seek> {
    prop_oneof![
        2 => Just(Seek::Beginning),
        1 => Just(Seek::End),
        2 => (0..12_usize).prop_map(Seek::FromEnd),
        2 => (0..4_u32, 0..20_u64).prop_map(|(partition, offset)| Seek::Position(partition, offset)),
        2 => (0..3_usize).prop_map(Seek::Back),
    ]
}
