//! Attack: odds and ends of a consumer whose log reads ahead.

#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod attack_reading_ahead;

use attack_reading_ahead::{MS, SECOND, Server};
use event_log_core::{
    ConsumerOptions, EventConsumer as _, EventLog as _, Offset, PartitionId, Position, SeekPosition,
    Timestamp,
};

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
