//! Arbitrary JSON as positions and cursors, and what a consumer does when it is given them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use event_log_core::engine::TokioClock;
use event_log_core::{
    CommitErrorKind, ConsumerOptions, Cursor, DeadLetter, Error, EventConsumer, EventId, EventLog, Notice,
    Offset, PartitionId, Position, ProducerConfig, RawCodec, RawEvent, SeekPosition, Timestamp, limits,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};
use futures::FutureExt;

use super::{check_waits, parts, read_json, run_paused};

const PARTITIONS: u32 = 3;
/// How many records the partitions begin with.
const RECORDS: [usize; PARTITIONS as usize] = [5, 2, 0];
/// More would only make a run longer.
const STEPS: usize = 40;
const GROUP: &str = "readers";

/// Reads the parts of an input as everything that the core crate reads, and does with each what its first byte says: `c`
/// commits a cursor, `s` seeks, `p` polls, `a` appends, `n` goes on with a new consumer of the group, and `g` opens a new
/// group that starts there.
///
/// What can be read can be written and read again. A commit stores what it says, as far as it was reached, and nothing
/// at all if it goes beyond that or names a partition that is not there. A seek goes where it says, or fails and moves
/// nothing; beyond the end, reading goes on at the beginning, and a notice says so.
///
/// # Panics
///
/// If that does not hold.
pub fn cursors(data: &[u8]) {
    read_all(data);
    let steps: Vec<_> = parts(data).filter_map(|step| step.split_first()).take(STEPS).collect();
    for (_, json) in &steps {
        read_all(json);
    }
    run_paused(async {
        let mut run = Run::begin().await;
        for (&what, json) in steps {
            run.step(what, json).await;
        }
        run.resume().await;
    });
}

fn read_all(json: &[u8]) {
    if let Some(cursor) = read_json::<Cursor>(json) {
        assert!(cursor.iter().zip(cursor.iter().skip(1)).all(|(a, b)| a.0 < b.0), "{cursor}");
        assert!(cursor.iter().all(|(partition, next)| cursor.get(partition) == Some(next)));
        assert_eq!(cursor.iter().collect::<Cursor>(), cursor);
    }
    if let Some(position) = read_json::<Position>(json) {
        let mut behind = Cursor::new();
        behind.advance_past(position);
        assert!(behind.get(position.partition).is_some_and(|next| next >= position.offset));
    }
    read_json::<SeekPosition>(json);
    read_json::<Offset>(json);
    read_json::<PartitionId>(json);
    read_json::<Timestamp>(json);
    read_json::<EventId>(json);
    read_json::<RawEvent>(json);
    read_json::<DeadLetter>(json);
    if let Some(config) = read_json::<ProducerConfig>(json).filter(|config| config.validate().is_ok()) {
        check_waits(&config);
        run_paused(append_with(config));
    }
}

/// A log can be used with any settings that are valid, also while it is away. Every event has an outcome.
async fn append_with(config: ProducerConfig) {
    let broker = MemoryBroker::with_clock(Arc::new(TokioClock::starting_at(Timestamp(1))));
    let log = event_log_memory::builder().broker(&broker).config(config).codec(RawCodec).seed(1);
    let log: MemoryLog<RawEvent> = log.open().await.expect("the settings are valid");
    let faults = broker.faults("events").expect("the log has opened the topic");
    let mut tickets = Vec::new();
    for away in [false, true] {
        if away {
            faults.disconnect();
        }
        tickets.extend(
            ["a", "b", "c"].into_iter().filter_map(|event| log.submit(RawEvent::new(None, event)).ok()),
        );
    }
    faults.reconnect();
    log.flush().await.expect("the log is open");
    for ticket in tickets {
        drop(ticket.now_or_never().expect("it has an outcome once the log was flushed"));
    }
}

/// What should be true of one partition of the consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lane {
    next: Offset,
    /// Where delivery began when the consumer got the partition or last sought in it.
    since: Offset,
    /// The group's place: its first member has stored where it starts.
    committed: Offset,
    /// A seek went back behind what is committed, so that the next commit may.
    rewound: bool,
    /// How far any epoch of this consumer has come that is over: a cursor of the application's own may be from it.
    reached: Offset,
    /// It was sent behind the end, and no poll has said yet where reading goes on.
    beyond: bool,
    /// Where the last epochs that are over have ended, behind the end too.
    ended: VecDeque<Offset>,
}

