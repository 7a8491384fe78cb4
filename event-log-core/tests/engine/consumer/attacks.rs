//! What the ninth reader has found: a question that is asked again and again, ends that are not, and partitions that lose the
//! connection now and then.

use std::sync::Arc;
use std::time::Duration;

use event_log_core::{
    ConsumerOptions, Cursor, EventConsumer, EventConsumerExt as _, EventLog as _, EventLogExt as _, Notice,
    Offset, PartitionId, Position, RawEvent, SeekPosition,
};
use futures::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::reading_ahead::{MS, SECOND, Server, read};

async fn opened(partitions: usize, join: Duration) -> (Arc<Server>, Box<dyn EventConsumer<RawEvent>>) {
    let server = Server::new(partitions);
    server.change(|state| {
        state.join_takes = join;
        (state.ask_takes, state.wait_takes, state.commit_takes) = (MS, MS, MS);
        state.parts.iter_mut().for_each(|part| part.fetch_takes = 5 * MS);
    });
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(100, SECOND).await.unwrap().is_empty());
    std::mem::forget(log);
    (server, consumer)
}

fn appending(server: &Arc<Server>, partition: usize, first: Duration, every: Duration) {
    let server = Arc::clone(server);
    tokio::spawn(async move {
        sleep(first).await;
        for number in 1_000_000.. {
            server.append(partition, number);
            sleep(every).await;
        }
    });
}

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

/// c10: the connection is lost while a consumer catches up, and each membership is a new epoch. It is alone in its group.
#[tokio::test(start_paused = true)]
async fn c10_catching_up_ends_early_when_the_connection_is_lost() {
    for forgets in [false, true] {
        for places in [Duration::ZERO, 20 * MS] {
            let server = Server::new(2);
            server.change(|state| {
                state.forgets_instances = forgets;
                (state.ask_takes, state.wait_takes, state.join_takes) = (MS, MS, 5 * MS);
                state.places_take = places;
                state.parts.iter_mut().for_each(|part| part.fetch_takes = 5 * MS);
            });
            for number in 0..2_000 {
                server.append((number % 2) as usize, number);
            }
            let log = server.open().await;
            let mut consumer = log.consumer("g").await.unwrap();
            let mut got = std::collections::BTreeSet::new();
            let mut said = Vec::new();
            let mut stream = consumer.until_caught_up(100);
            let mut nth = 0;
            while let Some(batch) = stream.next().await {
                match batch {
                    Ok(batch) => {
                        got.extend(batch.records.iter().map(|record| record.position));
                        said.extend(batch.notices.iter().map(|notice| format!("{notice:?}")));
                    }
                    Err(error) => said.push(format!("{error:?}")),
                }
                nth += 1;
                if nth == 3 {
                    server.evict_all();
                }
            }
            drop(stream);
            let position = consumer.position().clone();
            assert_eq!(got.len(), 2_000, "forgets {forgets} {places:?}: {said:?}, it stands at {position}");
        }
    }
}

