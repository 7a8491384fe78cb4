//! Memberships that are lost while something is asked for on their behalf.

use std::collections::BTreeMap;
use std::sync::mpsc;

use event_log_core::{Error, EventConsumer as _, EventLogExt as _, PartitionId};
use tokio::time::Instant;

use crate::reading_ahead::{MS, SECOND, Server, read};

/// c16, c15: a question that takes long delays nothing else. A connection is lost while it is open: the membership that it was
/// asked for is held until it is answered, and with it the partitions that the group gave to it.
#[tokio::test(start_paused = true)]
async fn c15_a_slow_question_holds_no_membership_that_is_lost() {
    let server = Server::new(4);
    let log = server.open().await;
    let mut first = log.consumer("g").await.unwrap();
    let second = log.consumer("g").await.unwrap();
    assert!(first.poll(10, SECOND).await.unwrap().is_empty());
    // The second one leaves, its partitions come to the first, and where the group stands in them takes long to say.
    server.change(|state| state.places_take = 20 * SECOND);
    drop(second);
    let _ = first.poll(10, SECOND).await;
    server.append(0, 1);
    server.append(2, 2);
    server.append(1, 3);
    server.append(3, 4);
    // The connection is lost at a fetch.
    server.change(|state| state.parts[0].loses_every = 1);
    let start = Instant::now();
    let mut seen = BTreeMap::new();
    for nth in 0..300 {
        for record in first.poll(10, 100 * MS).await.iter().flat_map(|batch| &batch.records) {
            seen.entry(record.position.partition.0).or_insert(start.elapsed());
        }
        if nth == 0 {
            server.change(|state| state.parts[0].loses_every = 0);
        }
        if seen.len() == 4 {
            break;
        }
    }
    // Those that it had before are read on at once.
    for partition in [0, 2] {
        assert!(seen.get(&partition).is_some_and(|took| *took < 5 * SECOND), "{seen:?}");
    }
}

/// c11: what waiting does not mend is told at once.
#[tokio::test(start_paused = true)]
async fn c11_a_group_that_refuses_to_be_joined_again_ends_the_poll() {
    let server = Server::new(1);
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    server.change(|state| {
        state.join_refused = true;
        state.parts[0].loses_every = 1;
    });
    server.append(0, 1);
    let start = Instant::now();
    let refused = consumer.poll(10, 3_600 * SECOND).await;
    assert!(matches!(refused, Err(Error::Unauthorized(_))), "{refused:?}");
    assert!(start.elapsed() < SECOND, "after {:?}", start.elapsed());
}

/// `Assignment::epoch`: "with the epoch that it remembers a consumer continues where it was, also after joining again". Fetches
/// are under way when the connection is lost; the membership that they are of must be over when the next one begins, or the group
/// shares its partitions between the two.
#[tokio::test(start_paused = true)]
async fn c8_a_membership_that_is_lost_ends_before_the_next_one_begins() {
    for join_takes in [0, 5] {
        let server = Server::new(2);
        for number in 1..=200 {
            server.append((number % 2) as usize, number);
        }
        let log = server.open().await;
        let mut consumer = log.consumer("g").await.unwrap();
        let _ = read(&mut *consumer, 200).await;
        let _ = consumer.poll(10, 100 * MS).await.unwrap();
        server.change(|state| {
            state.join_takes = MS * join_takes;
            state.parts[1].fetch_takes = 200 * MS;
            state.parts[0].fetch_takes = 10 * MS;
            state.parts[0].loses_every = 1;
        });
        for number in 201..=220 {
            server.append((number % 2) as usize, number);
        }
        let (mut got, mut notices) = (BTreeMap::<_, u32>::new(), Vec::new());
        for _ in 0..20 {
            let polled = consumer.poll(100, 10 * MS).await;
            server.change(|state| state.parts[0].loses_every = 0);
            let Ok(batch) = polled else { continue };
            batch.records.iter().for_each(|record| *got.entry(record.position).or_default() += 1);
            notices.extend(batch.notices);
        }
        assert!(notices.is_empty(), "joining takes {join_takes} ms: {notices:?}");
        assert!(got.len() == 20 && got.values().all(|times| *times == 1), "{join_takes} ms: {got:?}");
    }
}

/// c15, c16: a fetch that blocks its thread ends when it likes, and so does the membership that it is of. The consumer does not
/// wait for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c16_a_fetch_that_cannot_be_ended_holds_up_no_join() {
    let server = Server::new(2);
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(10, 20 * MS).await.unwrap().is_empty());
    let (open, gate) = mpsc::channel::<()>();
    server.change(|state| state.parts[0].blocks = Some(gate));
    server.append(0, 1);
    let start = Instant::now();
    while server.change(|state| state.parts[0].blocks.is_some()) {
        assert!(start.elapsed() < 10 * SECOND, "the fetch has not begun");
        let _ = consumer.poll(10, 20 * MS).await;
    }
    // The connection is lost.
    server.evict_all();
    server.append(1, 2);
    let mut seen = Vec::new();
    while seen.len() < 2 && start.elapsed() < 10 * SECOND {
        let polled = consumer.poll(10, 100 * MS).await;
        seen.extend(polled.into_iter().flat_map(|batch| batch.records).map(|one| one.position.partition));
    }
    drop(open);
    seen.sort_unstable();
    assert_eq!(seen, [PartitionId(0), PartitionId(1)]);
}
