//! Random work of a producer under random faults, each outcome compared with what the log really holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use event_log_core::{
    AppendAck, AppendError, AppendErrorKind, EventLog as _, Outcome, Overflow, PartitionId, Partitionable,
    ProducerConfig, Receipt, ReconnectPolicy, SubmitErrorKind, Ticket,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog, Retention};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Serialize, Deserialize)]
struct Event {
    key: u32,
    number: u64,
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        Some(["a", "b", "c"][self.key as usize])
    }
}

struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.next(choices.len() as u64) as usize].clone()
    }
}

#[derive(Clone, Debug)]
enum End {
    Acked(AppendAck),
    NotAppended(String, bool),
    Unknown,
}

type Ends = Arc<Mutex<BTreeMap<u64, Vec<End>>>>;

fn note(ends: &Ends, number: u64, outcome: Outcome<Event>) {
    let end = match outcome {
        Ok(ack) => End::Acked(ack),
        Err(error) => failed(number, &error),
    };
    ends.lock().unwrap().entry(number).or_default().push(end);
}

fn failed(number: u64, error: &AppendError<Event>) -> End {
    assert_eq!(error.event().number, number, "its own event comes back");
    assert_eq!(error.may_have_taken_effect(), matches!(error.kind(), AppendErrorKind::Unknown(_)));
    match error.kind() {
        AppendErrorKind::Unknown(_) => End::Unknown,
        kind => End::NotAppended(format!("{kind:?}"), matches!(kind, AppendErrorKind::Dropped)),
    }
}

struct Run {
    log: MemoryLog<Event>,
    faults: Faults,
    broker: MemoryBroker,
    chance: Chance,
    config: ProducerConfig,
    next: u64,
    keys: HashMap<u64, u32>,
    tickets: Vec<(u64, Ticket<Event>)>,
    tasks: Vec<(Vec<u64>, JoinHandle<()>)>,
    ends: Ends,
    /// Those whose outcome is not awaited.
    orphans: HashSet<u64>,
    /// Those whose append was dropped before it was done.
    cancelled: HashSet<u64>,
    has_held: bool,
    /// Records may be gone.
    is_trimmed: bool,
}

impl Run {
    fn event(&mut self) -> Event {
        let (number, key) = (self.next, self.chance.next(3) as u32);
        self.next += 1;
        self.keys.insert(number, key);
        Event { key, number }
    }