/// What a commit of one offset should come to.
#[derive(PartialEq, Eq)]
enum Expected {
    Done,
    Late,
    MixedUp,
}

impl Lane {
    fn move_to(&mut self, next: Offset) {
        if !self.beyond {
            self.reached = self.reached.max(self.next);
        }
        self.ended.push_back(self.next);
        if self.ended.len() > limits::REMEMBERED_EPOCHS {
            self.ended.pop_front();
        }
        (self.next, self.since, self.beyond) = (next, next, false);
        self.rewound = next < self.committed;
    }

    fn expects(&self, asked: Offset) -> Expected {
        // Where it was sent in vain it has reached nothing.
        let delivered = if self.beyond { self.reached.max(self.committed) } else { self.next };
        if self.beyond && asked == self.next {
            Expected::Late
        } else if asked > delivered {
            let is_late = asked <= self.reached || self.ended.contains(&asked);
            if is_late { Expected::Late } else { Expected::MixedUp }
        } else if self.beyond && asked > self.committed {
            Expected::Late
        } else {
            Expected::Done
        }
    }
}

struct Run {
    faults: Faults,
    log: MemoryLog<RawEvent>,
    reader: Box<dyn EventConsumer<RawEvent>>,
    lanes: BTreeMap<PartitionId, Lane>,
    groups: usize,
}

impl Run {
    async fn begin() -> Self {
        let clock = Arc::new(TokioClock::starting_at(Timestamp(1_000)));
        let broker = MemoryBroker::with_clock(clock);
        let log = event_log_memory::builder().broker(&broker).partitions(PARTITIONS).codec(RawCodec).seed(1);
        let log: MemoryLog<RawEvent> = log.open().await.expect("the log opens");
        let faults = broker.faults("events").expect("the log has opened the topic");
        let reader = open(&log, GROUP, SeekPosition::Beginning).await;
        let lanes = (0..PARTITIONS).map(|partition| (PartitionId(partition), Lane::default())).collect();
        let run = Self { faults, log, reader, lanes, groups: 0 };
        for (count, partition) in RECORDS.into_iter().zip(0..) {
            (0..count).for_each(|_| run.append(PartitionId(partition)));
        }
        run
    }

    async fn step(&mut self, what: u8, json: &[u8]) {
        match what {
            b'c' => {
                if let Ok(cursor) = serde_json::from_slice(json) {
                    self.commit(&cursor).await;
                }
            }
            b's' => {
                if let Ok(to) = serde_json::from_slice(json) {
                    self.seek(to).await;
                }
            }
            b'p' => self.poll(serde_json::from_slice(json).unwrap_or(100)).await,
            b'a' => {
                let partition = serde_json::from_slice::<PartitionId>(json).unwrap_or_default();
                if partition.0 < PARTITIONS {
                    self.append(partition);
                }
            }
            b'n' => self.resume().await,
            b'g' => {
                if let Ok(start) = serde_json::from_slice(json) {
                    self.start_group(start).await;
                }
            }
            _ => {}
        }
    }

    fn append(&self, partition: PartitionId) {
        self.faults.append_foreign(partition, "x").expect("there is such a partition");
    }

    async fn poll(&mut self, at_once: usize) {
        let batch = match self.reader.poll(at_once, Duration::ZERO).await {
            Ok(batch) => batch,
            Err(error) => {
                assert!(at_once == 0 && matches!(error, Error::InvalidArgument { .. }), "{error:?}");
                return;
            }
        };
        let marks = self.log.watermarks().await.expect("the watermarks are known");
        for notice in &batch.notices {
            let Notice::Truncated { partition, from, resumed_at } = *notice else { panic!("{notice:?}") };
            let lane = self.lanes.get_mut(&partition).expect("there is such a partition");
            assert_eq!((from, resumed_at), (lane.next, Offset::ZERO), "in partition {partition}");
            assert!(marks.get(partition).is_some_and(|marks| from > marks.high), "{notice:?}");
            lane.move_to(resumed_at);
            // It was sent forwards.
            lane.rewound = false;
        }
        for record in &batch {
            let Position { partition, offset } = record.position;
            let lane = self.lanes.get_mut(&partition).expect("there is such a partition");
            // The offsets of this log have no gaps.
            assert_eq!(lane.next, offset, "in partition {partition}");
            lane.next = offset.next();
        }
        self.check_position();
    }

