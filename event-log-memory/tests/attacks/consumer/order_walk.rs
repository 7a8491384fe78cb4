//! Attack: random polls of a small backlog. Nothing comes before what is older, and had been there when the poll began.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fixture::{SECOND, append};
use event_log_core::engine::TokioClock;
use event_log_core::{
    ConsumerOptions, EventConsumer as _, EventLog as _, Notice, Offset, PartitionId, PoisonPolicy,
    SeekPosition, Timestamp,
};
use event_log_memory::MemoryBroker;

const MS: Duration = Duration::from_millis(1);

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

async fn walk(seed: u64, may_be_slow: bool) {
    let mut random = Random(seed.wrapping_add(17).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let broker = MemoryBroker::with_clock(Arc::new(TokioClock::starting_at(Timestamp(1_000_000_000))));
    let log = event_log_memory::builder().broker(&broker).partitions(2).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let slow = if may_be_slow { [0, 0, 10, 20][random.below(4) as usize] } else { 0 };
    faults.slow_fetches(MS * slow);
    let policy = if seed % 2 == 0 { PoisonPolicy::Skip } else { PoisonPolicy::Deliver };
    let mut consumer = log.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    let mut number = 0;
    let mut history = Vec::new();
    for _ in 0..120 {
        match random.below(10) {
            0..3 => {
                let partition = random.below(2) as u32;
                for _ in 0..1 + random.below(20) {
                    tokio::time::sleep(MS).await;
                    match random.below(12) {
                        0 => drop(faults.append_foreign(PartitionId(partition), format!("garbage {number}"))),
                        1 => faults.skip_offsets(PartitionId(partition), random.below(9)),
                        2 => faults.trailing_gap(PartitionId(partition), random.below(9)),
                        _ => append(&log, partition, [number]).await,
                    }
                    number += 1;
                }
                history.push(format!("append to {partition}"));
            }
            3 if random.below(4) == 0 => {
                let at = SeekPosition::FromEnd(random.below(60) as usize);
                consumer.seek(at.clone()).await.unwrap();
                history.push(format!("{at:?}: {}", consumer.position()));
            }
            4 => tokio::time::sleep(MS * random.below(50) as u32).await,
            _ => {
                let before = consumer.position().clone();
                let there: BTreeMap<(PartitionId, Offset), Timestamp> = broker
                    .contents("events")
                    .into_iter()
                    .map(|one| ((one.position.partition, one.position.offset), one.timestamp))
                    .collect();
                let (max, timeout) = (1 + random.below(30) as usize, MS * (150 + random.below(300) as u32));
                let Ok(batch) = consumer.poll(max, timeout).await else { continue };
                let mut passed: Vec<_> =
                    batch.records.iter().map(|one| (one.position.partition, one.position.offset)).collect();
                history.push(format!(
                    "poll {max} {timeout:?}: {:?}, {:?}, {}",
                    batch
                        .records
                        .iter()
                        .map(|one| format!("{}:{}", one.position, one.timestamp.0 / 1000))
                        .collect::<Vec<_>>(),
                    batch.notices,
                    batch.cursor()
                ));
                let times: Vec<_> = batch.records.iter().map(|one| one.timestamp).collect();
                assert!(times.is_sorted(), "seed {seed}: not in order of time\n{}", history.join("\n"));
                for notice in &batch.notices {
                    if let Notice::Skipped { position, .. } = notice {
                        passed.push((position.partition, position.offset));
                    }
                }
                let newest = passed.iter().filter_map(|one| there.get(one)).max();
                let left = there.iter().find(|((partition, offset), time)| {
                    *offset >= batch.cursor().get(*partition).unwrap() && Some(*time) < newest
                });
                assert!(
                    left.is_none(),
                    "seed {seed}: {left:?} is older, from {before}, slow {slow}\n{}",
                    history.join("\n")
                );
            }
        }
    }
    let _ = SECOND;
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let first = number("FIRST", 0);
    first..first + number("SEEDS", 300)
}

#[tokio::test(start_paused = true)]
async fn c2_polls_of_a_small_backlog_are_merged_by_time() {
    for seed in seeds() {
        walk(seed, false).await;
    }
}

/// "Order is worth 100 ms (`limits::MERGE_PATIENCE`): so long the records of other partitions are held back for a fetch that may
/// bring older ones."
#[tokio::test(start_paused = true)]
async fn c2_polls_of_a_small_backlog_are_merged_by_time_when_fetches_take_20_ms() {
    for seed in seeds() {
        walk(seed, true).await;
    }
}

/// The least that it takes.
#[tokio::test(start_paused = true)]
async fn c2_a_reader_that_runs_dry_while_its_fetch_is_in_flight_is_waited_for() {
    let broker = MemoryBroker::with_clock(Arc::new(TokioClock::starting_at(Timestamp(1_000_000_000))));
    let log = event_log_memory::builder().broker(&broker).partitions(2).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
    append(&log, 0, [0, 1, 2]).await;
    let mut numbers = Vec::new();
    numbers.extend(consumer.poll(1, SECOND).await.unwrap().into_events().map(|event| event.number));
    tokio::time::sleep(MS).await;
    append(&log, 0, [3]).await;
    tokio::time::sleep(MS).await;
    append(&log, 1, [4]).await;
    // Numbers 2 and 4 are at hand now.
    numbers.extend(consumer.poll(1, SECOND).await.unwrap().into_events().map(|event| event.number));
    faults.slow_fetches(20 * MS);
    while numbers.len() < 5 {
        let batch = consumer.poll(10, SECOND).await.unwrap();
        numbers.extend(batch.into_events().map(|event| event.number));
    }
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
}
