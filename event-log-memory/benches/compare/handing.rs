//! One thread hands events over, and nobody reads: what an append costs by itself.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_log_core::{EventId, EventLog, Partitionable, RawEvent, Timestamp, partition_of};
use event_log_memory::{MemoryLog, Retention};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;

use crate::report::{Report, Run};
use crate::support::{BATCH, PARTITIONS, batches, end, event, open, open_with};

const EVENTS: usize = 10_000;

/// As much as everybody retains in the bounded rows.
const RETAINED: usize = 8_192;

pub(crate) fn rows(report: &mut Report, runtime: &Runtime) {
    let _guard = runtime.enter();
    bounded(report, runtime);
    forever(report, runtime);
    batches_forever(report, runtime);
}

fn append(log: &MemoryLog<RawEvent>, event: RawEvent) {
    let receipt = log.append(event).now_or_never().expect("nothing waits");
    drop(black_box(receipt.expect("it is appended")));
}

fn submit(log: &MemoryLog<RawEvent>, event: RawEvent) {
    drop(black_box(log.submit(event).expect("it is taken")));
}

fn append_batch(log: &MemoryLog<RawEvent>, batch: Vec<RawEvent>) {
    let receipts = log.append_batch(batch).now_or_never().expect("nothing waits");
    drop(black_box(receipts.expect("they are appended")));
}

fn one_by_one(mut hand: impl FnMut(RawEvent)) -> Duration {
    let events: Vec<_> = (0..EVENTS).map(event).collect();
    let start = Instant::now();
    events.into_iter().for_each(&mut hand);
    start.elapsed()
}

fn in_batches(mut hand: impl FnMut(Vec<RawEvent>)) -> Duration {
    let events = batches(EVENTS);
    let start = Instant::now();
    events.into_iter().for_each(&mut hand);
    start.elapsed()
}

/// What a log of encodings cannot do without.
struct Kept {
    _id: EventId,
    _time: Timestamp,
    _payload: Bytes,
}

struct VecOfCopies {
    partitions: Vec<Mutex<VecDeque<Kept>>>,
    next: u128,
    bound: usize,
}

impl VecOfCopies {
    fn new(bound: usize) -> Self {
        let partitions = (0..PARTITIONS).map(|_| Mutex::default()).collect();
        Self { partitions, next: 0, bound: bound / PARTITIONS as usize }
    }

    fn keep(&mut self, event: RawEvent) {
        self.next += 1;
        let kept = Kept {
            _id: EventId::from_u128(self.next),
            _time: std::time::SystemTime::now().into(),
            _payload: Bytes::copy_from_slice(&event.payload),
        };
        let partition = partition_of(event.partition_key().unwrap_or_default(), PARTITIONS);
        drop(event);
        let mut partition = self.partitions[partition.0 as usize].lock();
        if partition.len() >= self.bound {
            partition.pop_front();
        }
        partition.push_back(kept);
    }
}