    async fn commit(&mut self, up_to: &Cursor) {
        // A mixed-up cursor: of a partition that is not there, or beyond what was ever reached.
        let is_mixed_up = |(partition, asked): &(PartitionId, Offset)| {
            self.lanes.get(partition).is_none_or(|lane| lane.expects(*asked) == Expected::MixedUp)
        };
        let mixed_up: Vec<_> = up_to.iter().filter(is_mixed_up).map(|(partition, _)| partition).collect();
        // One that was reached in an epoch that is over concerns its partition alone, as does one behind the end.
        let is_late = |partition: PartitionId, asked: Offset| {
            self.lanes.get(&partition).is_some_and(|lane| lane.expects(asked) == Expected::Late)
        };
        let late: Vec<_> = up_to
            .iter()
            .filter(|&(partition, asked)| is_late(partition, asked))
            .map(|(partition, _)| partition)
            .collect();
        match self.reader.commit(up_to).await {
            Ok(()) => assert!(mixed_up.is_empty() && late.is_empty(), "{up_to} was committed"),
            Err(error) => {
                assert!(!error.is_retryable(), "{error:?}");
                assert_eq!(error.may_have_taken_effect(), !error.stored().is_empty(), "{error:?}");
                assert!(mixed_up.is_empty() || error.stored().is_empty(), "{error}");
                let failed = error.failures().iter().map(|(partition, failure)| {
                    let fits = match failure {
                        CommitErrorKind::BeyondDelivered { .. } => partition.0 < PARTITIONS,
                        CommitErrorKind::Foreign => partition.0 >= PARTITIONS,
                        CommitErrorKind::Superseded => late.contains(partition),
                        _ => false,
                    };
                    assert!(fits, "{partition}: {failure:?}");
                    *partition
                });
                // Of a cursor that is mixed up nothing else is said.
                let expected = if mixed_up.is_empty() { &late } else { &mixed_up };
                assert_eq!(failed.collect::<Vec<_>>(), *expected, "{error}");
            }
        }
        for (partition, lane) in &mut self.lanes {
            let (Some(asked), true) = (up_to.get(*partition), mixed_up.is_empty()) else { continue };
            if late.contains(partition) {
                continue;
            }
            // Back only to where a seek went back, or to what was delivered since.
            let is_back = asked < lane.committed && lane.rewound && lane.since <= asked;
            if asked > lane.committed || is_back {
                (lane.committed, lane.rewound) = (asked, false);
            }
        }
        self.check_committed().await;
    }

    async fn seek(&mut self, to: SeekPosition) {
        let before = self.reader.position().clone();
        if let Err(error) = self.reader.seek(to.clone()).await {
            assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
            let named = match &to {
                SeekPosition::Position(position) => position.partition.0 < PARTITIONS,
                SeekPosition::Cursor(cursor) => cursor.iter().all(|(partition, _)| partition.0 < PARTITIONS),
                SeekPosition::FromEnd(count) => *count <= limits::FROM_END_RECORDS,
                _ => true,
            };
            assert!(!named, "{to:?}: {error}");
            assert_eq!(*self.reader.position(), before, "it has moved");
            return self.check_position();
        }
        let marks = self.log.watermarks().await.expect("the watermarks are known");
        let reached = self.reader.position().clone();
        for (partition, lane) in &mut self.lanes {
            let now = reached.get(*partition).expect("it has every partition");
            let high = marks.get(*partition).expect("it is there").high;
            let named = match &to {
                SeekPosition::Beginning => Some(Offset::ZERO),
                SeekPosition::End => Some(high),
                SeekPosition::Position(at) => Some(at.offset).filter(|_| at.partition == *partition),
                SeekPosition::Cursor(cursor) => cursor.get(*partition),
                // Of these it is enough that they are in the log, and that what follows is there.
                _ => Some(now).filter(|now| *now <= high),
            };
            match named {
                Some(named) => {
                    assert_eq!(now, named, "{to:?}");
                    lane.move_to(now);
                    lane.beyond = now > high;
                }
                None => assert_eq!(now, lane.next, "{to:?}"),
            }
        }
        if let SeekPosition::FromEnd(count) = to {
            let left: u64 = marks.iter().map(|(at, marks)| marks.high.0 - self.lanes[&at].next.0).sum();
            let all: u64 = marks.iter().map(|(_, marks)| marks.high.0).sum();
            assert_eq!(left, all.min(count as u64), "the last {count}");
        }
    }

