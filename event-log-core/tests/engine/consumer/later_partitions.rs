//! Partitions that came to the log after its group had started, or after a handle was opened.

use std::sync::Arc;

use event_log_core::{
    ConsumerOptions, EventConsumer as _, EventLog as _, EventLogExt as _, Offset, SeekPosition,
};

use crate::reading_ahead::{MS, SECOND, Server, State};

const RIVAL: (u64, u128) = (u64::MAX, 7);

/// `ConsumerOptions::start`: "for partitions that come later it has no meaning any more".
#[tokio::test(start_paused = true)]
async fn c12_the_start_means_nothing_for_a_partition_that_came_later() {
    let server = Server::new(1);
    server.append(0, 1);
    let mut options = ConsumerOptions::default();
    options.start = SeekPosition::End;
    let log = server.open().await;
    let mut consumer = log.consumer_with("g", options.clone()).await.unwrap();
    assert!(consumer.poll(10, 100 * MS).await.unwrap().is_empty());
    drop(consumer);
    server.change(State::grow);
    for number in 2..7 {
        server.append(1, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let batch = consumer.poll(10, SECOND).await.unwrap();
    assert_eq!(
        batch.len(),
        5,
        "the place in the new partition is {:?}",
        server.change(|state| state.parts[1].place)
    );
}

/// c3, c4, c8: what is committed does not come back, also of a partition that came after the handle of the member was opened.
#[tokio::test(start_paused = true)]
async fn c4_what_is_committed_of_a_partition_that_came_later_does_not_come_back() {
    let server = Server::new(1);
    server.change(|state| state.partitions_said = Some(1));
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(10, 100 * MS).await.unwrap().is_empty());
    server.change(|state| {
        state.grow();
        state.rebalance();
    });
    for number in 1..=5 {
        server.append(1, number);
    }
    let batch = loop {
        let batch = consumer.poll(10, SECOND).await.unwrap();
        if !batch.is_empty() {
            break batch;
        }
    };
    consumer.commit(batch.cursor()).await.unwrap();
    assert_eq!(server.change(|state| state.parts[1].place), Some(Offset(5)));
    // Another member has the partition for a while, and does nothing with it.
    let moves = |server: &Arc<Server>| {
        server.change(|state| {
            if state.members.contains(&RIVAL) {
                state.members.retain(|&one| one != RIVAL);
            } else {
                state.members.push(RIVAL);
            }
            state.rebalance();
        });
    };
    moves(&server);
    drop(consumer.poll(10, 100 * MS).await.unwrap());
    moves(&server);
    let mut again = 0;
    for _ in 0..5 {
        again += consumer.poll(10, SECOND).await.unwrap().len();
    }
    assert_eq!(again, 0, "committed records have come back");
}
