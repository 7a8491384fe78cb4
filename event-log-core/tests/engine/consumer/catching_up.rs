//! Catching up with a log that loses its tail meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use event_log_core::{
    EventConsumer, EventConsumerExt as _, EventLogExt as _, Notice, RawEvent, SeekPosition,
};
use futures::StreamExt as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::reading_ahead::{MS, SECOND, Server, read, to};

/// As in a crash: what follows is appended in its place.
fn lose_tail(server: &Server, high: u64) {
    server.change(|state| {
        let part = &mut state.parts[0];
        part.records.truncate(high as usize);
        part.since.truncate(high as usize);
        part.high = high;
    });
}

/// A record every ten seconds: no poll of a stream ever finds nothing.
fn keeps_appending(server: &Arc<Server>, partition: usize) -> JoinHandle<()> {
    let server = Arc::clone(server);
    tokio::spawn(async move {
        for number in 1_000_000.. {
            sleep(10 * SECOND).await;
            server.append(partition, number);
        }
    })
}

/// What comes until the stream ends: the numbers of the records, and how often a truncation is told.
async fn catch_up(consumer: &mut dyn EventConsumer<RawEvent>) -> (BTreeSet<u64>, usize) {
    let (mut numbers, mut truncations) = (BTreeSet::new(), 0);
    let caught_up = timeout(200 * SECOND, async {
        let mut stream = consumer.until_caught_up(100);
        while let Some(batch) = stream.next().await {
            let batch = batch.unwrap();
            truncations +=
                batch.notices.iter().filter(|notice| matches!(notice, Notice::Truncated { .. })).count();
            let payloads = batch.into_events().map(|event| event.payload);
            numbers.extend(payloads.map(|text| std::str::from_utf8(&text).unwrap().parse::<u64>().unwrap()));
        }
    });
    let is_over = caught_up.await.is_ok();
    assert!(is_over, "not caught up after minutes, with {} records", numbers.len());
    (numbers, truncations)
}

/// c10: "misses nothing". A log without incarnations has lost its tail, as the answer to the question for the end says, and is
/// longer than it was when that is there: nothing but that answer shows it.
#[tokio::test(start_paused = true)]
async fn c10_a_tail_that_the_end_shows_to_be_lost_is_caught_up_with() {
    for (seeks_end, first) in [(false, 91), (false, 1_091), (true, 91), (true, 1_091)] {
        let server = Server::new(1);
        server.change(|state| state.tells_incarnation = false);
        for number in 1..=100 {
            server.append(0, number);
        }
        let log = server.open().await;
        let mut consumer = log.consumer("g").await.unwrap();
        if seeks_end {
            consumer.seek(SeekPosition::End).await.unwrap();
        } else {
            let _ = read(&mut *consumer, 100).await;
        }
        lose_tail(&server, 90);
        server.change(|state| state.marks_reply = 10 * MS);
        let producer = tokio::spawn({
            let server = Arc::clone(&server);
            async move {
                sleep(5 * MS).await;
                (first..first + 13).for_each(|number| _ = server.append(0, number));
                keeps_appending(&server, 0).await.unwrap();
            }
        });
        let (numbers, truncations) = catch_up(&mut *consumer).await;
        producer.abort();
        // What is in the places of those that were read is no copy of them, unless it has their ids.
        let missing: Vec<_> =
            (first..first + 13).filter(|number| *number > 100 && !numbers.contains(number)).collect();
        assert!(missing.is_empty(), "from {first} on, {seeks_end}: {missing:?} are missing");
        assert_eq!(truncations, 1, "from {first} on, {seeks_end}");
    }
}

