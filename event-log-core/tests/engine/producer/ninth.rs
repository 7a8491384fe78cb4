//! What the ninth reader has found: a partition that cannot be read back, which kept a healthy one away; events that expire while
//! they wait for a question; and a connection that is opened while the log is closed.

use std::sync::Arc;
use std::time::Duration;

use crate::served::{Fate, FetchFate, HOUR, MS, SECOND, Server, event, steady};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// The answer to a question where partitions end takes 700 ms. Partition 0 is healthy; it was acknowledged something, and then idle
/// for so long. What is read back of partition 1 loses its connection each time.
async fn beside_a_bad_fetch(idle: Duration, is_known: bool) -> Duration {
    let server = Server::new(true, 2);
    let mut config = ProducerConfig::default();
    config.reconnect.jitter_percent = 0;
    let log = server.open(config).await;
    server.state.lock().watermarks_take = 700 * MS;
    if is_known {
        log.append_acked(event(0, 0)).await.unwrap();
    }
    sleep(idle).await;
    server.with(1, |partition| {
        partition.every_fetch = Some(FetchFate::Unavailable);
        partition.every_send = Some(Fate::ReplyLost);
    });
    let _bad = log.submit(event(1, 0)).unwrap();
    sleep(5 * SECOND).await;
    let start = Instant::now();
    let outcome = timeout(24 * HOUR, log.submit(event(0, 1)).unwrap()).await;
    outcome.unwrap().unwrap();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a7_a_partition_that_was_idle_for_half_a_day_is_not_kept_away() {
    let took = beside_a_bad_fetch(12 * HOUR, true).await;
    assert!(took <= 75 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a7_a_partition_that_was_idle_for_an_hour_is_not_kept_away() {
    let took = beside_a_bad_fetch(HOUR, true).await;
    assert!(took <= 75 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a7_a_partition_that_was_idle_for_ten_seconds_is_not_kept_away() {
    let took = beside_a_bad_fetch(10 * SECOND, true).await;
    assert!(took <= 75 * SECOND, "{took:?}");
}

/// a16: nothing of it was sent when it had waited ten times as long as it may.
#[tokio::test(start_paused = true)]
async fn a16_an_event_that_waits_for_a_question_expires() {
    let server = Server::new(true, 1);
    server.state.lock().watermarks_take = 4 * SECOND;
    let mut config = steady();
    config.expiry = Some(400 * MS);
    let log = server.open(config).await;
    let start = Instant::now();
    let ticket = log.submit(event(0, 0)).unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(server.with(0, |partition| partition.sends), 0, "not in flight");
    let outcome = timeout(HOUR, ticket).await.unwrap();
    assert!(outcome.is_err() && start.elapsed() < 3 * SECOND, "{outcome:?} after {:?}", start.elapsed());
}

/// l3: what is closed holds nothing of the backend but through its handles.
#[test]
fn l3_what_is_closed_holds_nothing() {
    let mut held = 0;
    for _ in 0..200 {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        held += runtime
            .block_on(runtime.spawn(async {
                let server = Server::new(true, 1);
                let transport = Arc::new(super::opening::Opening::new(&server));
                let log = event_log_core::engine::LogBuilder::new(Arc::new(event_log_core::JsonCodec))
                    .open(Arc::clone(&transport))
                    .await
                    .unwrap();
                server.with(0, |partition| partition.every_send = Some(Fate::Confirmed(10)));
                let a = log.submit(event(0, 0)).unwrap();
                let b = log.submit(event(1, 0)).unwrap();
                a.await.unwrap();
                b.await.unwrap();
                log.close(SECOND).await.unwrap();
                drop(log);
                usize::from(Arc::strong_count(&transport) > 1)
            }))
            .unwrap();
    }
    assert_eq!(held, 0, "of 200");
}

/// Partition 0 is healthy, and has an event every ten seconds. What is read back of partition 1 loses its connection at once, each
/// time. Returns the longest wait of partition 0, how many of its events had an outcome within two hours, and how many of those
/// have expired.
async fn beside(
    connections: usize,
    marks_take: Duration,
    expiry: Option<Duration>,
) -> (Duration, usize, usize) {
    let server = Server::new(true, connections);
    let mut config = ProducerConfig::default();
    (config.reconnect.jitter_percent, config.expiry) = (0, expiry);
    let log = server.open(config).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.state.lock().watermarks_take = marks_take;
    server.with(1, |partition| {
        partition.every_fetch = Some(FetchFate::Unavailable);
        partition.every_send = Some(Fate::ReplyLost);
    });
    let bad = log.clone();
    tokio::spawn(async move {
        for number in 0.. {
            drop(bad.append_acked(event(1, number)).await);
            sleep(SECOND).await;
        }
    });
    let start = Instant::now();
    let (mut longest, mut count, mut expired) = (Duration::ZERO, 0, 0);
    while start.elapsed() < 2 * HOUR {
        sleep(10 * SECOND).await;
        let since = Instant::now();
        let outcome = log.append_acked(event(0, 1)).await;
        (count, expired) = (count + 1, expired + usize::from(outcome.is_err()));
        longest = longest.max(since.elapsed());
    }
    (longest, count, expired)
}

#[tokio::test(start_paused = true)]
async fn a7_a_healthy_partition_is_not_kept_away_where_questions_take_10_ms() {
    let (longest, ..) = beside(2, 10 * MS, None).await;
    assert!(longest <= 75 * SECOND, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a7_a_healthy_partition_is_not_kept_away_where_questions_take_700_ms() {
    let (longest, ..) = beside(2, 700 * MS, None).await;
    assert!(longest <= 75 * SECOND, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a7_events_of_a_healthy_partition_do_not_expire() {
    let (_, count, expired) = beside(2, 700 * MS, Some(75 * SECOND)).await;
    assert!(expired == 0, "{expired} of {count}");
}

#[tokio::test(start_paused = true)]
async fn a7_a_healthy_partition_is_not_kept_away_over_one_connection() {
    let (longest, ..) = beside(1, 700 * MS, None).await;
    assert!(longest <= 75 * SECOND, "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a7_a_healthy_partition_is_not_kept_away_where_questions_take_no_time() {
    let (longest, ..) = beside(2, Duration::ZERO, None).await;
    assert!(longest <= 75 * SECOND, "{longest:?}");
}
