//! Where a group starts: completely, before anything is delivered to one of its members.

use std::collections::BTreeSet;

use event_log_core::{
    ConsumerOptions, EventConsumer as _, EventLog as _, EventLogExt as _, Notice, Offset, PartitionId,
    Position, SeekPosition,
};
use tokio::time::sleep;

use crate::reading_ahead::{MS, SECOND, Server};

/// c12: "The first member of a group that never committed resolves the start of every partition and stores it as the group's
/// place before anything is delivered". The group was deleted, and the question for one of its places fails once.
#[tokio::test(start_paused = true)]
async fn c12_a_deleted_group_is_started_before_anything_is_delivered_although_a_question_fails() {
    let server = Server::new(2);
    let log = server.open().await;
    for number in 0..10 {
        server.append(0, 2 * number + 1);
        server.append(1, 2 * number + 2);
    }
    let options = ConsumerOptions::starting_at(SeekPosition::End);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert!(consumer.poll(100, 100 * MS).await.unwrap().is_empty());
    server.evict_all();
    log.delete_group("g").await.unwrap();
    server.change(|state| {
        state.parts[0].place_fails = true;
    });
    let mut seen = 0;
    for round in 0..10 {
        if round == 5 {
            server.change(|state| state.parts[0].place_fails = false);
        }
        if let Ok(batch) = consumer.poll(100, SECOND).await {
            seen += batch.len();
        }
    }
    let places = server.change(|state| state.parts.iter().map(|part| part.place).collect::<Vec<_>>());
    assert_eq!(seen, 0, "a group that starts at the end was given the past; its places are {places:?}");
}

/// The same with a new start that another consumer has stored by half.
#[tokio::test(start_paused = true)]
async fn c12_a_start_that_another_member_has_stored_by_half_is_none_at_the_beginning() {
    let server = Server::new(2);
    let log = server.open().await;
    for number in 0..10 {
        server.append(0, 2 * number + 1);
        server.append(1, 2 * number + 2);
    }
    let options = ConsumerOptions::starting_at(SeekPosition::End);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert!(consumer.poll(100, 100 * MS).await.unwrap().is_empty());
    server.evict_all();
    log.delete_group("g").await.unwrap();
    // Another first member has stored one place of two, and is about to store the other.
    server.change(|state| {
        state.parts[0].place = Some(Offset(10));
    });
    let batch = consumer.poll(100, SECOND).await.unwrap();
    let places = server.change(|state| state.parts.iter().map(|part| part.place).collect::<Vec<_>>());
    assert!(batch.is_empty(), "{} records of the past, and the group is at {places:?}", batch.len());
}

