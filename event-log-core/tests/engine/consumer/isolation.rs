//! Partitions that lose the connection, and what that costs the others: fetches beside fetches, commits beside commits, and
//! beside connections that are lost by something else.

use std::sync::Arc;
use std::time::Duration;

use event_log_core::{Cursor, Error, EventConsumer, Notice, Offset, PartitionId};
use tokio::time::{Instant, sleep};

use crate::reading_ahead::{MS, SECOND, appending, opened, read};

/// Partition 0 takes its time, and partition 1 loses the connection with each fetch. Before that the connection is lost a few times
/// by others.
async fn beside_losses(takes: u64, loses_after: u64, accidents: u32) -> Duration {
    let (server, mut consumer) = opened(2, 5 * MS).await;
    server.change(|state| {
        state.parts[0].fetch_takes = MS * takes as u32;
        (state.parts[1].fetch_takes, state.parts[1].loses_every) = (MS * loses_after as u32, 1);
    });
    server.append(0, 1);
    let cutting = Arc::clone(&server);
    tokio::spawn(async move {
        for _ in 0..accidents {
            sleep(MS * 200).await;
            cutting.evict_all();
        }
    });
    appending(&server, 1, MS * 200 * accidents, 100 * MS);
    let start = Instant::now();
    while start.elapsed() < 600 * SECOND {
        if let Ok(batch) = consumer.poll(100, SECOND).await {
            if batch.records.iter().any(|record| record.position.partition == PartitionId(0)) {
                break;
            }
        }
    }
    start.elapsed()
}

/// c15: the slow one comes before the one that loses the connection, and has its turn first.
#[tokio::test(start_paused = true)]
async fn c15_one_that_takes_1500_ms_and_comes_before_one_that_loses_the_connection() {
    for loses_after in [0, 20, 300] {
        let took = beside_losses(1_500, loses_after, 0).await;
        assert!(took < 120 * SECOND, "a loss after {loses_after} ms: not delivered in {took:?}");
    }
}

/// c15: the same for 300 ms, where it was alone in flight when others have lost the connection.
#[tokio::test(start_paused = true)]
async fn c15_one_that_was_alone_in_flight_when_the_connection_was_lost_twice() {
    let took = beside_losses(300, 0, 2).await;
    assert!(took < 120 * SECOND, "300 ms, not delivered in {took:?}");
}

/// c15: 300 ms, beside one that takes 3 s and one that loses the connection after 90 ms. All three have events all the time.
#[tokio::test(start_paused = true)]
async fn c15_one_that_takes_300_ms_beside_one_that_takes_3_s_and_one_that_loses_the_connection() {
    let (server, mut consumer) = opened(3, 5 * MS).await;
    server.change(|state| {
        state.parts[0].fetch_takes = 300 * MS;
        state.parts[1].fetch_takes = 3_000 * MS;
        (state.parts[2].loses_every, state.parts[2].fetch_takes) = (1, 90 * MS);
    });
    (0..3).for_each(|nth| appending(&server, nth, MS, 100 * MS));
    let (start, mut last, mut worst) = (Instant::now(), [Instant::now(); 2], [Duration::ZERO; 2]);
    while start.elapsed() < 1_200 * SECOND {
        if let Ok(batch) = consumer.poll(100, SECOND).await {
            for record in &batch.records {
                let nth = record.position.partition.0 as usize;
                last[nth] = Instant::now();
            }
        }
        (0..2).for_each(|nth| worst[nth] = worst[nth].max(last[nth].elapsed()));
    }
    assert!(worst.iter().all(|&worst| worst < 120 * SECOND), "the healthy ones have waited for {worst:?}");
}

/// c15: where each membership is a new epoch all readers are new ones after each loss.
#[tokio::test(start_paused = true)]
async fn c15_what_has_lost_the_connection_is_remembered_in_another_epoch() {
    let (server, mut consumer) = opened(2, 5 * MS).await;
    server.change(|state| {
        state.forgets_instances = true;
        state.parts[0].fetch_takes = 600 * MS;
        state.parts[1].loses_every = 1;
    });
    server.append(0, 1);
    appending(&server, 1, MS, 100 * MS);
    let start = Instant::now();
    while start.elapsed() < 600 * SECOND {
        let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
        if batch.records.iter().any(|record| record.position.partition == PartitionId(0)) {
            assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
            return;
        }
    }
    panic!("never delivered: {:?}", server.change(|state| state.calls.clone()));
}

