//! New attempts to break the producing side: loops over what need not wait (l9: "Every loop that can go on without waiting
//! yields; a log works on a `current_thread` runtime").

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::producing::{Numbered, config, cut, open};
use event_log_core::{EventLog as _, EventLogExt as _, Partitionable};
use serde::{Deserialize, Serialize};

/// How many turns another task of the same thread gets while `work` goes on.
async fn turns_of_others(work: impl Future<Output = ()>) -> usize {
    let turns = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counting.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
        }
    });
    work.await;
    other.abort();
    turns.load(SeqCst)
}

#[derive(Debug, Serialize, Deserialize)]
struct Text(String);

impl Partitionable for Text {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

async fn short() -> event_log_memory::MemoryLog<Text> {
    let config = config(|config| config.max_event_bytes = 10);
    event_log_memory::builder().config(config).open().await.unwrap()
}

#[tokio::test]
async fn l9_a_loop_of_appends_that_are_refused_leaves_others_their_turn() {
    let log = short().await;
    let turns = turns_of_others(async {
        let mut event = Text("x".repeat(100));
        for _ in 0..2_000 {
            event = log.append(event).await.unwrap_err().into_event();
        }
    });
    assert!(turns.await > 1, "2,000 appends, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_acked_appends_that_are_refused_leaves_others_their_turn() {
    let log = short().await;
    let turns = turns_of_others(async {
        let mut event = Text("x".repeat(100));
        for _ in 0..2_000 {
            event = log.append_acked(event).await.unwrap_err().into_event();
        }
    });
    assert!(turns.await > 1, "2,000 appends, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_batches_that_are_refused_leaves_others_their_turn() {
    let log = short().await;
    let turns = turns_of_others(async {
        for _ in 0..2_000 {
            drop(log.append_batch(vec![Text("x".repeat(100))]).await.unwrap_err());
        }
    });
    assert!(turns.await > 1, "2,000 batches, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_append_alls_that_are_refused_leaves_others_their_turn() {
    let log = short().await;
    let turns = turns_of_others(async {
        for _ in 0..2_000 {
            drop(log.append_all(&mut [Text("x".repeat(100))].into_iter()).await.unwrap_err());
        }
    });
    assert!(turns.await > 1, "2,000 calls, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_appends_to_a_closed_log_leaves_others_their_turn() {
    let log = short().await;
    log.close(Duration::ZERO).await.unwrap();
    let turns = turns_of_others(async {
        for _ in 0..2_000 {
            drop(log.append(Text(String::new())).await.unwrap_err());
        }
    });
    assert!(turns.await > 1, "append");
    let turns = turns_of_others(async {
        for _ in 0..2_000 {
            drop(log.append_acked(Text(String::new())).await.unwrap_err());
        }
    });
    assert!(turns.await > 1, "append_acked");
}

#[tokio::test]
async fn l9_a_loop_of_flushes_leaves_others_their_turn() {
    let (log, _faults, _broker) = open(config(|_| ())).await;
    let turns = turns_of_others(async {
        for _ in 0..2_000 {
            log.flush().await.unwrap();
        }
    });
    assert!(turns.await > 1, "2,000 flushes, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_closes_leaves_others_their_turn() {
    let (log, _faults, _broker) = open(config(|_| ())).await;
    log.close(Duration::ZERO).await.unwrap();
    let turns = turns_of_others(async {
        for _ in 0..2_000 {
            log.close(Duration::ZERO).await.unwrap();
        }
    });
    assert!(turns.await > 1, "2,000 closes, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_that_waits_for_a_lag_to_go_leaves_others_their_turn() {
    let (log, _faults, _broker) = open(config(|_| ())).await;
    let turns = turns_of_others(async {
        for _ in 0..2_000 {
            drop(log.lag("g").await.unwrap());
        }
    });
    assert!(turns.await > 1, "2,000 questions, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_watermarks_leaves_others_their_turn() {
    let (log, _faults, _broker) = open(config(|_| ())).await;
    let turns = turns_of_others(async {
        for _ in 0..2_000 {
            drop(log.watermarks().await.unwrap());
        }
    });
    assert!(turns.await > 1, "2,000 questions, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_delete_group_leaves_others_their_turn() {
    let (log, _faults, _broker) = open(config(|_| ())).await;
    let turns = turns_of_others(async {
        for _ in 0..2_000 {
            log.delete_group("g").await.unwrap();
        }
    });
    assert!(turns.await > 1, "2,000 questions, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_that_opens_consumers_leaves_others_their_turn() {
    let (log, _faults, _broker) = open(config(|_| ())).await;
    let turns = turns_of_others(async {
        for _ in 0..500 {
            drop(log.consumer("g").await.unwrap());
        }
    });
    assert!(turns.await > 1, "500 consumers, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_waits_for_a_state_that_is_there_leaves_others_their_turn() {
    let (log, _faults, _broker) = open(config(|_| ())).await;
    let turns = turns_of_others(async {
        let mut state = log.state();
        for _ in 0..2_000 {
            state.wait_for(|state| state.is_connected()).await;
        }
    });
    assert!(turns.await > 1, "2,000 waits, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_tickets_and_receipts_leaves_others_their_turn() {
    let (log, faults, _broker) = open(config(|_| ())).await;
    let turns = turns_of_others(async {
        for number in 0..2_000 {
            log.submit(Numbered(number)).unwrap().await.unwrap();
        }
    });
    let tickets = turns.await;
    cut(&log, &faults).await;
    let turns = turns_of_others(async {
        for number in 0..2_000 {
            drop(log.submit(Numbered(number)).unwrap().receipt().await.unwrap());
        }
    });
    assert!(tickets > 1 && turns.await > 1, "tickets {tickets}");
}

/// What it means: a loop that waits for a reader on the same thread never ends.
#[test]
fn l9_waiting_for_a_group_to_catch_up_on_one_thread_ends() {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (log, _faults, _broker) = open(config(|_| ())).await;
            for number in 0..10 {
                log.append_acked(Numbered(number)).await.unwrap();
            }
            let mut consumer = log.consumer("g").await.unwrap();
            tokio::spawn(async move {
                let batch = consumer.poll(100, Duration::from_secs(1)).await.unwrap();
                consumer.commit(batch.cursor()).await.unwrap();
            });
            while log.lag("g").await.unwrap().total() > 0 {}
            sender.send(()).unwrap();
        });
    });
    receiver.recv_timeout(Duration::from_secs(10)).expect("it ends");
}
