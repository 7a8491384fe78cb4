//! How fast appends are on a real server, beside the plain SDK with one message a round trip, on the same topic.
//!
//! `cargo run --release -p event-log-tests --example iggy_rates [-- replicated]`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use event_log_core::conformance::Probe;
use event_log_core::{EventLog, EventLogExt, PartitionId};
use event_log_iggy::{Durability, IggyConfig, IggyLog};
use event_log_tests::iggy::{Foreign, new_stream, own_server};

const EACH: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(server) = own_server().await else { return };
    let mut config = IggyConfig::new(server.endpoint(), new_stream(), "events");
    if std::env::args().any(|arg| arg == "replicated") {
        config.topology.durability = Durability::Replicated;
    }
    let log: IggyLog<Probe> = event_log_iggy::builder(config.clone()).open().await.expect("the log opens");
    let foreign = Foreign::connect(&server.endpoint(), &config.stream, "events").await;
    println!("server {}, {:?}, events per second:", server.version(), config.topology.durability);
    println!("{:>14} {:>14} {:>14} {:>14}", "sdk, lone", "lone append", "1,024 appends", "batches of 1,000");
    for _ in 0..ROUNDS {
        let lone_sdk = sdk_one_by_one(&foreign).await;
        let lone = appends(&log, 1).await;
        let many = appends(&log, 1_024).await;
        let batches = batches(&log).await;
        println!(
            "{lone_sdk:>14.0} {lone:>14.0} {many:>14.0} {batches:>14.0}   1,024 appends: {:.0} times the lone sdk",
            many / lone_sdk
        );
    }
    log.close(Duration::from_secs(5)).await.expect("nothing is left");
    server.stop().await.expect("the server stops");
}

fn event(number: u64) -> Probe {
    Probe::new(&format!("session-{}", number % 64), number).padded(120)
}

async fn sdk_one_by_one(foreign: &Foreign) -> f64 {
    let payload = serde_json::to_vec(&event(0)).expect("it can be written");
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < EACH {
        foreign.send(PartitionId(count % 8), payload.clone().into()).await;
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// So many at a time, each waiting for its receipt before the next.
async fn appends(log: &IggyLog<Probe>, at_a_time: usize) -> f64 {
    let (start, count) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let producers: Vec<_> = (0..at_a_time)
        .map(|_| {
            let (log, count) = (log.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                while start.elapsed() < EACH {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    log.append_committed(event(number)).await.expect("it is appended");
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.expect("the producer ends");
    }
    count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

async fn batches(log: &IggyLog<Probe>) -> f64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < EACH {
        let batch: Vec<_> = (count..count + 1_000).map(event).collect();
        log.append_batch(batch).await.expect("it is appended");
        count += 1_000;
    }
    count as f64 / start.elapsed().as_secs_f64()
}
