//! Partitions that lose the connection now and then, or whatever connection they have, and what that costs the others.

use std::sync::Arc;
use std::time::Duration;

use event_log_core::{EventConsumer, PartitionId};
use tokio::time::{Instant, sleep, timeout};

use crate::reading_ahead::{MS, SECOND, appending, opened};

/// c15, c16: where each membership is a new epoch, a partition that loses the connection with every n-th fetch, beside one whose
/// fetch takes 1.5 s.
async fn rare_losses(every: u64, forgets: bool) -> Option<Duration> {
    let (server, mut consumer) = opened(2, 5 * MS).await;
    server.change(|state| {
        state.forgets_instances = forgets;
        state.parts[0].fetch_takes = 1_500 * MS;
        state.parts[1].loses_every = every;
    });
    server.append(0, 1);
    appending(&server, 1, MS, 100 * MS);
    let start = Instant::now();
    while start.elapsed() < 600 * SECOND {
        let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
        if batch.records.iter().any(|record| record.position.partition == PartitionId(0)) {
            return Some(start.elapsed());
        }
        if !batch.is_empty() {
            let _ = consumer.commit(batch.cursor()).await;
        }
    }
    eprintln!("{:?}", server.change(|state| state.calls.clone()));
    None
}

#[tokio::test(start_paused = true)]
async fn c15_one_that_loses_every_nth_fetch_starves_a_slow_one_where_each_membership_is_an_epoch() {
    let mut all = Vec::new();
    for forgets in [false, true] {
        for every in [1, 2, 3, 5, 6, 8, 10] {
            all.push((forgets, every, rare_losses(every, forgets).await));
        }
    }
    assert!(all.iter().all(|one| one.2.is_some_and(|took| took < 60 * SECOND)), "{all:#?}");
}

/// c15, c16: a partition whose every second commit loses the connection.
#[tokio::test(start_paused = true)]
async fn c15_one_whose_second_commits_lose_the_connection_starves_a_slow_one() {
    let mut all = Vec::new();
    for forgets in [false, true] {
        for every in [1, 2, 3] {
            let (server, mut consumer) = opened(2, 5 * MS).await;
            server.change(|state| {
                state.forgets_instances = forgets;
                state.parts[0].fetch_takes = 1_500 * MS;
                state.parts[1].commit_loses_every = every;
            });
            server.append(0, 1);
            appending(&server, 1, MS, 300 * MS);
            let start = Instant::now();
            let mut took = None;
            while start.elapsed() < 600 * SECOND && took.is_none() {
                let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
                if batch.records.iter().any(|record| record.position.partition == PartitionId(0)) {
                    took = Some(start.elapsed());
                }
                if !batch.is_empty() {
                    let _ = consumer.commit(batch.cursor()).await;
                }
            }
            all.push((forgets, every, took));
        }
    }
    assert!(all.iter().all(|one| one.2.is_some_and(|took| took < 60 * SECOND)), "{all:#?}");
}

/// c15: a partition that was lost twice with the connection. Its member's connection is good from then on, and connections of no
/// member are not to be had (or die).
#[tokio::test(start_paused = true)]
async fn c15_a_healthy_partition_is_read_where_no_connection_of_its_own_is_to_be_had() {
    let (server, mut consumer) = opened(2, 5 * MS).await;
    server.change(|state| {
        state.connect_fails = true;
        state.parts[0].fetch_takes = 600 * MS;
        state.parts[1].loses_every = 1;
    });
    appending(&server, 0, MS, 500 * MS);
    appending(&server, 1, MS, 100 * MS);
    let start = Instant::now();
    while start.elapsed() < 600 * SECOND {
        let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
        if batch.records.iter().any(|record| record.position.partition == PartitionId(0)) {
            return;
        }
    }
    panic!("never delivered: {:?}", server.change(|state| state.calls.clone()));
}

/// The same where it is the server that has lost two connections, within a minute, and all is well since.
#[tokio::test(start_paused = true)]
async fn c15_two_accidents_and_no_connection_of_its_own() {
    let (server, mut consumer) = opened(1, 5 * MS).await;
    server.change(|state| {
        state.connect_fails = true;
        state.parts[0].fetch_takes = 100 * MS;
    });
    server.append(0, 1);
    let cutting = Arc::clone(&server);
    tokio::spawn(async move {
        for _ in 0..2 {
            sleep(60 * MS).await;
            cutting.evict_all();
            sleep(60 * MS).await;
        }
    });
    let start = Instant::now();
    while start.elapsed() < 600 * SECOND {
        let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
        if !batch.is_empty() {
            return;
        }
    }
    panic!("never delivered: {:?}", server.change(|state| state.calls.clone()));
}