    /// A new consumer of the group goes on where the last one has committed.
    async fn resume(&mut self) {
        let gone = std::mem::replace(&mut self.reader, open(&self.log, "another", SeekPosition::End).await);
        gone.leave().await.expect("a consumer can leave");
        self.reader = open(&self.log, GROUP, SeekPosition::Beginning).await;
        for lane in self.lanes.values_mut() {
            lane.move_to(lane.committed);
            // It knows nothing of the epochs of the consumer before it.
            lane.reached = Offset::ZERO;
            lane.ended.clear();
        }
        self.check_position();
        self.check_committed().await;
    }

    /// A group that has never committed starts where it is told, wherever that is.
    async fn start_group(&mut self, start: SeekPosition) {
        self.groups += 1;
        let group = format!("group {}", self.groups);
        let options = ConsumerOptions::starting_at(start.clone());
        let mut reader = match self.log.consumer_with(&group, options).await {
            Ok(reader) => reader,
            Err(error) => return assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}"),
        };
        let from = reader.position().clone();
        let marks = self.log.watermarks().await.expect("the watermarks are known");
        let named: Cursor = match &start {
            SeekPosition::Cursor(cursor) => cursor.clone(),
            SeekPosition::Position(at) => [(at.partition, at.offset)].into_iter().collect(),
            _ => Cursor::new(),
        };
        let is_beyond = |(partition, next): &(PartitionId, Offset)| {
            marks.get(*partition).is_some_and(|marks| *next > marks.high)
        };
        if matches!(start, SeekPosition::Cursor(_) | SeekPosition::Position(_)) {
            for one in self.lanes.keys() {
                let kept = named.get(*one).filter(|next| !is_beyond(&(*one, *next)));
                assert_eq!(from.get(*one), Some(kept.unwrap_or_default()), "{start:?}");
            }
        }
        assert_eq!(from, *reader.committed(), "the start is the group's place");
        let batch = reader.poll(1_000, Duration::ZERO).await.expect("it can be read");
        let told = batch.notices.iter().map(|notice| match *notice {
            Notice::Truncated { partition, from, resumed_at: Offset::ZERO } => (partition, from),
            _ => panic!("{notice:?}"),
        });
        assert_eq!(told.collect::<Vec<_>>(), named.iter().filter(is_beyond).collect::<Vec<_>>());
        let expected: u64 = marks
            .iter()
            .map(|(at, marks)| marks.high.0.saturating_sub(from.get(at).unwrap_or_default().0))
            .sum();
        assert_eq!(batch.len() as u64, expected, "from {from}");
        assert!(batch.records.iter().all(|record| {
            from.get(record.position.partition).is_some_and(|from| from <= record.position.offset)
        }));
    }

    fn check_position(&self) {
        let expected: Cursor = self.lanes.iter().map(|(partition, lane)| (*partition, lane.next)).collect();
        assert_eq!(*self.reader.position(), expected);
    }

    async fn check_committed(&self) {
        let committed = |(partition, lane): (&PartitionId, &Lane)| (*partition, lane.committed);
        let expected: Cursor = self.lanes.iter().map(committed).collect();
        assert_eq!(*self.reader.committed(), expected, "what the consumer says");
        let lag = self.log.lag(GROUP).await.expect("the lag is known");
        let stored = lag.iter().filter_map(|(partition, lag)| Some((partition, lag.committed?)));
        assert_eq!(stored.collect::<Cursor>(), expected, "what is stored");
    }
}

async fn open(
    log: &MemoryLog<RawEvent>,
    group: &str,
    start: SeekPosition,
) -> Box<dyn EventConsumer<RawEvent>> {
    log.consumer_with(group, ConsumerOptions::starting_at(start)).await.expect("a consumer opens")
}