    fn begin(&mut self, numbers: Vec<u64>, future: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(future);
        // The first poll is when it counts as called.
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())) != Poll::Pending {
            return true;
        }
        self.tasks.push((numbers, tokio::spawn(future)));
        false
    }

    async fn step(&mut self) {
        match self.chance.next(30) {
            0..=6 => {
                let event = self.event();
                let number = event.number;
                match self.log.submit(event) {
                    Ok(ticket) => match self.chance.next(4) {
                        0 => drop((self.orphans.insert(number), ticket)),
                        _ => self.tickets.push((number, ticket)),
                    },
                    Err(error) => {
                        assert!(matches!(error.kind, SubmitErrorKind::Full | SubmitErrorKind::Closed));
                        note(&self.ends, number, Err(error.into()));
                    }
                }
            }
            7..=11 => {
                let event = self.event();
                let number = event.number;
                let (log, ends) = (self.log.clone(), self.ends.clone());
                let is_away = self.log.state().current();
                let is_away = !is_away.is_connected() && !is_away.is_closed();
                let at_once = Arc::new(Mutex::new(false));
                let noted = at_once.clone();
                let done = self.begin(vec![number], async move {
                    let receipt = log.append(event).await;
                    *noted.lock().unwrap() = true;
                    let outcome = match receipt {
                        Ok(receipt) => receipt.acked().await,
                        Err(error) => Err(error),
                    };
                    note(&ends, number, outcome);
                });
                let blocks = matches!(self.config.overflow, Overflow::Block { .. });
                assert!(done || !is_away || blocks || *at_once.lock().unwrap(), "an append while away waits");
            }
            12..=14 => {
                let count = self.chance.of(&[0, 1, 2, 3, 5, 12]);
                let events: Vec<_> = (0..count).map(|_| self.event()).collect();
                let numbers: Vec<_> = events.iter().map(|event| event.number).collect();
                let (log, ends, mine) = (self.log.clone(), self.ends.clone(), numbers.clone());
                self.begin(numbers, async move {
                    let outcomes: Vec<Result<Receipt<Event>, AppendError<Event>>> =
                        match log.append_batch(events).await {
                            Ok(receipts) => receipts.into_iter().map(Ok).collect(),
                            Err(error) => error.into_outcomes(),
                        };
                    assert_eq!(outcomes.len(), mine.len());
                    for (number, outcome) in mine.into_iter().zip(outcomes) {
                        let outcome = match outcome {
                            Ok(receipt) => receipt.acked().await,
                            Err(error) => Err(error),
                        };
                        note(&ends, number, outcome);
                    }
                });
            }
            15 if !self.tasks.is_empty() => {
                let at = self.chance.next(self.tasks.len() as u64) as usize;
                let (numbers, task) = self.tasks.swap_remove(at);
                task.abort();
                drop(task.await);
                self.cancelled.extend(numbers);
            }
            16 => self.faults.disconnect(),
            17 | 18 => self.faults.reconnect(),
            19 => self.faults.interrupt(),
            20 => self.faults.lose_replies(1),
            21 => self.faults.lose_requests(1),
            22 => {
                self.has_held = true;
                self.faults.hold_requests(1);
            }
            23 => drop(self.faults.deliver_held_requests()),
            24 => self.faults.slow_appends(Duration::from_millis(self.chance.of(&[0, 1, 700]))),
            25 => self.faults.slow_connects(Duration::from_millis(self.chance.of(&[0, 300]))),
            26 => match self.chance.next(4) {
                3 if self.is_trimmed => self.faults.purge(),
                0 => self.faults.empty_fetches(1),
                1 => self.faults.skip_offsets(PartitionId(0), 3),
                _ => self.faults.fail_fetches(PartitionId(0), 1),
            },
            27 => {
                if timeout(Duration::from_secs(5), self.log.flush()).await.is_ok() {
                    for (number, ticket) in std::mem::take(&mut self.tickets) {
                        match ticket.try_outcome() {
                            Ok(outcome) => note(&self.ends, number, outcome),
                            Err(_) => panic!("{number} is pending after a flush"),
                        }
                    }
                }
            }
            _ => sleep(Duration::from_millis(self.chance.of(&[0, 1, 10, 500, 3_000]))).await,
        }
        let bound = self.config.buffer_events
            + 3 * self.config.request_events.min(12 + self.config.buffer_events)
            + 12;
        let state = self.log.state().current();
        assert!(state.buffered <= bound, "{} of {bound} are buffered", state.buffered);
    }

    async fn finish(mut self, seed: u64) {
        let is_gentle = self.chance.next(3) > 0;
        if is_gentle {
            self.faults.clear();
            timeout(HOUR, self.log.flush()).await.expect("the flush ends").unwrap();
        }
        let deadline = Duration::from_millis(self.chance.of(&[0, 10, 5_000, 60_000]));
        let closed = timeout(HOUR, self.log.close(deadline)).await.expect("closing ends");
        let left = closed.err();
        // An append that waited for space may have come in behind the flush.
        if is_gentle && deadline >= Duration::from_secs(5) {
            assert!(left.is_none(), "{left:?} after a flush");
        }
        let state = self.log.state().current();
        assert!(state.is_closed() && state.buffered == 0, "{state:?}");
        for (number, ticket) in std::mem::take(&mut self.tickets) {
            let outcome = ticket.try_outcome().expect("every ticket is resolved");
            note(&self.ends, number, outcome);
        }
        for (_, task) in std::mem::take(&mut self.tasks) {
            timeout(HOUR, task).await.expect("every append ends").unwrap();
        }
        let mut left_over = HashMap::new();
        for (unknown, events) in
            left.into_iter().flat_map(|left| [(false, left.not_appended), (true, left.unknown)])
        {
            for (_, event) in events {
                assert!(left_over.insert(event.number, unknown).is_none(), "once");
            }
        }
        self.faults.reconnect();
        self.faults.deliver_held_requests();
        let mut copies: BTreeMap<u64, Vec<(PartitionId, u64)>> = BTreeMap::new();
        let contents = self.broker.contents("events");
        for content in &contents {
            let event: Event = serde_json::from_slice(&content.payload).unwrap();
            assert_eq!(self.keys[&event.number], event.key);
            copies
                .entry(event.number)
                .or_default()
                .push((content.position.partition, content.position.offset.0));
        }
        let watermarks = self.log.watermarks().await.unwrap();
        let mut dropped = 0;
        let ends = std::mem::take(&mut *self.ends.lock().unwrap());
        for number in 0..self.next {
            let there = copies.get(&number).cloned().unwrap_or_default();
            if !self.has_held {
                assert!(there.len() <= 1, "seed {seed}: {number} is there {} times", there.len());
            }
            let ends = ends.get(&number).cloned().unwrap_or_default();
            if self.orphans.contains(&number) {
                assert!(ends.is_empty());
                if left_over.get(&number) == Some(&false) {
                    assert!(there.is_empty(), "seed {seed}: {number} was left over, and is there");
                }
                continue;
            }
            if self.cancelled.contains(&number) {
                continue;
            }
            assert_eq!(ends.len(), 1, "seed {seed}: {number} has the ends {ends:?}");
            assert!(!left_over.contains_key(&number), "seed {seed}: {number} comes back twice");
            match &ends[0] {
                End::Acked(ack) => {
                    let at = (ack.partition, ack.offset.unwrap().0);
                    let low = watermarks.get(ack.partition).unwrap().low.0;
                    assert!(
                        there.contains(&at) || at.1 < low,
                        "seed {seed}: {number} is at {there:?}, and not at {at:?}"
                    );
                }
                End::NotAppended(why, is_dropped) => {
                    dropped += u64::from(*is_dropped);
                    assert!(there.is_empty(), "seed {seed}: {number} was {why}, and is at {there:?}");
                }
                End::Unknown => {
                    let is_certain = is_gentle
                        && deadline >= Duration::from_secs(5)
                        && self.config.expiry.is_none()
                        && !self.is_trimmed;
                    assert!(!is_certain, "seed {seed}: {number} is unknown");
                }
            }
        }
        assert!(state.dropped >= dropped);
        if self.orphans.is_empty() && self.cancelled.is_empty() {
            assert_eq!(state.dropped, dropped, "seed {seed}");
        }
        // The order of first copies, of all whose fate was certain.
        // With retention the first copy may be gone, and the late one not.
        let keys = if self.is_trimmed && self.has_held { 0..0 } else { 0..3 };
        for key in keys {
            let certain = |number: &u64| {
                let acked = ends.get(number).is_some_and(|ends| matches!(ends[..], [End::Acked(_)]));
                self.keys[number] == key && (acked || !self.has_held)
            };
            let mut last = None;
            for (number, there) in copies.iter().filter(|(number, _)| certain(number)) {
                let place = there.iter().min().copied();
                assert!(place > last, "seed {seed}: {number} at {place:?} is behind {last:?}");
                last = place;
            }
        }
    }
}

