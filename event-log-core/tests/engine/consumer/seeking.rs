//! Copies behind copies, calls that are dropped, and consumers that are.

use crate::reading_ahead::{MS, SECOND, Server};
use event_log_core::{
    ConsumerOptions, Error, EventConsumer, EventLog as _, EventLogExt as _, Notice, Offset, PartitionId,
    Position, RawEvent, SeekPosition, Timestamp, limits,
};
use std::sync::Arc;

const WINDOW: u64 = limits::DEDUP_WINDOW_RECORDS as u64;

async fn read_all(consumer: &mut dyn EventConsumer<RawEvent>) -> (Vec<(u64, String)>, Vec<String>) {
    let (mut records, mut copies) = (Vec::new(), Vec::new());
    loop {
        let batch = consumer.poll(1_000, SECOND).await.unwrap();
        if batch.is_empty() && batch.notices.is_empty() {
            return (records, copies);
        }
        for notice in &batch.notices {
            if let Notice::Duplicate { position, .. } = notice {
                copies.push(position.to_string());
            }
        }
        for record in batch {
            let at = record.position.offset.0;
            records.push((at, String::from_utf8(record.event.unwrap().payload.to_vec()).unwrap()));
        }
    }
}

fn fill(server: &Arc<Server>, next: &mut u64, count: u64) {
    for _ in 0..count {
        *next += 1;
        server.append_as(0, u128::from(*next) << 32, "filler");
    }
}

