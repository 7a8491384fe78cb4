//! A partition beside one that always has something to send, on the log in memory.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use event_log_core::{EventLog as _, EventLogExt as _, Partitionable, ProducerConfig};
use event_log_memory::{MemoryBroker, MemoryLog};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Keyed(String, u64);

impl Partitionable for Keyed {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.0)
    }
}

fn keys() -> [String; 2] {
    [0, 1].map(|partition| {
        let mut keys = ('a'..='z').map(|key| key.to_string());
        keys.find(|key| event_log_core::partition_of(key, 2).0 == partition).unwrap()
    })
}

async fn open(config: ProducerConfig) -> (MemoryLog<Keyed>, MemoryBroker) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder::<Keyed>().broker(&broker).partitions(2).config(config);
    let log = log.retention(event_log_memory::Retention::records(1_000)).open().await.unwrap();
    (log, broker)
}

async fn lone(log: &MemoryLog<Keyed>, appended: &AtomicUsize, done: &AtomicBool) {
    let (before, start) = (appended.load(Relaxed), Instant::now());
    let [key, _] = keys();
    let acked = tokio::time::timeout(Duration::from_secs(5), log.append_acked(Keyed(key, 0))).await;
    let others = appended.load(Relaxed) - before;
    done.store(true, Relaxed);
    eprintln!("{:?} {others}", start.elapsed());
    assert!(acked.is_ok(), "not appended within {:?}, in which {others} others were", start.elapsed());
}

/// ARCHITECTURE, 8: "Partitions do not wait for one another: not for a slow request, for what has to be read back, or for a
/// question about another one's end." Two thousand tasks append to partition 1; a small queue.
#[tokio::test]
async fn a10_a_lone_append_beside_a_crowd_is_appended() {
    let mut config = ProducerConfig::default();
    (config.buffer_events, config.request_events) = (100, 10);
    let (log, broker) = open(config).await;
    let faults = broker.faults("events").unwrap();
    let (appended, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    faults.slow_appends(Duration::from_millis(20));
    for _ in 0..5_000 {
        let (log, appended, done) = (log.clone(), appended.clone(), done.clone());
        tokio::spawn(async move {
            let [_, key] = keys();
            while !done.load(Relaxed) {
                drop(log.append_acked(Keyed(key.clone(), 0)).await);
                appended.fetch_add(1, Relaxed);
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The log was slow for a moment. It is not any more.
    faults.slow_appends(Duration::ZERO);
    lone(&log, &appended, &done).await;
}

/// The same with the default settings, and threads that submit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_a_lone_append_beside_threads_is_appended() {
    let (log, broker) = open(ProducerConfig::default()).await;
    let faults = broker.faults("events").unwrap();
    let (appended, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    faults.slow_appends(Duration::from_millis(20));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (log, appended, done) = (log.clone(), appended.clone(), done.clone());
            std::thread::spawn(move || {
                let [_, key] = keys();
                while !done.load(Relaxed) {
                    match log.submit(Keyed(key.clone(), 0)) {
                        Ok(ticket) => {
                            drop(ticket);
                            appended.fetch_add(1, Relaxed);
                        }
                        Err(_) => std::thread::yield_now(),
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    faults.slow_appends(Duration::ZERO);
    lone(&log, &appended, &done).await;
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