/// c12: a start that a dead first member has stored by half is finished, also when the one place that is missing cannot be asked
/// for at first.
#[tokio::test(start_paused = true)]
async fn c12_a_start_stored_by_half_is_finished_although_a_question_fails_at_first() {
    let server = Server::new(2);
    let log = server.open().await;
    for number in 0..20 {
        server.append((number % 2) as usize, number);
    }
    server.change(|state| {
        state.places_take = 10 * MS;
        state.parts[0].place_fails = true;
        state.parts[1].place = Some(Offset(10));
    });
    let recovers = async {
        sleep(15 * MS).await;
        server.change(|state| state.parts[0].place_fails = false);
    };
    let options = ConsumerOptions::starting_at(SeekPosition::End);
    let (consumer, ()) = tokio::join!(log.consumer_with("g", options), recovers);
    let Ok(mut consumer) = consumer else { return };
    let mut seen = 0;
    for _ in 0..5 {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
    let places = server.change(|state| state.parts.iter().map(|part| part.place).collect::<Vec<_>>());
    assert_eq!(seen, 0, "a group that starts at the end was given the past; its places are {places:?}");
}

/// A group whose start is stored has a place in every partition: `lag`, and what a restart finds.
#[tokio::test(start_paused = true)]
async fn c3_what_was_delivered_without_a_place_of_the_group_is_not_given_up_by_a_start_that_is_stored_behind_it()
 {
    let server = Server::new(2);
    let log = server.open().await;
    for number in 0..20 {
        server.append((number % 2) as usize, number);
    }
    let options = || ConsumerOptions::starting_at(SeekPosition::End);
    let mut consumer = log.consumer_with("g", options()).await.unwrap();
    assert!(consumer.poll(100, 100 * MS).await.unwrap().is_empty());
    server.evict_all();
    log.delete_group("g").await.unwrap();
    server.change(|state| {
        state.parts[0].place_fails = true;
    });
    // It may be given some of the records of partition 1, and commits none.
    let mut seen = Vec::new();
    for _ in 0..10 {
        let polled = consumer.poll(5, SECOND).await;
        seen.extend(polled.iter().flat_map(|batch| &batch.records).map(|record| record.position));
        if seen.len() >= 5 {
            break;
        }
    }
    server.change(|state| state.parts[0].place_fails = false);
    sleep(2 * SECOND).await;
    let _ = consumer.poll(1, 100 * MS).await;
    let _ = consumer.poll(1, 100 * MS).await;
    // A crash: c4 "after a restart … every uncommitted one does [come back]".
    drop(consumer);
    sleep(SECOND).await;
    let mut consumer = log.consumer_with("g", options()).await.unwrap();
    let mut again = Vec::new();
    for _ in 0..5 {
        again.extend(consumer.poll(100, SECOND).await.unwrap().records.iter().map(|record| record.position));
    }
    for position in &seen {
        assert!(
            again.contains(position),
            "{position} was delivered, and not committed; after a restart come {again:?}"
        );
    }
}

/// c14: "a start … beyond the high watermark is an error, or a notice that says where reading goes on".
#[tokio::test(start_paused = true)]
async fn c14_the_notice_of_a_start_that_did_not_prevail_says_where_reading_goes_on() {
    let server = Server::new(1);
    let log = server.open().await;
    for number in 0..10 {
        server.append(0, number);
    }
    server.change(|state| state.marks_take = 50 * MS);
    let mine =
        ConsumerOptions::starting_at(SeekPosition::Position(Position::new(PartitionId(0), Offset(100))));
    let other = ConsumerOptions::starting_at(SeekPosition::End);
    let opening = async {
        sleep(80 * MS).await;
        log.consumer_with("g", mine).await.unwrap()
    };
    let (other, mut consumer) = tokio::join!(log.consumer_with("g", other), opening);
    drop(other);
    let mut told = None;
    for _ in 0..3 {
        let batch = consumer.poll(100, SECOND).await.unwrap();
        for notice in &batch.notices {
            if let Notice::Truncated { resumed_at, .. } = notice {
                told = Some(*resumed_at);
            }
        }
    }
    let place = server.change(|state| state.parts[0].place);
    assert!(
        told.is_none() || told == place,
        "told that reading goes on at {told:?}, and the group is at {place:?}"
    );
}

/// c11: "a fault of one partition is reported". Two partitions come to a member, and cannot be read.
#[tokio::test(start_paused = true)]
async fn c11_the_fault_of_each_partition_that_cannot_be_read_is_reported() {
    let server = Server::new(4);
    let log = server.open().await;
    let mut first = log.consumer("g").await.unwrap();
    let second = log.consumer("g").await.unwrap();
    let _ = first.poll(10, SECOND).await;
    server.change(|state| state.marks_fail = true);
    drop(second);
    let mut told = BTreeSet::new();
    for _ in 0..20 {
        let Ok(batch) = first.poll(10, SECOND).await else { continue };
        for notice in &batch.notices {
            if let Notice::Fault { partition, .. } = notice {
                told.insert(partition.0);
            }
        }
    }
    assert_eq!(told.into_iter().collect::<Vec<_>>(), [1, 3]);
}

/// c12 and c13: `Assignment::epoch` "changes whenever … the group was deleted".
#[tokio::test(start_paused = true)]
async fn c12_a_group_that_was_deleted_after_a_commit_is_started_again() {
    let server = Server::new(1);
    let log = server.open().await;
    for number in 0..10 {
        server.append(0, number);
    }
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SECOND).await.unwrap();
    consumer.commit(batch.cursor()).await.unwrap();
    server.evict_all();
    log.delete_group("g").await.unwrap();
    server.append(0, 10);
    let polled = consumer.poll(100, SECOND).await.unwrap();
    let place = server.change(|state| state.parts[0].place);
    assert_eq!((polled.len(), place), (11, Some(Offset(0))), "{:?}", polled.notices);
}
