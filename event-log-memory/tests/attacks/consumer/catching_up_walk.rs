//! Attack: random moments of a log in which a consumer catches up. The stream has to end once everything is quiet.

use crate::fixture::{SECOND, append, open};
use event_log_core::{
    EventConsumer as _, EventConsumerExt as _, EventLog as _, EventLogExt as _, Offset, PartitionId,
    Position, SeekPosition,
};
use futures::StreamExt as _;
use std::time::Duration;

/// Whether the log may begin again after the stream has asked for the end.
const AGAIN_MEANWHILE: bool = false;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 9) % bound
    }
}

async fn walk(seed: u64) -> Result<(), String> {
    let mut random = Random(seed.wrapping_add(3).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (log, faults, _) = open().await;
    let mut number = 0;
    let mut others = Vec::new();
    let mut consumer = log.consumer("g").await.unwrap();
    let mut history = Vec::new();
    for _ in 0..12 {
        // Before and while it catches up.
        for during in [false, true] {
            if during {
                faults.stall_fetches(random.below(3) == 0);
            }
            let mut steps = random.below(5);
            let mut stream = None;
            let mut rest = None;
            if during {
                let mut one = Box::pin(consumer.until_caught_up(1 + random.below(20) as usize));
                let waited = Duration::from_millis(random.below(150));
                let item = tokio::time::timeout(waited, one.next()).await;
                history.push(format!(
                    "catching up: {:?}",
                    item.as_ref().map(|item| item.as_ref().map(|item| item.as_ref().map(|batch| (
                        batch.len(),
                        batch.cursor().clone(),
                        format!("{:?}", batch.notices)
                    ))))
                ));
                if matches!(item, Ok(None)) {
                    steps = 0;
                } else {
                    stream = Some(one);
                }
            } else {
                rest = Some(&mut consumer);
            }
            for _ in 0..steps {
                match random.below(10) {
                    0..4 => {
                        let (partition, count) = (random.below(2) as u32, 1 + random.below(20));
                        append(&log, partition, number..number + count).await;
                        number += count;
                        history.push(format!("append {count} to {partition}"));
                    }
                    4 if !during || AGAIN_MEANWHILE => {
                        faults.begin_again();
                        history.push("begin again".to_owned());
                    }
                    5 => {
                        faults.interrupt();
                        history.push("interrupt".to_owned());
                    }
                    6 => {
                        faults.restart();
                        history.push("restart".to_owned());
                    }
                    7 => {
                        if others.is_empty() {
                            others.push(log.consumer("g").await.unwrap());
                            history.push("other joins".to_owned());
                        } else {
                            others.clear();
                            history.push("other leaves".to_owned());
                        }
                    }
                    8 => {
                        faults.purge();
                        history.push("purge".to_owned());
                    }
                    _ => {
                        if let Some(consumer) = &mut rest {
                            let at =
                                Position::new(PartitionId(random.below(2) as u32), Offset(random.below(60)));
                            let sought = consumer.seek(SeekPosition::Position(at)).await;
                            history.push(format!("seek {at}: {sought:?}"));
                        }
                    }
                }
            }
            faults.stall_fetches(false);
            if let Some(stream) = &mut stream {
                let all = tokio::time::timeout(3_600 * SECOND, async {
                    while let Some(batch) = stream.next().await {
                        history.push(format!(
                            "    {:?}",
                            batch.as_ref().map(|batch| (
                                batch.len(),
                                batch.cursor().clone(),
                                format!("{:?}", batch.notices)
                            ))
                        ));
                    }
                })
                .await;
                if all.is_err() {
                    return Err(format!("seed {seed}: an hour\n{}", history.join("\n")));
                }
            }
        }
    }
    drop(log.watermarks().await);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn c10_catching_up_ends_whatever_happens_meanwhile() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (first, seeds) = (number("FIRST", 0), number("SEEDS", 300));
    let mut failures = Vec::new();
    for seed in first..first + seeds {
        if let Err(failure) = walk(seed).await {
            failures.push(failure);
        }
    }
    failures.sort_by_key(String::len);
    assert!(failures.is_empty(), "{} of {seeds} seeds; the shortest: {}", failures.len(), failures[0]);
}
