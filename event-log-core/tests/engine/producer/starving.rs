//! A log that answers at once, and always has something to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::served::{Fate, SECOND, Server, alone, event};
use event_log_core::EventLogExt as _;
use tokio::time::sleep;

/// So many callers append to partition 1 all the time.
fn crowd(
    log: &event_log_core::engine::TransportLog<crate::served::Event, crate::served::Scripted>,
    count: usize,
) -> (Arc<AtomicUsize>, Arc<AtomicBool>) {
    let (appended, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    for _ in 0..count {
        let (log, appended, done) = (log.clone(), appended.clone(), done.clone());
        tokio::spawn(async move {
            while !done.load(Relaxed) {
                drop(log.append_acked(event(1, 0)).await);
                appended.fetch_add(1, Relaxed);
            }
        });
    }
    (appended, done)
}

/// ARCHITECTURE, 8: "Partitions do not wait for one another: not for a slow request, for what has to be read back, or for a
/// question about another one's end."
#[tokio::test]
async fn a7_a_lone_append_beside_a_busy_partition_is_sent() {
    let server = Server::new(true, 1);
    let mut config = alone();
    config.buffer_events = 100;
    let log = server.open(config).await;
    // Where partition 0 ends was asked long ago.
    sleep(SECOND + SECOND / 10).await;
    let (appended, done) = crowd(&log, 2_000);
    while appended.load(Relaxed) < 10_000 {
        tokio::task::yield_now().await;
    }
    let (before, start) = (appended.load(Relaxed), std::time::Instant::now());
    let acked = tokio::time::timeout(Duration::from_secs(5), log.append_acked(event(0, 1))).await;
    let others = appended.load(Relaxed) - before;
    done.store(true, Relaxed);
    let sends = server.with(0, |partition| partition.sends);
    assert!(
        acked.is_ok(),
        "not sent ({sends} requests) within {:?}, in which {others} others were appended",
        start.elapsed()
    );
    assert!(others < 50_000, "{others} others were appended first, in {:?}", start.elapsed());
    let _ = Fate::Lost;
}

/// The control: where partition 0 ends is known, so that nothing has to be asked.
#[tokio::test]
async fn control_a_lone_append_beside_a_busy_partition_is_sent_where_nothing_is_asked() {
    let server = Server::new(true, 1);
    let mut config = alone();
    config.buffer_events = 100;
    let log = server.open(config).await;
    let (appended, done) = crowd(&log, 2_000);
    for number in 0..20 {
        tokio::time::timeout(Duration::from_secs(5), log.append_acked(event(0, number)))
            .await
            .unwrap()
            .unwrap();
    }
    done.store(true, Relaxed);
    eprintln!("{}", appended.load(Relaxed));
}

/// a7: "what has to be found out of one partition keeps no other waiting", and the other way round. Two connections.
#[tokio::test]
async fn a7_what_has_to_be_read_back_beside_a_busy_partition_is_read() {
    let server = Server::new(true, 2);
    let mut config = alone();
    config.buffer_events = 100;
    config.overflow = event_log_core::Overflow::Block { deadline: Duration::from_secs(60) };
    config.reconnect =
        event_log_core::ReconnectPolicy::new(Duration::from_millis(10), Duration::from_millis(10));
    let log = server.open(config).await;
    server.with(0, |partition| partition.every_fetch = Some(crate::served::FetchFate::After(100)));
    let (appended, done) = crowd(&log, 2_000);
    server.fate(0, Fate::ReplyLost);
    let start = std::time::Instant::now();
    let acked = tokio::time::timeout(Duration::from_secs(8), log.append_acked(event(0, 1))).await;
    let others = appended.load(Relaxed);
    done.store(true, Relaxed);
    let fetched = server.with(0, |partition| partition.fetched);
    eprintln!("{:?} {others} {fetched}", start.elapsed());
    assert!(
        acked.is_ok(),
        "not known within {:?}, in which {others} others were appended, {fetched} fetches",
        start.elapsed()
    );
    assert!(start.elapsed() < Duration::from_secs(2));
}
