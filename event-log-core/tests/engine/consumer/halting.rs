//! A consumer that halts at a record that it cannot decode: when it says so, and what the others deliver first.

use std::time::Duration;

use event_log_core::{
    ConsumerOptions, Error, EventConsumer as _, EventConsumerExt as _, EventLog as _, PoisonPolicy,
};
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::picky::picky;
use crate::reading_ahead::{MS, SECOND, Server};

/// "`Error::Poisoned` with `PoisonPolicy::Halt`, once the other partitions have nothing to deliver."
#[tokio::test(start_paused = true)]
async fn c6_halt_delivers_a_slow_partition_first() {
    let server = Server::new(2);
    let log = picky(&server).await;
    server.append_as(0, 1, "bad");
    for number in 2..1_002 {
        server.append(1, number);
    }
    server.change(|state| state.parts[1].fetch_takes = 150 * MS);
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let mut seen = 0;
    loop {
        match consumer.poll(100, 10 * SECOND).await {
            Ok(batch) => seen += batch.len(),
            Err(Error::Poisoned { .. }) => break,
            Err(error) => panic!("{error:?}"),
        }
        if seen == 1_000 {
            return;
        }
    }
    panic!("halted after {seen} of the 1000 records of the other partition");
}

/// The same as a stream sees it, which ends with the error.
#[tokio::test(start_paused = true)]
async fn c6_halt_delivers_first_what_is_there_when_the_connection_was_lost() {
    let server = Server::new(2);
    let log = picky(&server).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    server.append_as(0, 1, "bad");
    assert!(matches!(consumer.poll(10, SECOND).await, Err(Error::Poisoned { .. })));
    for number in 2..102 {
        server.append(1, number);
    }
    // For 10 ms only.
    server.evict_all();
    server.change(|state| state.join_takes = 10 * MS);
    let mut seen = 0;
    let mut stream = consumer.stream(1_000);
    while let Some(item) = stream.next().await {
        match item {
            Ok(batch) => seen += batch.len(),
            Err(error) => {
                assert!(
                    error.is_retryable(),
                    "halted after {seen} of the 100 records of the other partition"
                );
            }
        }
        if seen == 100 {
            return;
        }
    }
    panic!("the stream ended after {seen} of the 100 records of the other partition");
}

/// c1: "waiting keeps no processor busy".
#[tokio::test(start_paused = true)]
async fn c1_catching_up_while_the_log_is_away_and_a_partition_is_halted_keeps_no_processor_busy() {
    let server = Server::new(2);
    let log = picky(&server).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    server.append_as(0, 1, "bad");
    assert!(matches!(consumer.poll(10, SECOND).await, Err(Error::Poisoned { .. })));
    server.change(|state| state.up = false);
    server.evict_all();
    let start = Instant::now();
    let mut errors = 0;
    let mut stream = consumer.until_caught_up(100);
    while let Some(item) = stream.next().await {
        if start.elapsed() > 10 * SECOND {
            break;
        }
        match item {
            Ok(_) => {}
            Err(error) if error.is_retryable() => {
                errors += 1;
                assert!(errors < 10_000, "{errors} errors ({error:?}) in {:?}", start.elapsed());
            }
            Err(_) => break,
        }
    }
}

/// A partition that is halted alone keeps the caller no longer than the log takes to say that the others have nothing.
#[tokio::test(start_paused = true)]
async fn c6_halt_is_told_at_once_where_the_others_have_nothing() {
    for partitions in [1, 2] {
        let server = Server::new(partitions);
        let log = picky(&server).await;
        let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
        let mut consumer = log.consumer_with("g", options).await.unwrap();
        server.append_as(0, 1, "bad");
        for timeout in [60 * SECOND, SECOND, Duration::ZERO] {
            let start = Instant::now();
            let polled = consumer.poll(10, timeout).await;
            assert!(matches!(polled, Err(Error::Poisoned { .. })), "{polled:?}");
            assert!(start.elapsed() < SECOND, "told after {:?}, of {partitions} partitions", start.elapsed());
        }
    }
}

/// While the log is away it is not known what the others have, and the next poll may find out.
#[tokio::test(start_paused = true)]
async fn c6_halt_hides_no_lost_connection() {
    let server = Server::new(2);
    let log = picky(&server).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    server.append_as(0, 1, "bad");
    assert!(matches!(consumer.poll(10, SECOND).await, Err(Error::Poisoned { .. })));
    server.change(|state| state.up = false);
    server.evict_all();
    let polled = consumer.poll(10, SECOND).await;
    assert!(matches!(polled, Err(Error::Unavailable(_))), "{polled:?}");
}
