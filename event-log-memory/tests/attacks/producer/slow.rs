//! A partition beside another one, on a log in memory whose appends take more than a second.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use event_log_core::{EventLogExt as _, Partitionable, ProducerConfig};
use event_log_memory::MemoryBroker;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Serialize, Deserialize)]
struct Keyed(String, u64);

impl Partitionable for Keyed {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.0)
    }
}

fn event(partition: u32, number: u64) -> Keyed {
    let mut keys = ('a'..='z').map(|key| key.to_string());
    Keyed(keys.find(|key| event_log_core::partition_of(key, 2).0 == partition).unwrap(), number)
}

/// How long a lone append to partition 0 takes beside two callers that append to partition 1, and how many of those are
/// appended meanwhile.
async fn lone(takes: Duration, config: ProducerConfig) -> (Result<Duration, String>, usize) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder::<Keyed>().broker(&broker).partitions(2).config(config);
    let log = log.open().await.unwrap();
    broker.faults("events").unwrap().slow_appends(takes);
    let appended = Arc::new(AtomicUsize::new(0));
    for nth in 0..3 {
        let (log, appended) = (log.clone(), appended.clone());
        tokio::spawn(async move {
            sleep(Duration::from_millis(500 * nth)).await;
            while log.append_acked(event(1, 0)).await.is_ok() {
                appended.fetch_add(1, Relaxed);
            }
        });
    }
    sleep(Duration::from_secs(10)).await;
    let (start, before) = (Instant::now(), appended.load(Relaxed));
    let outcome = timeout(HOUR, log.append_acked(event(0, 1))).await;
    let others = appended.load(Relaxed) - before;
    let outcome = match outcome {
        Ok(Ok(_)) => Ok(start.elapsed()),
        Ok(Err(error)) => Err(format!("{error}")),
        Err(_) => Err("it is pending after an hour".to_owned()),
    };
    (outcome, others)
}

#[tokio::test(start_paused = true)]
async fn a4_a_lone_append_has_its_turn_on_a_slow_log() {
    let (outcome, others) = lone(Duration::from_millis(1_200), ProducerConfig::default()).await;
    assert!(
        outcome.as_ref().is_ok_and(|took| *took < Duration::from_secs(5)),
        "{outcome:?}, {others} others"
    );
}

/// With an expiry it comes back as expired, although the log takes everything that it is sent.
#[tokio::test(start_paused = true)]
async fn a16_a_lone_append_does_not_expire_on_a_slow_log() {
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_secs(60));
    let (outcome, others) = lone(Duration::from_millis(1_200), config).await;
    assert!(
        outcome.as_ref().is_ok_and(|took| *took < Duration::from_secs(5)),
        "{outcome:?}, {others} others"
    );
}

#[tokio::test(start_paused = true)]
async fn control_a_lone_append_has_its_turn_on_a_log_that_takes_less_than_a_second() {
    let (outcome, others) = lone(Duration::from_millis(900), ProducerConfig::default()).await;
    assert!(
        outcome.as_ref().is_ok_and(|took| *took < Duration::from_secs(5)),
        "{outcome:?}, {others} others"
    );
}