async fn run(seed: u64) {
    let mut chance = Chance(seed);
    let mut config = ProducerConfig::default();
    config.buffer_events = chance.of(&[1, 3, 10, 10_000]);
    config.request_events = chance.of(&[1, 3, 1_024]);
    let block = Overflow::Block { deadline: Duration::from_secs(2) };
    config.overflow = chance.of(&[Overflow::DropOldest, Overflow::Reject, block]);
    config.expiry = chance.of(&[None, None, Some(Duration::from_secs(3)), Some(Duration::from_millis(200))]);
    config.reconnect =
        ReconnectPolicy::new(Duration::from_millis(chance.of(&[10, 1_000])), Duration::from_secs(2));
    let broker = MemoryBroker::new();
    let partitions = chance.of(&[1, 2, 3]);
    let is_trimmed = chance.next(4) == 0;
    let retention = if is_trimmed { Retention::records(3) } else { Retention::FOREVER };
    let builder = event_log_memory::builder()
        .broker(&broker)
        .retention(retention)
        .partitions(partitions)
        .config(config.clone())
        .seed(seed);
    let log = builder.open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let ends = Ends::default();
    let (keys, tickets, tasks) = (HashMap::new(), Vec::new(), Vec::new());
    let (orphans, cancelled) = (HashSet::new(), HashSet::new());
    let mut run = Run {
        log,
        faults,
        broker,
        chance,
        config,
        next: 0,
        keys,
        tickets,
        tasks,
        ends,
        orphans,
        cancelled,
        has_held: false,
        is_trimmed,
    };
    for _ in 0..run.chance.of(&[10, 40, 120]) {
        run.step().await;
    }
    run.finish(seed).await;
}

fn seeds(from: u64, count: u64) {
    for seed in from..from + count {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed))));
        assert!(ran.is_ok(), "seed {seed}");
    }
}