/// "A consumer drops an id that it has seen at another offset among the last 2,048 records of the partition": a hundred
/// records ago it was seen, and dropped.
#[tokio::test(start_paused = true)]
async fn a8_a_third_copy_shortly_behind_a_second_one_is_dropped() {
    let mut failures = Vec::new();
    for before in [WINDOW - 1, 0, 1_000] {
        let server = Server::new(1);
        let mut next = 0;
        fill(&server, &mut next, before);
        next += 1;
        let id = u128::from(next) << 32;
        server.append_as(0, id, "the event");
        fill(&server, &mut next, WINDOW - 48);
        server.append_as(0, id, "the event");
        // In every case within the window behind the second copy.
        for _ in 0..3 {
            fill(&server, &mut next, 700);
            server.append_as(0, id, "the event");
        }
        let log = server.open().await;
        let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
        let (records, copies) = read_all(&mut *consumer).await;
        let got: Vec<_> = records.iter().filter(|(_, text)| text == "the event").map(|(at, _)| *at).collect();
        if got.len() != 1 {
            failures.push(format!(
                "with {before} records before it, it was delivered at {got:?}, and dropped at {copies:?}"
            ));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// "Dropping a consumer leaves the group without committing", also while a fetch of its own is in flight.
#[tokio::test(start_paused = true)]
async fn c8_a_consumer_that_is_dropped_amid_a_fetch_leaves_its_group() {
    let server = Server::new(2);
    server.change(|state| state.parts.iter_mut().for_each(|part| part.fetch_takes = 3_600 * SECOND));
    server.append(0, 1);
    let log = server.open().await;
    let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
    assert!(consumer.poll(10, MS).await.is_err());
    drop(consumer);
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(server.change(|state| state.members.len()), 0);
    log.delete_group("g").await.unwrap();
}

/// A seek whose question fails, or that is dropped, leaves the consumer where it was, with what it had fetched.
#[tokio::test(start_paused = true)]
async fn c5_a_seek_that_is_dropped_at_any_moment_moves_nothing() {
    for after in 0..60 {
        let server = Server::new(2);
        for number in 0..200 {
            server.append((number % 2) as usize, number + 1);
        }
        server.change(|state| {
            state.parts.iter_mut().for_each(|part| part.fetch_takes = 7 * MS);
            state.ask_takes = 5 * MS;
        });
        let log = server.open().await;
        let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
        let mut next = [0_u64; 2];
        let mut take = |batch: event_log_core::EventBatch<_>| {
            for record in &batch.records {
                let Position { partition: PartitionId(partition), offset: Offset(offset) } = record.position;
                assert_eq!(next[partition as usize], offset, "after {after} ms");
                next[partition as usize] = offset + 1;
            }
        };
        take(consumer.poll(30, SECOND).await.unwrap());
        let to = [SeekPosition::FromEnd(5), SeekPosition::End, SeekPosition::Timestamp(Timestamp(150))];
        let sought = tokio::time::timeout(MS * after, consumer.seek(to[after as usize % 3].clone())).await;
        if sought.is_ok() {
            continue;
        }
        for _ in 0..20 {
            take(consumer.poll(30, SECOND / 10).await.unwrap());
        }
        assert_eq!(next, [100, 100]);
    }
}

/// c5 and `Notice::Duplicate`: "A second copy of a record that this consumer has delivered already was dropped." A consumer
/// reads the log again from its beginning; meanwhile the log loses its tail in a crash. What is there still is wanted again.
#[tokio::test(start_paused = true)]
async fn c5_what_was_sought_again_is_delivered_again_although_the_log_loses_its_tail() {
    let server = Server::new(1);
    let log = server.open().await;
    for number in 0..1_000 {
        server.append(0, number);
    }
    let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
    assert_eq!(read_all(&mut *consumer).await.0.len(), 1_000);
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    let before = consumer.poll(10, SECOND).await.unwrap().len();
    // The last 10 are lost in a crash.
    server.change(|state| {
        let part = &mut state.parts[0];
        part.records.truncate(990);
        part.high = 990;
    });
    let (records, copies) = read_all(&mut *consumer).await;
    let again = before + records.len();
    assert_eq!(again, 990, "{} are said to be second copies", copies.len());
}

/// c7: a notice of what is missing says where reading goes on. It is none of where a later seek has moved the consumer.
#[tokio::test(start_paused = true)]
async fn c7_a_notice_of_what_is_missing_is_of_where_the_consumer_is() {
    let server = Server::new(2);
    for number in 0..20 {
        server.append(0, 2 * number + 1);
        server.append(1, 2 * number + 2);
    }
    let log = server.open().await;
    let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
    let to = |offset| SeekPosition::Position(Position::new(PartitionId(0), Offset(offset)));
    consumer.seek(to(2)).await.unwrap();
    // Retention removes what comes next, and the other partition takes its time: the poll is dropped before it returns.
    server.change(|state| {
        state.parts[0].records.drain(..10);
        state.parts[0].low = 10;
        state.parts[1].fetch_takes = 50 * MS;
    });
    assert!(tokio::time::timeout(20 * MS, consumer.poll(1, SECOND)).await.is_err());
    consumer.seek(to(15)).await.unwrap();
    for _ in 0..10 {
        let notices = consumer.poll(100, SECOND).await.unwrap().notices;
        assert!(notices.is_empty(), "nothing is missing where the consumer was sent: {notices:?}");
    }
}

/// `GroupMember`: "for each partition at most one that reads on, and one that looks for the last records of the partition".
#[tokio::test(start_paused = true)]
async fn a_member_is_asked_for_two_fetches_a_partition_at_most() {
    let server = Server::new(2);
    let log = server.open().await;
    for number in 0..5_000 {
        server.append((number % 2) as usize, number);
    }
    let mut consumer = log.consumer("g").await.unwrap();
    server.change(|state| state.parts.iter_mut().for_each(|part| part.fetch_takes = 20 * MS));
    assert!(!consumer.poll(10, SECOND).await.unwrap().is_empty());
    // The next fetch is on its way already.
    consumer.seek(SeekPosition::FromEnd(10)).await.unwrap();
    let most = server.change(|state| state.under_way.clone());
    let most: Vec<_> =
        most.into_iter().map(|((member, partition), (_, most))| (member, partition, most)).collect();
    assert!(most.iter().all(|&(.., most)| most <= 2), "member, partition, fetches at a time: {most:?}");
}

/// `SeekPosition::FromEnd`: "The last `n` records …; all of them when there are fewer … `n` is at most ..."
#[tokio::test(start_paused = true)]
async fn c5_from_the_end_is_all_where_there_are_fewer() {
    let server = Server::new(1);
    let log = server.open().await;
    for number in 0..10 {
        server.append(0, number);
    }
    let mut consumer = log.consumer("g").await.unwrap();
    let most = limits::FROM_END_RECORDS;
    consumer.seek(SeekPosition::FromEnd(most)).await.unwrap();
    let beyond = consumer.seek(SeekPosition::FromEnd(most + 1)).await;
    assert!(matches!(beyond, Err(Error::InvalidArgument { .. })), "{beyond:?}");
    assert_eq!(consumer.poll(100, SECOND).await.unwrap().len(), 10);
}
