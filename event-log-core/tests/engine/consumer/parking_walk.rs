//! Attack: random walks of a consumer that parks what it cannot decode, over logs that read ahead and go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::reading_ahead::{MS, Reach, SECOND, Server};
use event_log_core::engine::LogBuilder;
use event_log_core::{
    Codec, CodecError, ConsumerOptions, DeadLetter, EventBatch, EventLog as _, Headers, JsonCodec, Notice,
    Offset, PartitionId, PoisonPolicy, RawEvent,
};
use serde::de::DeserializeOwned;

struct Picky;

impl Codec<RawEvent> for Picky {
    fn encode(&self, event: &RawEvent, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&event.payload);
        Ok(())
    }

    fn decode(&self, payload: &bytes::Bytes, _: &Headers) -> Result<RawEvent, CodecError>
    where
        RawEvent: DeserializeOwned,
    {
        if payload.starts_with(b"bad") {
            Err(CodecError::new("bad"))
        } else {
            Ok(RawEvent::new(None, payload.clone()))
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

#[derive(Default)]
struct Seen {
    next: BTreeMap<PartitionId, u64>,
    delivered: BTreeSet<(u32, u64)>,
    parked: BTreeSet<(u32, u64)>,
    history: Vec<String>,
}

impl Seen {
    /// One consumer through all, which starts where the group is, after each restart.
    fn took(&mut self, seed: u64, batch: &EventBatch<RawEvent>) -> bool {
        let is_quiet = batch.is_empty() && batch.notices.is_empty();
        let mut passed: Vec<(u32, u64, bool)> = Vec::new();
        for notice in &batch.notices {
            match notice {
                Notice::Parked { position, .. } => {
                    passed.push((position.partition.0, position.offset.0, true));
                }
                Notice::Revoked(_) | Notice::Assigned(_) => panic!("seed {seed}: {notice:?}"),
                _ => {}
            }
        }
        passed.extend(
            batch.records.iter().map(|record| (record.position.partition.0, record.position.offset.0, false)),
        );
        passed.sort_unstable();
        self.history.push(format!("    {passed:?} at {}", batch.cursor()));
        for (partition, offset, is_parked) in passed {
            let next = self.next.entry(PartitionId(partition)).or_default();
            assert_eq!(*next, offset, "seed {seed}: partition {partition}\n{}", self.history.join("\n"));
            *next = offset + 1;
            if is_parked { &mut self.parked } else { &mut self.delivered }.insert((partition, offset));
        }
        for (partition, next) in batch.cursor().iter() {
            assert_eq!(
                self.next.get(&partition).copied().unwrap_or_default(),
                next.0,
                "seed {seed}: the cursor"
            );
        }
        is_quiet
    }
}

async fn walk(seed: u64) {
    let mut random = Random(seed.wrapping_add(11).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (server, dead) = (Server::new(2), Server::new(1));
    for server in [&server, &dead] {
        server.change(|state| state.random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 3);
    }
    let log = LogBuilder::new(Arc::new(Picky)).open(Arc::new(Reach(Arc::clone(&server)))).await.unwrap();
    let letters = LogBuilder::<DeadLetter>::new(Arc::new(JsonCodec))
        .open(Arc::new(Reach(Arc::clone(&dead))))
        .await
        .unwrap();
    let letters = Arc::new(letters);
    let options = || ConsumerOptions::default().poison(PoisonPolicy::Park(letters.clone()));
    let mut consumer = log.consumer_with("g", options()).await.unwrap();
    server.change(|state| state.chaos = true);
    dead.change(|state| state.chaos = true);
    let mut seen = Seen::default();
    let mut bad = BTreeSet::new();
    let mut number = 0_u128;
    for _ in 0..150 {
        match random.below(10) {
            0..3 => {
                let partition = random.below(2) as usize;
                for _ in 0..1 + random.below(12) {
                    number += 1;
                    let is_bad = random.below(3) == 0;
                    let text = if is_bad { format!("bad {number}") } else { number.to_string() };
                    let Offset(offset) = server.append_as(partition, number << 8 | 1, &text);
                    if is_bad {
                        bad.insert((partition as u32, offset));
                    }
                }
            }
            3..8 => {
                let (max, timeout) = (1 + random.below(10) as usize, MS * random.below(500) as u32);
                let patience = if random.below(3) == 0 { MS * random.below(100) as u32 } else { 60 * SECOND };
                if let Ok(Ok(batch)) = tokio::time::timeout(patience, consumer.poll(max, timeout)).await {
                    seen.took(seed, &batch);
                }
            }
            8 => {
                let at = consumer.position().clone();
                drop(consumer.commit(&at).await);
            }
            _ if random.below(4) == 0 => {
                drop(consumer);
                consumer = loop {
                    if let Ok(consumer) = log.consumer_with("g", options()).await {
                        break consumer;
                    }
                };
                // A place that could not be asked for is placed later, and says so.
                seen.next = consumer.position().iter().map(|(partition, next)| (partition, next.0)).collect();
                if seen.next.len() < 2 {
                    return;
                }
                seen.history.push(format!("again, at {}", consumer.position()));
            }
            _ => tokio::time::sleep(MS * random.below(500) as u32).await,
        }
    }
    server.change(|state| state.chaos = false);
    dead.change(|state| state.chaos = false);
    let mut quiet = 0;
    for _ in 0..2_000 {
        if let Ok(batch) = consumer.poll(100, 35 * SECOND).await {
            quiet = if seen.took(seed, &batch) { quiet + 1 } else { 0 };
        }
        if quiet > 2 {
            break;
        }
    }
    assert_eq!(seen.parked, bad, "seed {seed}: parked, and bad");
    let all: usize = server.change(|state| state.parts.iter().map(|part| part.records.len()).sum());
    assert_eq!(seen.delivered.len() + seen.parked.len(), all, "seed {seed}");
    let mut reader = letters.consumer_with("r", ConsumerOptions::default()).await.unwrap();
    let mut read = BTreeMap::<(u32, u64), u32>::new();
    loop {
        let batch = reader.poll(1_000, 3 * SECOND).await.unwrap();
        if batch.is_empty() && batch.notices.is_empty() {
            break;
        }
        for letter in batch.into_events() {
            *read.entry((letter.position.partition.0, letter.position.offset.0)).or_default() += 1;
        }
    }
    assert!(read.values().all(|&count| count == 1), "seed {seed}: {read:?}");
    assert_eq!(read.keys().copied().collect::<BTreeSet<_>>(), bad, "seed {seed}: letters, and bad");
}

#[tokio::test(start_paused = true)]
async fn c6_what_cannot_be_decoded_is_parked_once_and_the_rest_is_delivered() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let first = number("FIRST", 0);
    for seed in first..first + number("SEEDS", 30) {
        walk(seed).await;
    }
}