/// c15, c16: no connection lives as long as the fetch takes.
#[tokio::test(start_paused = true)]
async fn c16_a_fetch_that_takes_longer_than_any_connection_lives_is_delivered() {
    let (server, mut consumer) = opened(1, 5 * MS).await;
    server.change(|state| state.parts[0].fetch_takes = 3 * SECOND);
    server.append(0, 1);
    let cutting = Arc::clone(&server);
    tokio::spawn(async move {
        loop {
            sleep(SECOND).await;
            cutting.evict_all();
        }
    });
    let start = Instant::now();
    while !consumer.poll(100, 200 * MS).await.is_ok_and(|batch| !batch.is_empty()) {
        assert!(start.elapsed() < 600 * SECOND, "never delivered");
    }
    assert!(start.elapsed() < 20 * SECOND, "{:?}", start.elapsed());
}

/// c11: a partition that loses whatever connection it is fetched over says so, again and again, and the others are read over one
/// that lives.
#[tokio::test(start_paused = true)]
async fn c11_a_partition_that_loses_each_connection_is_reported_and_costs_the_others_none() {
    let (server, mut consumer) = opened(3, 5 * MS).await;
    server.change(|state| state.parts[1].loses_every = 1);
    (0..3).for_each(|nth| appending(&server, nth, MS, 50 * MS));
    let mut faults = 0;
    let start = Instant::now();
    while start.elapsed() < 60 * SECOND {
        if let Ok(batch) = consumer.poll(100, SECOND).await {
            let is_fault = |notice: &&Notice| {
                matches!(notice, Notice::Fault { partition: PartitionId(1), error: Error::Unavailable(_) })
            };
            faults += batch.notices.iter().filter(is_fault).count();
        }
    }
    assert!((50..80).contains(&faults), "{faults} times in a minute");
    let joins = server.change(|state| state.calls["join"]);
    assert!(joins <= 4, "{joins} memberships");
}

/// A caller that commits each record by itself. Storing the place of partition 0 loses the connection, that of partition 1 does not,
/// and a fetch of partition 2 takes 1.5 s.
#[tokio::test(start_paused = true)]
async fn c15_commits_of_one_partition_in_turn_with_those_that_lose_the_connection_starve_no_other() {
    let (server, mut consumer) = opened(3, 5 * MS).await;
    server.change(|state| {
        state.parts[0].commit_loses = true;
        state.parts[2].fetch_takes = 1_500 * MS;
    });
    appending(&server, 0, 100 * MS, 800 * MS);
    appending(&server, 1, 500 * MS, 800 * MS);
    server.append(2, 1);
    let start = Instant::now();
    let mut lost = 0;
    while start.elapsed() < 600 * SECOND {
        let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
        for record in &batch.records {
            if record.position.partition == PartitionId(2) {
                return;
            }
            let mut done = Cursor::new();
            done.set(record.position.partition, record.position.offset.next());
            lost += u32::from(consumer.commit(&done).await.is_err());
        }
    }
    panic!("never delivered, {lost} commits failed: {:?}", server.change(|state| state.calls.clone()));
}

/// c4, c15: a whole cursor is committed, and the place of one partition loses the connection.
async fn whole_cursors(losing: usize) -> (Vec<Option<Offset>>, Vec<u64>) {
    let (server, mut consumer) = opened(3, 5 * MS).await;
    server.change(|state| state.parts[losing].commit_loses = true);
    (0..3).for_each(|nth| appending(&server, nth, 100 * MS, 500 * MS));
    let start = Instant::now();
    while start.elapsed() < 600 * SECOND {
        let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
        if !batch.is_empty() {
            drop(consumer.commit(batch.cursor()).await);
        }
    }
    server.change(|state| {
        (
            state.parts.iter().map(|part| part.place).collect(),
            state.parts.iter().map(|part| part.high).collect(),
        )
    })
}

#[tokio::test(start_paused = true)]
async fn c15_a_place_that_loses_the_connection_keeps_no_other_from_being_stored() {
    for losing in 0..3 {
        let (places, highs) = whole_cursors(losing).await;
        for nth in (0..3).filter(|&nth| nth != losing) {
            assert!(
                places[nth].unwrap_or_default().0 + 300 > highs[nth],
                "{losing} loses the connection, and after ten minutes the places are {places:?} of {highs:?}"
            );
        }
    }
}

