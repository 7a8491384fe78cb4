//! Attack: a log that reads ahead. A partition that was read to its end, and another one that always has more.

use std::sync::Arc;
use std::time::Duration;

use crate::scripted::{Server, event};
use event_log_core::{
    ConsumerOptions, Error, EventConsumer as _, EventLog as _, EventLogExt as _, PartitionId, PoisonPolicy,
};

const SECOND: Duration = Duration::from_secs(1);

/// c2: no partition with a backlog starves; c15: what happens to one partition delays no other.
#[tokio::test(start_paused = true)]
async fn c2_a_partition_that_was_at_its_end_is_not_starved_by_the_backlog_of_another() {
    let server = Arc::new(Server::default());
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(10, SECOND).await.unwrap().is_empty());
    for number in 0..20_000 {
        log.append_acked(event(0, number)).await.unwrap();
    }
    // The backlog is met first.
    let mut polls = 0;
    let mut before = 0;
    for _ in 0..10 {
        before += consumer.poll(100, SECOND).await.unwrap().len();
    }
    assert!(before > 0);
    log.append_acked(event(1, 7)).await.unwrap();
    loop {
        let batch = consumer.poll(100, SECOND).await.unwrap();
        polls += 1;
        if batch.records.iter().any(|record| record.position.partition == PartitionId(1)) {
            break;
        }
        before += batch.len();
        // A second between any two polls, in which everything can be asked that there is to ask.
        tokio::time::sleep(SECOND).await;
        assert!(polls < 50, "{polls} polls and {before} records of partition 0, and none of partition 1");
    }
}

/// The same with a backlog that never ends: the partition starves for ever.
#[tokio::test(start_paused = true)]
async fn c2_a_partition_is_not_starved_for_ever_by_one_that_is_always_behind() {
    let server = Arc::new(Server::default());
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(10, SECOND).await.unwrap().is_empty());
    let mut number = 0;
    let mut more = async |count| {
        for _ in 0..count {
            number += 1;
            log.append_acked(event(0, number)).await.unwrap();
        }
    };
    more(9_000).await;
    let mut of_0 = 0;
    for round in 0..200 {
        // As many as a poll takes.
        more(100).await;
        if round == 3 {
            log.append_acked(event(1, 7)).await.unwrap();
        }
        let batch = consumer.poll(100, SECOND).await.unwrap();
        if batch.records.iter().any(|record| record.position.partition == PartitionId(1)) {
            return;
        }
        of_0 += batch.len();
        tokio::time::sleep(SECOND / 10).await;
    }
    panic!("{of_0} records of partition 0 in 20 seconds, and none of partition 1");
}

/// "Fail with `Error::Poisoned` until the application seeks past it. Other partitions are delivered first."
#[tokio::test(start_paused = true)]
async fn c6_a_halted_partition_hides_nothing_that_comes_to_another_afterwards() {
    let server = Arc::new(Server::default());
    let log = server.open().await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert!(consumer.poll(10, SECOND).await.unwrap().is_empty());
    server.poison(0);
    assert!(matches!(consumer.poll(10, SECOND).await, Err(Error::Poisoned { .. })));
    log.append_acked(event(1, 7)).await.unwrap();
    for _ in 0..50 {
        match consumer.poll(10, SECOND).await {
            Ok(batch) if batch.records.iter().any(|record| record.position.partition == PartitionId(1)) => {
                return;
            }
            Ok(_) | Err(Error::Poisoned { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(SECOND).await;
    }
    panic!("the record of partition 1 is not delivered for 50 polls and as many seconds");
}