/// The same where answers to fetches tell no end, so that the truncation is told because of the question alone; and the other
/// partition leaves no poll empty.
#[tokio::test(start_paused = true)]
async fn c10_a_tail_that_the_end_shows_to_be_lost_is_told_whatever_fetches_tell() {
    let server = Server::new(2);
    server.change(|state| (state.tells_incarnation, state.tells_high) = (false, false));
    for number in 1..=100 {
        server.append(0, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let _ = read(&mut *consumer, 100).await;
    lose_tail(&server, 90);
    let _producer = keeps_appending(&server, 1);
    let (_, truncations) = catch_up(&mut *consumer).await;
    assert_eq!(truncations, 1);
}

/// c10: the end is one that the log does not have any more when it is there, and the reader has not come so far that it could
/// miss anything: what the log has now is all there is to catch up with. The other partition leaves no poll empty.
#[tokio::test(start_paused = true)]
async fn c10_an_end_that_is_lost_when_it_is_known_is_not_waited_for() {
    for tells_high in [true, false] {
        let server = Server::new(2);
        server.change(|state| (state.tells_incarnation, state.tells_high) = (false, tells_high));
        for number in 1..=10 {
            server.append(0, number);
        }
        let log = server.open().await;
        let mut consumer = log.consumer("g").await.unwrap();
        let _ = read(&mut *consumer, 10).await;
        let _ = consumer.poll(1, 100 * MS).await.unwrap();
        for number in 11..=100 {
            server.append(0, number);
        }
        server.change(|state| state.marks_reply = 10 * MS);
        let crash = tokio::spawn({
            let server = Arc::clone(&server);
            async move {
                sleep(5 * MS).await;
                lose_tail(&server, 50);
            }
        });
        let producer = keeps_appending(&server, 1);
        let (numbers, _) = catch_up(&mut *consumer).await;
        crash.await.unwrap();
        producer.abort();
        let missing: Vec<_> = (11..=50).filter(|number| !numbers.contains(number)).collect();
        assert!(missing.is_empty(), "tells ends: {tells_high}: {missing:?} are missing");
    }
}

/// c10: "up to the high watermark of this moment; then the stream ends", however often it has to be asked for again: what is
/// appended meanwhile is not caught up with, although one partition keeps the other waiting.
#[tokio::test(start_paused = true)]
async fn c10_an_end_that_is_asked_for_again_goes_no_farther() {
    let server = Server::new(2);
    for number in 1..=10 {
        server.append((number % 2) as usize, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    server.change(|state| state.parts[0].fetch_fails = true);
    let producer = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            for number in 1_000_000.. {
                sleep(10 * MS).await;
                server.append(0, number);
                server.append(1, number);
            }
        }
    });
    let mended = Arc::clone(&server);
    tokio::spawn(async move {
        sleep(10 * SECOND).await;
        mended.change(|state| {
            state.parts[0].fetch_fails = false;
            // From now on what is read grows as fast as it is read.
            state.most = 1;
            state.parts[0].fetch_takes = 10 * MS;
        });
    });
    let _ = catch_up(&mut *consumer).await;
    producer.abort();
}

/// What is read was kept from before a seek, and the end has shown meanwhile that its log has lost its tail.
#[tokio::test(start_paused = true)]
async fn c7_a_tail_that_the_end_shows_to_be_lost_is_told_behind_a_seek_to_what_was_kept() {
    let server = Server::new(1);
    server.change(|state| state.tells_incarnation = false);
    for number in 1..=100 {
        server.append(0, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let _ = read(&mut *consumer, 100).await;
    consumer.seek(SeekPosition::End).await.unwrap();
    lose_tail(&server, 90);
    let _ = consumer.end().await.unwrap();
    for number in 1_091..=1_103 {
        server.append(0, number);
    }
    consumer.seek(to(95)).await.unwrap();
    let mut truncations = 0;
    for _ in 0..5 {
        let batch = consumer.poll(1_000, SECOND).await.unwrap();
        truncations +=
            batch.notices.iter().filter(|notice| matches!(notice, Notice::Truncated { .. })).count();
    }
    assert_eq!(truncations, 1, "what was kept is of a log that is gone");
}

/// "Partitions that go to other members meanwhile are not waited for": one goes and comes back before its truncation is told, and
/// is read from what is there now. The stream ends as soon as it has come to the end.
#[tokio::test(start_paused = true)]
async fn c10_a_truncated_partition_that_went_and_came_back_is_not_waited_for() {
    let server = Server::new(1);
    for number in 1..=100 {
        server.append(0, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let _ = read(&mut *consumer, 100).await;
    lose_tail(&server, 90);
    // Where the group stands takes a while to say, and nothing is told before.
    server.change(|state| state.places_take = 5 * SECOND);
    tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            sleep(SECOND).await;
            server.change(|state| {
                state.parts[0].last_instance = None;
                state.rebalance();
            });
        }
    });
    let start = Instant::now();
    let (numbers, _) = catch_up(&mut *consumer).await;
    assert!(
        numbers.len() == 90 && start.elapsed() < 30 * SECOND,
        "{} in {:?}",
        numbers.len(),
        start.elapsed()
    );
}