#[test]
fn a4_every_outcome_is_what_the_log_holds() {
    let from = std::env::var("SEED").map_or(0, |seed| seed.parse().unwrap());
    let count = std::env::var("SEEDS").map_or(400, |seeds| seeds.parse().unwrap());
    seeds(from, count);
}

/// Threads without a runtime submit while connections break and the log is closed.
#[test]
fn a4_whatever_threads_submit_while_the_log_is_closed_has_its_outcome() {
    for round in 0..20_u64 {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let broker = MemoryBroker::new();
        let mut config = ProducerConfig::default();
        config.reconnect = ReconnectPolicy::new(Duration::from_millis(2), Duration::from_millis(5));
        (config.buffer_events, config.request_events) = (50, 7);
        let builder = event_log_memory::builder().broker(&broker).partitions(2).config(config);
        let log: MemoryLog<Event> = runtime.block_on(builder.open()).unwrap();
        let faults = broker.faults("events").unwrap();
        let threads: Vec<_> = (0..3_u64)
            .map(|thread| {
                let log = log.clone();
                std::thread::spawn(move || {
                    let mut tickets = Vec::new();
                    for nth in 0..100_000_u64 {
                        let number = thread * 1_000_000 + nth;
                        match log.submit(Event { key: thread as u32, number }) {
                            Ok(ticket) => tickets.push((number, Ok(ticket))),
                            Err(error) => {
                                let is_closed = matches!(error.kind, SubmitErrorKind::Closed);
                                tickets.push((number, Err(())));
                                if is_closed {
                                    return tickets;
                                }
                            }
                        }
                    }
                    tickets
                })
            })
            .collect();
        for _ in 0..round {
            faults.lose_replies(1);
            std::thread::sleep(Duration::from_millis(1));
            faults.interrupt();
            faults.lose_requests(1);
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(runtime.block_on(async {
            timeout(Duration::from_secs(5), log.close(Duration::from_millis(100))).await.unwrap()
        }));
        let mut copies: HashMap<u64, Vec<(PartitionId, u64)>> = HashMap::new();
        let mut last = HashMap::new();
        let tickets: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        for content in broker.contents("events") {
            let event: Event = serde_json::from_slice(&content.payload).unwrap();
            let at = (content.position.partition, content.position.offset.0);
            copies.entry(event.number).or_default().push(at);
            assert!(
                last.insert(event.key, event.number).is_none_or(|last| last < event.number),
                "out of order"
            );
        }
        for (number, ticket) in tickets {
            let there = copies.get(&number).cloned().unwrap_or_default();
            assert!(there.len() <= 1, "twice");
            match ticket.map(|ticket: Ticket<Event>| ticket.try_outcome().expect("it is resolved")) {
                Ok(Ok(ack)) => assert!(there.contains(&(ack.partition, ack.offset.unwrap().0))),
                Ok(Err(error)) => assert!(there.is_empty() || error.may_have_taken_effect(), "{error:?}"),
                Err(()) => assert!(there.is_empty()),
            }
        }
    }
}

/// ARCHITECTURE.md, invariant 4 of the engine: the state is published before any caller is told.
#[test]
fn a19_a_caller_that_learns_that_an_event_is_buffered_sees_that_the_log_is_away() {
    use futures::FutureExt as _;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.reconnect = ReconnectPolicy::new(Duration::from_millis(1), Duration::from_millis(1));
    let log: MemoryLog<Event> = runtime
        .block_on(event_log_memory::builder().broker(&broker).partitions(1).config(config).open())
        .unwrap();
    let faults = broker.faults("events").unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (log, done) = (log.clone(), done.clone());
            std::thread::spawn(move || {
                let (mut wrong, mut buffered) = (0, 0);
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let before = log.state().current();
                    if !before.is_connected() {
                        std::thread::yield_now();
                        continue;
                    }
                    let receipt = log.append(Event { key: 0, number: 0 }).now_or_never();
                    if let Some(Ok(Receipt::Buffered(_))) = receipt {
                        buffered += 1;
                        let after = log.state().current();
                        wrong += u64::from(after.is_connected() && after.reconnects == before.reconnects);
                    }
                }
                (wrong, buffered)
            })
        })
        .collect();
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        faults.disconnect();
        std::thread::sleep(Duration::from_micros(300));
        faults.reconnect();
        std::thread::sleep(Duration::from_millis(3));
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    let seen: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(
        seen.iter().all(|(wrong, _)| *wrong == 0),
        "(told while the state said connected, told in all): {seen:?}"
    );
}