/// c10: another member comes and goes while this one catches up; then it is alone again.
#[tokio::test(start_paused = true)]
async fn c10_catching_up_ends_early_when_a_rival_comes_and_goes() {
    const RIVAL: (u64, u128) = (u64::MAX, 7);
    let server = Server::new(1);
    server.change(|state| {
        (state.ask_takes, state.wait_takes, state.join_takes) = (MS, MS, 5 * MS);
        state.parts.iter_mut().for_each(|part| part.fetch_takes = 5 * MS);
    });
    for number in 0..2_000 {
        server.append(0, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut got = std::collections::BTreeSet::new();
    let mut said = Vec::new();
    let mut stream = consumer.until_caught_up(100);
    let mut nth = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap();
        got.extend(batch.records.iter().map(|record| record.position));
        said.extend(batch.notices.iter().map(|notice| format!("{notice:?}")));
        nth += 1;
        if nth == 3 {
            // Between two polls it came and has gone.
            server.change(|state| {
                state.members.insert(0, RIVAL);
                state.rebalance();
                state.members.retain(|one| *one != RIVAL);
                state.rebalance();
            });
        }
    }
    assert_eq!(got.len(), 2_000, "{said:?}");
}

/// c14: a cursor behind the end. The first answer does not show where the partition ends, and a later one does.
#[tokio::test(start_paused = true)]
async fn c14_a_place_behind_the_end_is_told_although_the_first_answer_does_not_say_where_that_is() {
    for tells_incarnation in [false, true] {
        let server = Server::new(1);
        server.change(|state| {
            state.tells_incarnation = tells_incarnation;
            state.tells_high = false;
            state.tells_scanned = false;
            state.parts[0].place = Some(Offset(10));
        });
        for number in 0..5 {
            server.append(0, number);
        }
        let log = server.open().await;
        let mut consumer = log.consumer("g").await.unwrap();
        let (mut told, mut got) = (0, Vec::new());
        for turn in 0..10 {
            if turn == 2 {
                server.change(|state| state.tells_high = true);
            }
            if turn == 4 {
                (5..15).for_each(|number| _ = server.append(0, number));
            }
            let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
            told += batch.notices.iter().filter(|one| matches!(one, Notice::Truncated { .. })).count();
            got.extend(batch.records.iter().map(|record| record.position.offset.0));
        }
        assert!(told == 1 && got.contains(&5), "incarnation {tells_incarnation}: told {told}, {got:?}");
    }
}

/// c7, c14: after a seek to the end the log loses its tail. The answer behind the seek does not show where it ends, those after do.
#[tokio::test(start_paused = true)]
async fn c14_a_tail_that_is_lost_behind_a_seek_is_told() {
    for tells_incarnation in [false, true] {
        let server = Server::new(1);
        server.change(|state| {
            state.tells_incarnation = tells_incarnation;
            state.tells_scanned = false;
        });
        for number in 0..100 {
            server.append(0, number);
        }
        let log = server.open().await;
        let mut consumer = log.consumer("g").await.unwrap();
        read(&mut *consumer, 100).await;
        consumer.seek(SeekPosition::End).await.unwrap();
        server.change(|state| state.tells_high = false);
        assert!(consumer.poll(100, SECOND).await.unwrap().is_empty());
        server.change(|state| {
            state.tells_high = true;
            let part = &mut state.parts[0];
            part.records.truncate(90);
            part.since.truncate(90);
            part.high = 90;
        });
        let (mut told, mut got) = (0, Vec::new());
        for turn in 0..10 {
            if turn == 4 {
                (200..230).for_each(|number| _ = server.append(0, number));
            }
            let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
            told += batch.notices.iter().filter(|one| matches!(one, Notice::Truncated { .. })).count();
            got.extend(batch.records.iter().map(|record| record.position.offset.0));
        }
        assert!(told == 1 && got.contains(&90), "incarnation {tells_incarnation}: told {told}, {got:?}");
    }
}

/// c1: a record is there before a poll without a timeout begins; a fetch from before is still on its way with an empty answer.
#[tokio::test(start_paused = true)]
async fn c1_a_poll_without_a_timeout_finds_what_is_there() {
    for partitions in [1, 2] {
        let (server, mut consumer) = opened(partitions, 5 * MS).await;
        // A rumour has it fetched, and the answer is on its way for 300 ms.
        server.change(|state| {
            state.parts[0].reply_takes = 300 * MS;
            state.rumours.push(PartitionId(0));
        });
        assert!(timeout(50 * MS, consumer.poll(10, 10 * SECOND)).await.is_err());
        server.append(0, 1);
        sleep(10 * MS).await;
        let polled = consumer.poll(10, Duration::ZERO).await;
        let len = polled.as_ref().map(|batch| batch.len());
        assert!(matches!(len, Ok(1) | Err(_)), "{partitions} partitions: {polled:?}");
    }
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

/// c15: where the group stands in partition 1 cannot be asked for; the caller seeks in partition 0.
#[tokio::test(start_paused = true)]
async fn c15_a_place_that_cannot_be_asked_for_keeps_no_other_from_being_sought() {
    const RIVAL: (u64, u128) = (u64::MAX, 7);
    let (server, mut consumer) = opened(2, 5 * MS).await;
    (0..20).for_each(|number| _ = server.append(0, number));
    read(&mut *consumer, 20).await;
    server.change(|state| {
        state.parts[1].place_fails = true;
        state.members.push(RIVAL);
        state.rebalance();
    });
    let _ = consumer.poll(10, SECOND).await;
    server.change(|state| {
        state.members.retain(|one| *one != RIVAL);
        state.rebalance();
    });
    let _ = consumer.poll(10, SECOND).await;
    let to = SeekPosition::Position(Position::new(PartitionId(0), Offset(5)));
    consumer.seek(to).await.unwrap();
}

/// What a commit has stored is shown, also if its future was dropped at the place behind it.
#[tokio::test(start_paused = true)]
async fn c4_what_was_stored_before_a_commit_was_dropped_is_shown() {
    let (server, mut consumer) = opened(2, 5 * MS).await;
    (0..2).for_each(|nth| (0..20).for_each(|number| _ = server.append(nth, number)));
    let cursor = read(&mut *consumer, 40).await;
    let _ = cursor;
    // Both are suspects from now on.
    server.change(|state| state.parts[1].commit_loses = true);
    let first: Cursor = [(PartitionId(0), Offset(5)), (PartitionId(1), Offset(5))].into_iter().collect();
    assert!(consumer.commit(&first).await.is_err());
    let _ = consumer.poll(10, SECOND).await;
    let all: Cursor = [(PartitionId(0), Offset(20)), (PartitionId(1), Offset(20))].into_iter().collect();
    server.change(|state| {
        state.parts[1].commit_loses = false;
        state.parts[1].commit_takes = 10 * SECOND;
    });
    assert!(timeout(2 * SECOND, consumer.commit(&all)).await.is_err());
    let place = server.change(|state| state.parts[0].place);
    let again: Cursor = [(PartitionId(0), Offset(20))].into_iter().collect();
    let committed = consumer.commit(&again).await;
    assert!(committed.is_ok() && place == Some(Offset(20)), "{committed:?} {place:?}");
    assert_eq!(consumer.committed().get(PartitionId(0)), Some(Offset(20)));
}

/// c1: waiting keeps no processor busy. In real time: a question for news of partition 0 is on its way for long, partition 2 was
/// looked at, and partition 1 comes to the member while the poll waits beyond its timeout.
#[tokio::test]
async fn c1_a_poll_that_waits_for_late_news_keeps_no_processor_busy() {
    const RIVAL: (u64, u128) = (u64::MAX, 7);
    let server = Server::new(3);
    server.change(|state| {
        state.wait_is_remote = true;
        state.parts[1].fetch_takes = 200 * MS;
    });
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    server.change(|state| {
        state.members.push(RIVAL);
        state.rebalance();
    });
    let _ = consumer.poll(10, 50 * MS).await;
    while !consumer.poll(10, 50 * MS).await.unwrap().notices.is_empty() {}
    assert_eq!(consumer.position().iter().count(), 2);
    // From now on answers that are for partition 0 too are late.
    server.change(|state| {
        state.parts[0].news_take = 800 * MS;
        state.parts[1].news_take = 50 * MS;
    });
    server.append(2, 1);
    let batch = consumer.poll(10, 900 * MS).await.unwrap();
    assert_eq!(batch.len(), 1);
    let moving = Arc::clone(&server);
    tokio::spawn(async move {
        sleep(50 * MS).await;
        moving.change(|state| {
            state.members.retain(|one| *one != RIVAL);
            state.rebalance();
        });
    });
    server.change(|state| state.calls.clear());
    let (mut polls, start) = (Vec::new(), Instant::now());
    for _ in 0..3 {
        let polled = consumer.poll(10, 110 * MS).await;
        polls.push((polled.map(|batch| batch.notices), start.elapsed()));
    }
    let calls = server.change(|state| state.calls.clone());
    assert!(calls["wait"] < 50, "{calls:?}, {polls:?}");
}

/// c6, c1: a consumer that halts says so "once the other partitions have nothing to deliver: the log is asked for news of them
/// once". A record of partition 1 was there before the stream began; a fetch from before is on its way with an empty answer.
#[tokio::test(start_paused = true)]
async fn c6_a_halt_is_told_after_what_the_others_have() {
    for partitions in [2, 3] {
        let server = Server::new(partitions);
        let log = crate::picky::picky(&server).await;
        let options = ConsumerOptions::default().poison(event_log_core::PoisonPolicy::Halt);
        let mut consumer = log.consumer_with("g", options).await.unwrap();
        server.append_as(0, 1, "bad");
        assert!(consumer.poll(10, SECOND).await.is_err());
        server.change(|state| {
            state.parts[1].reply_takes = 300 * MS;
            state.rumours.push(PartitionId(1));
        });
        assert!(timeout(50 * MS, consumer.poll(10, 10 * SECOND)).await.is_err());
        server.append_as(1, 2, "good");
        sleep(10 * MS).await;
        let mut seen = 0;
        let mut stream = consumer.stream(10);
        while let Some(item) = stream.next().await {
            seen += item.map_or(0, |batch| batch.len());
        }
        assert_eq!(seen, 1, "{partitions} partitions: the stream has ended");
    }
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
