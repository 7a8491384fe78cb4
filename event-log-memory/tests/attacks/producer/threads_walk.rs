//! New attempts to break the producing side: threads of every kind at once, with real time.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use event_log_core::{
    EventLog as _, EventLogExt as _, Outcome, Overflow, Partitionable, ProducerConfig, Receipt,
    ReconnectPolicy, SubmitErrorKind, partition_of,
};
use event_log_memory::{MemoryBroker, MemoryLog};
use futures::FutureExt as _;
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Event {
    thread: u64,
    number: u64,
    key: String,
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.key)
    }
}

struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// What a thread knows of an event: acknowledged at, certainly not appended, or not known.
enum End {
    Acked(u32, u64),
    Not(String),
    Open,
}

fn end(outcome: &Outcome<Event>) -> End {
    match outcome {
        Ok(ack) => End::Acked(ack.partition.0, ack.offset.unwrap().0),
        Err(error) if error.may_have_taken_effect() => End::Open,
        Err(error) => End::Not(format!("{error:?}")),
    }
}

fn work(log: &MemoryLog<Event>, thread: u64, seed: u64, done: &AtomicBool) -> Vec<(u64, End)> {
    let mut chance = Chance(seed);
    let mut ends = Vec::new();
    let mut tickets = Vec::new();
    let mut next = 0;
    while !done.load(SeqCst) && next < 4_000 {
        let mut event = || {
            next += 1;
            Event { thread, number: next - 1, key: format!("t{thread}") }
        };
        match chance.next(9) {
            0..=3 => {
                let event = event();
                let number = event.number;
                match log.submit(event) {
                    Ok(ticket) => tickets.push((number, ticket)),
                    Err(error) if matches!(error.kind, SubmitErrorKind::Closed) => {
                        ends.push((number, End::Not("closed".into())));
                        break;
                    }
                    Err(error) => {
                        ends.push((number, End::Not(format!("{error:?}"))));
                        std::thread::yield_now();
                    }
                }
            }
            4 => {
                let event = event();
                let number = event.number;
                match block_on(log.append(event)) {
                    Ok(Receipt::Buffered(ticket)) => tickets.push((number, ticket)),
                    Ok(Receipt::Acked(ack)) => ends.push((number, end(&Ok(ack)))),
                    Err(error) => ends.push((number, end(&Err(error)))),
                }
            }
            5 => {
                let event = event();
                let number = event.number;
                // It is dropped while it waits, perhaps.
                match log.append(event).now_or_never() {
                    None => ends.push((number, End::Open)),
                    Some(Ok(Receipt::Buffered(ticket))) => tickets.push((number, ticket)),
                    Some(Ok(Receipt::Acked(ack))) => ends.push((number, end(&Ok(ack)))),
                    Some(Err(error)) => ends.push((number, end(&Err(error)))),
                }
            }
            6 => {
                let batch: Vec<_> = (0..=chance.next(6)).map(|_| event()).collect();
                let numbers: Vec<_> = batch.iter().map(|event| event.number).collect();
                let outcomes: Vec<_> = match block_on(log.append_batch(batch)) {
                    Ok(receipts) => receipts.into_iter().map(Ok).collect(),
                    Err(error) => error.into_outcomes(),
                };
                for (number, outcome) in numbers.into_iter().zip(outcomes) {
                    match outcome {
                        Ok(Receipt::Buffered(ticket)) => tickets.push((number, ticket)),
                        Ok(Receipt::Acked(ack)) => ends.push((number, end(&Ok(ack)))),
                        Err(error) => ends.push((number, end(&Err(error)))),
                    }
                }
            }
            7 => {
                let first = next;
                let count = 1 + chance.next(20);
                let mut events =
                    (first..first + count).map(|number| Event { thread, number, key: format!("t{thread}") });
                let result = block_on(log.append_all(&mut events));
                let drawn = count - events.count() as u64;
                next += count;
                let failed: HashMap<u64, End> = match result {
                    Ok(_) => HashMap::new(),
                    Err(error) => error
                        .failures
                        .into_iter()
                        .map(|error| (error.event().number, end(&Err(error))))
                        .collect(),
                };
                let mut failed = failed;
                for number in first..first + drawn {
                    // Acknowledged, but where is not told.
                    ends.push((number, failed.remove(&number).unwrap_or(End::Open)));
                }
            }
            _ => {
                if chance.next(20) == 0 {
                    drop(block_on(log.flush()));
                    for (number, ticket) in tickets.drain(..) {
                        ends.push((number, end(&ticket.try_outcome().expect("resolved behind a flush"))));
                    }
                }
                drop(log.state().current());
            }
        }
    }
    for (number, ticket) in tickets {
        ends.push((number, end(&block_on(ticket))));
    }
    ends
}

