//! Threads and tasks on one log in real time, with connections cut all along: nothing lost, nothing twice, and
//! every key in order. What the model proves step by step on one thread, this looks for in the races.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_log_core::conformance::Probe;
use event_log_core::{
    AppendAck, EventConsumer, EventLog, EventLogExt, Notice, Position, ProducerConfig, ReconnectPolicy,
    Record,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};

const THREADS: u64 = 4;
const BURSTS: u64 = 100;
const BURST: u64 = 100;
const EVENTS: usize = (THREADS * BURSTS * BURST) as usize;
/// Keys of each thread.
const KEYS: u64 = 3;

/// A run that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

type Reader = Box<dyn EventConsumer<Probe>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_repeated_while_connections_break() {
    let broker = MemoryBroker::new();
    let log = open(&broker).await;
    let faults = broker.faults("events").expect("the topic was opened");
    let done = Arc::new(AtomicBool::new(false));
    let alone = tokio::spawn(read_alone(log.consumer("alone").await.expect("a consumer opens")));
    let mut shared = Vec::new();
    for _ in 0..3 {
        let member = log.consumer("shared").await.expect("a consumer opens");
        shared.push(tokio::spawn(read_shared(member, Arc::clone(&done))));
    }
    let chaos = tokio::spawn(break_connections(faults, Arc::clone(&done)));

    let run = async {
        let mut receipts = Vec::new();
        for producer in (0..THREADS).map(|thread| produce(&log, thread)).collect::<Vec<_>>() {
            receipts.extend(producer.await.expect("a producer ends"));
        }
        let seen = alone.await.expect("the reader ends");
        done.store(true, Ordering::SeqCst);
        chaos.await.expect("the breaker ends");
        let mut union = BTreeSet::new();
        for member in shared {
            union.extend(member.await.expect("a member ends"));
        }
        (receipts, seen, union)
    };
    let (receipts, seen, union) = tokio::time::timeout(PATIENCE, run).await.expect("the run ends");

    let placed: BTreeMap<Position, u64> = receipts
        .iter()
        .map(|(number, committed)| (committed.position().expect("it is known"), *number))
        .collect();
    assert_eq!(placed.len(), EVENTS, "every event has a place to itself");
    let delivered: BTreeMap<Position, u64> =
        seen.iter().map(|record| (record.position, number(record))).collect();
    assert_eq!(delivered, placed, "every receipt names the record that is delivered");
    check_order(&seen);
    assert_eq!(log.state().current().dropped, 0);
    check_nothing_twice(&log).await;
    // Members read again what was not committed when a partition moved, and together they read everything.
    let last = read_rest(&log, "shared").await;
    let union: BTreeSet<_> = union.into_iter().chain(last).collect();
    assert_eq!(union, placed.keys().copied().collect());
}

async fn open(broker: &MemoryBroker) -> MemoryLog<Probe> {
    let mut config = ProducerConfig::default();
    config.buffer_events = 2 * EVENTS;
    config.request_events = 64;
    config.reconnect = ReconnectPolicy::new(Duration::from_millis(3), Duration::from_millis(10));
    let log = event_log_memory::builder().broker(broker).partitions(4).config(config).open().await;
    log.expect("the log opens")
}

/// Cuts connections and loses replies until it is told to stop. The waiting is the point: it is the time in
/// which the others get somewhere.
async fn break_connections(faults: Faults, done: Arc<AtomicBool>) {
    for round in 0.. {
        if done.load(Ordering::SeqCst) {
            return;
        }
        match round % 3 {
            0 => faults.interrupt(),
            1 => faults.lose_replies(1),
            _ => faults.lose_requests(1),
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
}

/// A thread that submits in bursts. Every event gets in, since the queue is large enough, and is committed.
fn produce(log: &MemoryLog<Probe>, thread: u64) -> tokio::task::JoinHandle<Vec<(u64, AppendAck)>> {
    let (log, runtime) = (log.clone(), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        let mut receipts = Vec::new();
        for burst in 0..BURSTS {
            let numbers = (0..BURST).map(|nth| (thread * BURSTS + burst) * BURST + nth);
            let submit = |number| {
                let probe = Probe::new(&format!("{thread}-{}", number % KEYS), number);
                (number, log.submit(probe).expect("there is room"))
            };
            let tickets: Vec<_> = numbers.map(submit).collect();
            for (number, ticket) in tickets {
                receipts.push((number, runtime.block_on(ticket).expect("it is committed")));
            }
        }
        receipts
    })
}

/// The only member of its group: reads on through every cut, and commits now and then.
async fn read_alone(mut reader: Reader) -> Vec<Record<Probe>> {
    let mut seen = Vec::new();
    while seen.len() < EVENTS {
        match reader.poll(64, Duration::from_secs(5)).await {
            Ok(batch) => {
                // A commit may meet a cut; the next one makes up for it.
                let _ = reader.commit(batch.cursor()).await;
                seen.extend(batch);
            }
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    let more = reader.poll(64, Duration::from_millis(50)).await;
    let is_dry = more.as_ref().map_or(true, |batch| batch.is_empty());
    assert!(is_dry, "something came twice, such as {:?}", more.map(|batch| batch.records.into_iter().next()));
    seen
}

/// One of several members: partitions come and go with the connections.
async fn read_shared(mut reader: Reader, done: Arc<AtomicBool>) -> Vec<Position> {
    let mut seen = Vec::new();
    while !done.load(Ordering::SeqCst) {
        match reader.poll(64, Duration::from_millis(20)).await {
            Ok(batch) => {
                seen.extend(batch.records.iter().map(|record| record.position));
                let _ = reader.commit(batch.cursor()).await;
            }
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
    seen
}

/// What a group has not committed.
async fn read_rest(log: &MemoryLog<Probe>, group: &str) -> Vec<Position> {
    let mut reader = log.consumer(group).await.expect("a consumer opens");
    let mut seen = Vec::new();
    loop {
        let batch = reader.poll(1_000, Duration::ZERO).await.expect("nothing disturbs any more");
        if batch.is_empty() {
            return seen;
        }
        seen.extend(batch.records.iter().map(|record| record.position));
    }
}

fn number(record: &Record<Probe>) -> u64 {
    record.event.as_ref().expect("a probe").number
}

/// Each key belongs to one thread, and its events come in the order in which that thread submitted them.
fn check_order(seen: &[Record<Probe>]) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for record in seen {
        let key = record.key().expect("every event has a key").to_owned();
        let before = last.insert(key, number(record));
        assert!(before < Some(number(record)), "{before:?} came before {record:?}");
    }
}

/// The log itself holds every event once: nothing was left for consumers to drop.
async fn check_nothing_twice(log: &MemoryLog<Probe>) {
    let mut reader = log.consumer("nothing twice").await.expect("a consumer opens");
    let mut count = 0;
    while count < EVENTS {
        let batch = reader.poll(1_000, Duration::ZERO).await.expect("nothing disturbs any more");
        let copies = batch.notices.iter().filter(|notice| matches!(notice, Notice::Duplicate { .. })).count();
        assert_eq!(copies, 0);
        assert!(!batch.is_empty(), "only {count} of {EVENTS} records are there");
        count += batch.len();
    }
}