/// c15: eight partitions whose fetches hang until a deadline of 30 s, and then lose their connection, beside a healthy one.
#[tokio::test(start_paused = true)]
async fn c15_eight_that_hang_delay_no_other() {
    let mut all = Vec::new();
    for bad in [4, 7, 8, 12] {
        let (server, mut consumer) = opened(bad + 1, 5 * MS).await;
        server.change(|state| {
            for part in &mut state.parts[1..] {
                (part.fetch_takes, part.loses_every) = (30 * SECOND, 1);
            }
            // In flight with them.
            state.parts[0].fetch_takes = 31 * SECOND;
        });
        (0..=bad).for_each(|nth| _ = server.append(nth, 1));
        let healing = Arc::clone(&server);
        tokio::spawn(async move {
            sleep(70 * SECOND).await;
            healing.change(|state| state.parts[0].fetch_takes = 5 * MS);
        });
        let start = Instant::now();
        while start.elapsed() < 100 * SECOND {
            let _ = consumer.poll(100, SECOND).await;
        }
        // From now on the healthy one has an event each twenty seconds.
        let mut worst = Duration::ZERO;
        for number in 0..20 {
            let appended = Instant::now();
            server.append(0, 100 + number);
            let mut is_there = false;
            while appended.elapsed() < 20 * SECOND {
                if let Ok(batch) = consumer.poll(100, SECOND).await {
                    is_there |= batch.records.iter().any(|one| one.position.partition == PartitionId(0));
                }
                if !is_there {
                    worst = worst.max(appended.elapsed());
                }
            }
        }
        all.push((bad, worst));
    }
    assert!(all.iter().all(|one| one.1 < 5 * SECOND), "{all:?}");
}

/// c15: storing the place of one partition hangs for 30 s, and the caller gives each commit two seconds.
#[tokio::test(start_paused = true)]
async fn c15_a_commit_that_hangs_and_is_dropped_keeps_no_other_from_being_stored() {
    let mut all = Vec::new();
    for losing in 0..2 {
        let (server, mut consumer) = opened(2, 5 * MS).await;
        server.change(|state| {
            (state.parts[losing].commit_takes, state.parts[losing].commit_loses) = (30 * SECOND, true);
        });
        (0..2).for_each(|nth| appending(&server, nth, 100 * MS, 500 * MS));
        let start = Instant::now();
        while start.elapsed() < 600 * SECOND {
            let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
            if !batch.is_empty() {
                let _ = timeout(2 * SECOND, consumer.commit(batch.cursor())).await;
            }
        }
        all.push(
            server.change(|state| state.parts.iter().map(|part| (part.place, part.high)).collect::<Vec<_>>()),
        );
    }
    assert!(
        (0..2)
            .all(|losing| all[losing][1 - losing].0.unwrap_or_default().0 + 300 > all[losing][1 - losing].1),
        "{all:?}"
    );
}

/// c15: epochs are remembered here. Partition 1 loses the connection with each n-th fetch, joining takes 2 s, and partition 0 is
/// healthy and fast.
#[tokio::test(start_paused = true)]
async fn c15_one_that_loses_every_nth_fetch_is_isolated_sooner_or_later() {
    let mut all = Vec::new();
    for every in [5, 10] {
        let (server, mut consumer) = opened(2, 2 * SECOND).await;
        server.change(|state| state.parts[1].loses_every = every);
        (0..2).for_each(|nth| appending(&server, nth, MS, 100 * MS));
        let start = Instant::now();
        let (mut joins, mut late) = (0, 0);
        while start.elapsed() < 240 * SECOND {
            let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
            if start.elapsed() < 120 * SECOND {
                joins = server.change(|state| state.calls["join"]);
                continue;
            }
            let records = batch.records.iter().filter(|one| one.position.partition == PartitionId(0));
            let now = Instant::now();
            late += server.change(|state| {
                records
                    .filter(|one| now - state.parts[0].since[one.position.offset.0 as usize] > SECOND)
                    .count()
            });
        }
        all.push((every, server.change(|state| state.calls["join"]) - joins, late));
    }
    // In the second two minutes: how often it has joined, and how many events of the healthy one came a second late.
    assert!(all.iter().all(|one| one.1 < 4), "{all:?}");
}