fn round(seed: u64) {
    let mut chance = Chance(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.buffer_events = [2, 10, 100, 10_000][chance.next(4) as usize];
    config.request_events = [1, 5, 1_024][chance.next(3) as usize];
    config.overflow =
        [Overflow::DropOldest, Overflow::Reject, Overflow::Block { deadline: Duration::from_millis(20) }]
            [chance.next(3) as usize];
    config.expiry = [None, Some(Duration::from_millis(30))][chance.next(2) as usize];
    config.reconnect = ReconnectPolicy::new(Duration::from_millis(1), Duration::from_millis(4));
    let builder = event_log_memory::builder().broker(&broker).partitions(3).config(config);
    let log: MemoryLog<Event> = runtime.block_on(builder.open()).unwrap();
    let faults = broker.faults("events").unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (log, done) = (log.clone(), done.clone());
            std::thread::spawn(move || work(&log, thread, seed * 100 + thread, &done))
        })
        .collect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(150) {
        match chance.next(7) {
            0 => faults.lose_replies(1),
            1 => faults.lose_requests(1),
            2 => faults.interrupt(),
            3 => faults.disconnect(),
            4 => faults.slow_appends(Duration::from_millis(chance.next(3))),
            _ => faults.reconnect(),
        }
        std::thread::sleep(Duration::from_micros(500 + chance.next(4_000)));
    }
    let closes = chance.next(2) == 0;
    if closes {
        drop(runtime.block_on(log.close(Duration::from_millis(chance.next(60)))));
    } else {
        faults.clear();
    }
    done.store(true, SeqCst);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        sender.send(ends).unwrap();
    });
    let ends = receiver
        .recv_timeout(Duration::from_secs(30))
        .unwrap_or_else(|_| panic!("seed {seed}: a thread hangs"));
    let mut state = log.state();
    drop(log);
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), state.wait_for(|state| state.is_closed()))
            .await
            .expect("it ends");
    });
    let start = Instant::now();
    while runtime.metrics().num_alive_tasks() > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "seed {seed}: a task is left behind");
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut there: HashMap<(u64, u64), Vec<(u32, u64)>> = HashMap::new();
    let mut last: HashMap<u64, u64> = HashMap::new();
    for content in broker.contents("events") {
        let event: Event = serde_json::from_slice(&content.payload).unwrap();
        assert_eq!(content.position.partition, partition_of(&event.key, 3));
        there
            .entry((event.thread, event.number))
            .or_default()
            .push((content.position.partition.0, content.position.offset.0));
        let former = last.insert(event.thread, event.number);
        assert!(
            former.is_none_or(|former| former < event.number),
            "seed {seed}: {event:?} behind {former:?}"
        );
    }
    for (thread, ends) in (0..).zip(ends) {
        for (number, end) in ends {
            let copies = there.get(&(thread, number)).map_or(&[][..], |copies| copies);
            assert!(copies.len() <= 1, "seed {seed}: twice");
            match end {
                End::Acked(partition, offset) => assert_eq!(copies, [(partition, offset)], "seed {seed}"),
                End::Not(why) => assert!(copies.is_empty(), "seed {seed}: {number} of {thread}: {why}"),
                End::Open => {}
            }
        }
    }
}

#[test]
fn every_outcome_of_every_thread_is_what_the_log_holds() {
    let from = std::env::var("SEED").map_or(0, |seed| seed.parse().unwrap());
    for seed in from..from + std::env::var("SEEDS").map_or(20, |seeds| seeds.parse().unwrap()) {
        round(seed);
    }
}
