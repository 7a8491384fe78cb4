//! What the ninth reader has found: questions that are asked again and again, and ends that are none.

use std::sync::Arc;
use std::time::Duration;

use event_log_core::{
    ConsumerOptions, Cursor, EventConsumer, EventConsumerExt as _, EventLog as _, EventLogExt as _, Notice,
    Offset, PartitionId, Position, SeekPosition,
};
use futures::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::reading_ahead::{MS, SECOND, Server, opened, read};

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