/// c15: partition 0 loses the connection with each commit, and partition 1 is committed by itself.
#[tokio::test(start_paused = true)]
async fn c15_a_commit_is_not_refused_for_what_another_partition_has_lost() {
    let (server, mut consumer) = opened(2, 5 * MS).await;
    server.change(|state| state.parts[0].commit_loses = true);
    (0..2).for_each(|nth| appending(&server, nth, 100 * MS, 1_000 * MS));
    let start = Instant::now();
    let (mut refused, mut worst, mut last) = (0, Duration::ZERO, Instant::now());
    while start.elapsed() < 600 * SECOND {
        let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
        for record in &batch.records {
            let mut done = Cursor::new();
            done.set(record.position.partition, record.position.offset.next());
            let committed = consumer.commit(&done).await;
            if record.position.partition == PartitionId(1) {
                refused += u32::from(committed.is_err());
                if committed.is_ok() {
                    worst = worst.max(last.elapsed());
                    last = Instant::now();
                }
            }
        }
    }
    assert!(worst < 10 * SECOND, "{refused} commits of a healthy partition failed, for {worst:?} on end");
}

/// c15, c16: partition 0 goes on as it did, and another member comes and goes beside it; to look for news takes a little longer than
/// that.
#[tokio::test(start_paused = true)]
async fn c16_news_are_heard_of_beside_a_member_that_comes_and_goes() {
    const RIVAL: (u64, u128) = (u64::MAX, 7);
    let (server, mut consumer) = opened(2, 5 * MS).await;
    server.change(|state| state.wait_takes = 1_200 * MS);
    let moving = Arc::clone(&server);
    tokio::spawn(async move {
        loop {
            moving.change(|state| {
                if state.members.contains(&RIVAL) {
                    state.members.retain(|&one| one != RIVAL);
                } else {
                    state.members.push(RIVAL);
                }
                state.rebalance();
            });
            sleep(SECOND).await;
        }
    });
    sleep(100 * MS).await;
    server.append(0, 1);
    let (start, epoch) = (Instant::now(), server.change(|state| state.parts[0].epoch));
    while start.elapsed() < 600 * SECOND {
        if consumer.poll(100, 100 * MS).await.is_ok_and(|batch| !batch.is_empty()) {
            let took = start.elapsed();
            assert!(took < 60 * SECOND, "{took:?}");
            return;
        }
    }
    let now = server.change(|state| state.parts[0].epoch);
    panic!(
        "never delivered in ten minutes, epochs {epoch} and {now}, {:?}",
        server.change(|state| state.calls.clone())
    );
}

/// c1, c13: a log that does not say where it ends is deleted and created again, shorter. That is told once, what is read then can
/// be committed, and its end is no work for a processor.
#[tokio::test(start_paused = true)]
async fn c13_a_log_that_began_again_and_does_not_say_where_it_ends() {
    let (server, mut consumer) = opened(1, 5 * MS).await;
    server.change(|state| state.tells_high = false);
    for number in 0..100 {
        server.append(0, number);
    }
    read(&mut *consumer, 100).await;
    assert_eq!(consumer.end().await.unwrap().get(PartitionId(0)), Some(Offset(100)));
    server.change(|state| {
        let part = &mut state.parts[0];
        part.records.clear();
        part.since.clear();
        (part.high, part.incarnation, part.place) = (0, 1, Some(Offset(0)));
    });
    for number in 100..110 {
        server.append(0, number);
    }
    let (mut told, mut cursor, mut got) = (0, Cursor::new(), 0);
    for _ in 0..5 {
        let batch = consumer.poll(100, SECOND).await.unwrap();
        told += batch.notices.len();
        if !batch.is_empty() {
            got += batch.len();
            cursor = batch.cursor().clone();
        }
    }
    assert_eq!((told, got), (1, server.change(|state| state.parts[0].records.len())));
    server.change(|state| state.calls.clear());
    assert!(consumer.poll(100, 60 * SECOND).await.unwrap().is_empty());
    let calls = server.change(|state| state.calls.clone());
    let end = consumer.end().await.unwrap();
    let committed = consumer.commit(&cursor).await;
    let batch = consumer.poll(100, SECOND).await.unwrap();
    assert!(batch.notices.is_empty(), "the end is {end}: {:?}, {committed:?}, {calls:?}", batch.notices);
    committed.unwrap();
    assert!(calls.values().sum::<u64>() < 40, "in a minute without an event: {calls:?}");
}
