//! c15: "What happens to one partition (a fault, ...) neither hides nor delays the others": the server closes the connection
//! whenever one partition is fetched.
#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod attack4_ahead;

use attack4_ahead::{MS, SECOND, Server};
use event_log_core::EventLogExt as _;
use tokio::time::Instant;

async fn check(loses: usize, loses_after: u64, takes: u64) {
    let server = Server::new(2);
    for number in 1..=10 {
        server.append(0, number);
        server.append(1, 100 + number);
    }
    server.change(|state| {
        (state.join_takes, state.ask_takes) = (5 * MS, MS);
        for (nth, part) in state.parts.iter_mut().enumerate() {
            part.fetch_loses = nth == loses;
            part.fetch_takes = MS * if nth == loses { loses_after as u32 } else { takes as u32 };
        }
    });
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let start = Instant::now();
    let mut got = 0;
    let mut errors = 0;
    let mut polls = 0;
    while got < 10 && start.elapsed() < 120 * SECOND && polls < 20_000 {
        polls += 1;
        match consumer.poll(100, SECOND).await {
            Ok(batch) => {
                if polls < 6 {
                    println!("{:?} {} {:?}", start.elapsed(), batch.len(), batch.notices);
                }
                got += batch.len();
            }
            Err(error) => {
                if polls < 6 {
                    println!("{:?} {error:?}", start.elapsed());
                }
                errors += 1;
            }
        }
    }
    let joins = server.change(|state| state.calls.get("join").copied());
    assert!(
        got == 10,
        "{got} records of the healthy partition in two minutes, {polls} polls, {errors} errors, {joins:?} joins, {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn c15_the_first_partition_loses_the_connection_at_once() {
    check(0, 0, 5).await;
}

#[tokio::test(start_paused = true)]
async fn c15_the_second_partition_loses_the_connection_at_once() {
    check(1, 0, 5).await;
}

#[tokio::test(start_paused = true)]
async fn c15_the_second_partition_loses_the_connection_later_than_the_other_answers() {
    check(1, 20, 5).await;
}

#[tokio::test(start_paused = true)]
async fn c15_the_second_partition_loses_the_connection_sooner_than_the_other_answers() {
    check(1, 5, 20).await;
}