/// Everybody retains the last 8,192 events and forgets one for each that comes, in memory that is in use already.
fn bounded(report: &mut Report, runtime: &Runtime) {
    let retention = Retention::records(RETAINED as u64 / u64::from(PARTITIONS));
    let log = runtime.block_on(open_with(PARTITIONS, retention));
    let (flume_in, flume_out) = flume::bounded(RETAINED);
    let (broadcast, _receiver) = broadcast::channel(RETAINED);
    let vec = Mutex::new(VecDeque::with_capacity(RETAINED));
    let flume = |event| {
        if flume_in.is_full() {
            drop(black_box(flume_out.recv().expect("it is full")));
        }
        flume_in.send(event).expect("the receiver is there");
    };
    let broadcast = |event| drop(broadcast.send(event));
    let push = |event| {
        let mut vec = vec.lock();
        if vec.len() == RETAINED {
            drop(black_box(vec.pop_front()));
        }
        vec.push_back(event);
    };
    let extend = |batch: Vec<RawEvent>| {
        let mut vec = vec.lock();
        let surplus = (vec.len() + batch.len()).saturating_sub(RETAINED);
        drop(black_box(vec.drain(..surplus)));
        vec.extend(batch);
    };
    let (mut copies, mut more_copies) = (VecOfCopies::new(RETAINED), VecOfCopies::new(RETAINED));
    let mut contenders: Vec<(&str, Run<'_>)> = vec![
        ("append", Box::new(|| one_by_one(|event| append(&log, event)))),
        ("submit", Box::new(|| one_by_one(|event| submit(&log, event)))),
        ("vec_of_copies", Box::new(|| one_by_one(|event| copies.keep(event)))),
    ];
    contenders.push(("flume", Box::new(|| one_by_one(flume))));
    contenders.push(("tokio_broadcast", Box::new(|| one_by_one(broadcast))));
    contenders.push(("mutex_vec", Box::new(|| one_by_one(push))));
    report.row("hand over, one by one, the last 8,192 retained", EVENTS, contenders);

    let mut contenders: Vec<(&str, Run<'_>)> = vec![
        ("append_batch", Box::new(|| in_batches(|batch| append_batch(&log, batch)))),
        (
            "vec_of_copies",
            Box::new(|| in_batches(|batch| batch.into_iter().for_each(|event| more_copies.keep(event)))),
        ),
    ];
    contenders.push(("flume", Box::new(|| in_batches(|batch| batch.into_iter().for_each(flume)))));
    contenders
        .push(("tokio_broadcast", Box::new(|| in_batches(|batch| batch.into_iter().for_each(broadcast)))));
    contenders.push(("mutex_vec", Box::new(|| in_batches(extend))));
    report.row("hand over, in batches of 100, the last 8,192 retained", EVENTS, contenders);
    runtime.block_on(end(log));
}

/// Everybody retains all 10,000 events, in memory that nobody has used before.
fn forever(report: &mut Report, runtime: &Runtime) {
    let open = || runtime.block_on(open());
    let contenders: Vec<(&str, Run<'_>)> = vec![
        (
            "append",
            Box::new(|| {
                let log = open();
                let elapsed = one_by_one(|event| append(&log, event));
                runtime.block_on(end(log));
                elapsed
            }),
        ),
        (
            "submit",
            Box::new(|| {
                let log = open();
                let elapsed = one_by_one(|event| submit(&log, event));
                runtime.block_on(end(log));
                elapsed
            }),
        ),
        (
            "vec_of_copies",
            Box::new(|| {
                let mut copies = VecOfCopies::new(usize::MAX);
                one_by_one(|event| copies.keep(event))
            }),
        ),
        (
            "flume",
            Box::new(|| {
                let (sender, _receiver) = flume::unbounded();
                one_by_one(|event| sender.send(event).expect("the receiver is there"))
            }),
        ),
        (
            "tokio_broadcast",
            Box::new(|| {
                let (sender, _receiver) = broadcast::channel(EVENTS);
                one_by_one(|event| drop(sender.send(event)))
            }),
        ),
        (
            "mutex_vec",
            Box::new(|| {
                let vec = Mutex::new(Vec::new());
                one_by_one(|event| vec.lock().push(event))
            }),
        ),
    ];
    report.row("hand over, one by one, all retained", EVENTS, contenders);
}

/// The same in batches, as far as there are batches.
fn batches_forever(report: &mut Report, runtime: &Runtime) {
    let contenders: Vec<(&str, Run<'_>)> = vec![
        (
            "append_batch",
            Box::new(|| {
                let log = runtime.block_on(open());
                let elapsed = in_batches(|batch| append_batch(&log, batch));
                runtime.block_on(end(log));
                elapsed
            }),
        ),
        (
            "vec_of_copies",
            Box::new(|| {
                let mut copies = VecOfCopies::new(usize::MAX);
                in_batches(|batch| batch.into_iter().for_each(|event| copies.keep(event)))
            }),
        ),
        (
            "mutex_vec",
            Box::new(|| {
                let vec = Mutex::new(Vec::with_capacity(BATCH));
                in_batches(|batch| vec.lock().extend(batch))
            }),
        ),
    ];
    report.row("hand over, in batches of 100, all retained", EVENTS, contenders);
}
