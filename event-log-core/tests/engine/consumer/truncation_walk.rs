//! Attack: one consumer, and a log that loses its tail now and then and gets some of it back from its producers. Every event that
//! the log has at the end was delivered, and none twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::reading_ahead::{MS, SECOND, Server};
use event_log_core::{ConsumerOptions, EventBatch, EventConsumer, EventLog as _, Notice, RawEvent};
use tokio::time::Instant;

struct Walk {
    seed: u64,
    random: u64,
    server: Arc<Server>,
    number: u64,
    delivered: BTreeMap<u64, String>,
    history: Vec<String>,
}

fn number_of(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

impl Walk {
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn fail(&self, what: &str) -> ! {
        let from = self
            .history
            .len()
            .saturating_sub(std::env::var("LINES").ok().and_then(|text| text.parse().ok()).unwrap_or(60));
        panic!("seed {}: {what}\n{}\nseed {}: {what}", self.seed, self.history[from..].join("\n"), self.seed);
    }

    fn took(&mut self, batch: EventBatch<RawEvent>) -> bool {
        let is_quiet = batch.is_empty() && batch.notices.is_empty();
        for notice in &batch.notices {
            if !matches!(notice, Notice::Duplicate { .. }) {
                self.history.push(format!("    {notice:?}"));
            }
        }
        let cursor = batch.cursor().clone();
        let mut got = Vec::new();
        for record in batch {
            let number = number_of(&record.event.unwrap().payload);
            let at = record.position.to_string();
            got.push(format!("{number}@{at}"));
            if let Some(before) = self.delivered.insert(number, at.clone()) {
                self.fail(&format!("{number} at {before} and again at {at}"));
            }
        }
        self.history.push(format!("    got {got:?}, at {cursor}"));
        is_quiet
    }

    async fn run(seed: u64, steps: u64) {
        let server = Server::new(2);
        server.change(|state| {
            state.random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
            // Without it a record that comes back at its old place cannot be told from one that stayed.
            state.tells_incarnation = true;
        });
        let log = server.open().await;
        let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
        // It reads something of each partition, by which it recognises them.
        let mut walk = Self {
            seed,
            random: seed.wrapping_add(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            server: Arc::clone(&server),
            number: 2,
            delivered: BTreeMap::new(),
            history: Vec::new(),
        };
        server.append(0, 1);
        server.append(1, 2);
        for _ in 0..5 {
            let batch = consumer.poll(100, 100 * MS).await.unwrap();
            walk.took(batch);
        }
        server.change(|state| (state.chaos, state.late_replies) = (seed % 3 != 0, seed % 2 == 0));
        for _ in 0..steps {
            walk.step(&mut *consumer).await;
        }
        server.change(|state| state.chaos = false);
        walk.history.push("the end".to_owned());
        let mut quiet = 0;
        for _ in 0..500 {
            if let Ok(batch) = consumer.poll(1_000, SECOND).await {
                quiet = if walk.took(batch) { quiet + 1 } else { 0 };
            }
            if quiet > 4 {
                break;
            }
        }
        let mut missing = Vec::new();
        server.change(|state| {
            for (nth, part) in state.parts.iter().enumerate() {
                for record in &part.records {
                    let number = number_of(&record.payload);
                    if !walk.delivered.contains_key(&number) {
                        missing.push(format!("{number} at {nth}@{}", record.offset));
                    }
                }
            }
        });
        if !missing.is_empty() {
            walk.fail(&format!("never delivered: {missing:?}"));
        }
    }

    async fn step(&mut self, consumer: &mut dyn EventConsumer<RawEvent>) {
        let partition = self.below(2) as usize;
        match self.below(20) {
            0..5 => {
                let count = if self.below(10) == 0 { 300 } else { 1 + self.below(20) };
                for _ in 0..count {
                    self.number += 1;
                    self.server.append(partition, self.number);
                }
                self.history.push(format!("append {count} to {partition}, up to {}", self.number));
            }
            5..14 => {
                let max = 1 + self.below(30) as usize;
                let timeout = MS * self.below(300) as u32;
                let patience = if self.below(3) == 0 { MS * self.below(100) as u32 } else { 3_600 * SECOND };
                let start = Instant::now();
                let polled = tokio::time::timeout(patience, consumer.poll(max, timeout)).await;
                if start.elapsed() > timeout + SECOND + 2 * MS {
                    self.fail(&format!("the poll took {:?}", start.elapsed()));
                }
                match polled {
                    Ok(Ok(batch)) => _ = self.took(batch),
                    Ok(Err(error)) => self.history.push(format!("    {error:?}")),
                    Err(_) => self.history.push("    dropped".to_owned()),
                }
            }
            14 => {
                let count = 1 + self.below(25);
                let lost: Vec<u64> = self.server.change(|state| {
                    let part = &mut state.parts[partition];
                    let mut lost = Vec::new();
                    for _ in 0..count {
                        // The first is its landmark.
                        if part.records.len() < 2 {
                            break;
                        }
                        let record = part.records.pop_back().unwrap();
                        part.since.pop_back();
                        part.high = record.offset.0;
                        lost.push(number_of(&record.payload));
                    }
                    part.incarnation += 1;
                    lost.reverse();
                    lost
                });
                self.history.push(format!("{partition} loses {lost:?}"));
                let back = self.below(3);
                // What comes first is another one, so that nothing is at its old place.
                if back > 0 && !lost.is_empty() {
                    self.number += 1;
                    self.server.append(partition, self.number);
                    let from = self.below(lost.len() as u64) as usize;
                    let lost = if back == 1 { &lost[from..] } else { &lost[..] };
                    self.history.push(format!("{partition} gets {}, and back {lost:?}", self.number));
                    lost.iter().for_each(|&number| _ = self.server.append(partition, number));
                }
            }
            15 => {
                self.server.evict_all();
                self.history.push("cut".to_owned());
            }
            _ => tokio::time::sleep(MS * self.below(200) as u32).await,
        }
        let _ = Duration::ZERO;
    }
}

#[tokio::test(start_paused = true)]
async fn c7_a_log_that_loses_its_tail_is_read_once_and_whole() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let first = number("FIRST", 0);
    for seed in first..first + number("SEEDS", 60) {
        Walk::run(seed, number("STEPS", 200)).await;
    }
}
