//! The place of a group and of a consumer: where it starts, what a commit stores, and what a seek or a truncation changes.

use crate::fixture::{SECOND, SHORT, append, event, open, read_all, starting_at};
use event_log_core::{
    CommitErrorKind, Cursor, Error, EventConsumer as _, EventLog as _, EventLogExt as _, Notice, Offset,
    PartitionId, PoisonPolicy, Position, SeekPosition,
};

#[tokio::test(start_paused = true)]
async fn a_partition_that_came_back_fails_no_commit_of_another() {
    let (log, ..) = open().await;
    for partition in 0..2 {
        append(&log, partition, 0..5).await;
    }
    let mut one = log.consumer("g").await.unwrap();
    assert_eq!(read_all(&mut one).await.0.len(), 10);
    let mut two = log.consumer("g").await.unwrap();
    one.poll(100, SHORT).await.unwrap();
    let batch = two.poll(100, SHORT).await.unwrap();
    assert_eq!(batch.len(), 5, "the uncommitted records of the partition that went to the second member");
    two.commit(batch.cursor()).await.unwrap();
    two.leave().await.unwrap();
    read_all(&mut one).await;
    for number in 5..10 {
        append(&log, 0, [number]).await;
        let batch = one.poll(100, SHORT).await.unwrap();
        assert_eq!(batch.len(), 1);
        one.commit(batch.cursor()).await.unwrap();
    }
    assert_eq!(log.lag("g").await.unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_offset_beyond_the_end_is_told_and_hides_nothing() {
    for as_start in [false, true] {
        let (log, faults, _broker) = open().await;
        append(&log, 0, 0..100).await;
        let kept: Cursor = [(PartitionId(0), Offset(100))].into_iter().collect();
        faults.begin_again();
        append(&log, 0, 1_000..1_010).await;
        let to = SeekPosition::Cursor(kept);
        let mut consumer = if as_start {
            log.consumer_with("g", starting_at(to)).await.unwrap()
        } else {
            let mut consumer = log.consumer("g").await.unwrap();
            consumer.seek(to).await.unwrap();
            consumer
        };
        let (mut seen, notices) = read_all(&mut consumer).await;
        let truncated = |notice: &Notice| {
            matches!(notice, Notice::Truncated { from: Offset(100), resumed_at: Offset(0), .. })
        };
        assert!(notices.iter().any(truncated), "start: {as_start}, {notices:?}");
        append(&log, 0, 1_010..1_020).await;
        seen.extend(read_all(&mut consumer).await.0);
        assert_eq!(seen, (1_000..1_020).collect::<Vec<_>>(), "start: {as_start}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_copy_behind_a_sought_cursor_is_dropped() {
    let (log, faults, _broker) = open().await;
    faults.hold_requests(1);
    log.append_acked(event(0, 1)).await.unwrap();
    log.append_acked(event(0, 2)).await.unwrap();
    let mut first = log.consumer("first").await.unwrap();
    let batch = first.poll(10, SHORT).await.unwrap();
    assert_eq!(batch.len(), 2);
    let kept = batch.cursor().clone();
    assert!(faults.deliver_held_requests() > 0, "the request from before the cut arrives late");
    log.append_acked(event(0, 3)).await.unwrap();
    let to = || SeekPosition::Cursor(kept.clone());
    let mut started = log.consumer_with("second", starting_at(to())).await.unwrap();
    assert_eq!(read_all(&mut started).await.0, [3]);
    let mut sought = log.consumer("third").await.unwrap();
    sought.seek(to()).await.unwrap();
    let (seen, notices) = read_all(&mut sought).await;
    assert_eq!(seen, [3], "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cursor_from_before_a_truncation_concerns_its_partition_alone() {
    let (log, faults, _broker) = open().await;
    for partition in 0..2 {
        append(&log, partition, 0..10).await;
    }
    let mut consumer = log.consumer("g").await.unwrap();
    let first = consumer.poll(100, SHORT).await.unwrap();
    assert_eq!(first.len(), 20);
    faults.begin_again();
    append(&log, 0, 0..2).await;
    append(&log, 1, 0..2).await;
    let mut second = consumer.poll(100, SHORT).await.unwrap();
    while second.is_empty() {
        second = consumer.poll(100, SHORT).await.unwrap();
    }
    let error = consumer.commit(first.cursor()).await.unwrap_err();
    let superseded = |(_, kind): &(PartitionId, CommitErrorKind)| matches!(kind, CommitErrorKind::Superseded);
    assert!(error.failures().iter().all(superseded), "{error:?}");
    consumer.commit(second.cursor()).await.unwrap();
    assert_eq!(log.lag("g").await.unwrap().total(), 0, "what was read of the new log is stored");
}

#[tokio::test(start_paused = true)]
async fn a_place_behind_a_poisoned_record_can_be_committed() {
    let (log, faults, _broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 0, [1]).await;
    let halt = || starting_at(SeekPosition::Beginning).poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", halt()).await.unwrap();
    let position = loop {
        match consumer.poll(10, SHORT).await {
            Err(Error::Poisoned { position, .. }) => break position,
            Ok(batch) => assert!(batch.is_empty(), "the record is the first"),
            Err(error) => panic!("{error}"),
        }
    };
    let next = Position::new(position.partition, position.offset.next());
    consumer.seek(SeekPosition::Position(next)).await.unwrap();
    let here = consumer.position().clone();
    consumer.commit(&here).await.unwrap();
    drop(consumer);
    let mut again = log.consumer_with("g", halt()).await.unwrap();
    assert_eq!(read_all(&mut again).await.0, [1]);
}

#[tokio::test(start_paused = true)]
async fn the_place_where_a_group_starts_survives_a_restart() {
    for commits in [false, true] {
        let (log, ..) = open().await;
        append(&log, 0, 0..10).await;
        let end = || starting_at(SeekPosition::End);
        let mut consumer = log.consumer_with("live", end()).await.unwrap();
        if commits {
            let here = consumer.position().clone();
            consumer.commit(&here).await.unwrap();
        }
        drop(consumer);
        append(&log, 0, [10]).await;
        append(&log, 1, [11]).await;
        let mut again = log.consumer_with("live", end()).await.unwrap();
        assert_eq!(read_all(&mut again).await.0, [10, 11], "commits: {commits}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_has_committed_resumes_in_its_quiet_partitions_too() {
    let (log, ..) = open().await;
    let end = || starting_at(SeekPosition::End);
    let mut consumer = log.consumer_with("live", end()).await.unwrap();
    append(&log, 0, [1]).await;
    let batch = consumer.poll(10, SECOND).await.unwrap();
    assert_eq!(batch.len(), 1);
    consumer.commit(batch.cursor()).await.unwrap();
    drop(consumer);
    append(&log, 0, [2]).await;
    append(&log, 1, [3]).await;
    let mut consumer = log.consumer_with("live", end()).await.unwrap();
    assert_eq!(read_all(&mut consumer).await.0, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_second_member_loses_nothing_of_a_group_that_starts_at_the_end() {
    for start in [SeekPosition::End, SeekPosition::FromEnd(3)] {
        let (log, ..) = open().await;
        append(&log, 1, 0..3).await;
        let options = || starting_at(start.clone());
        let mut one = log.consumer_with("live", options()).await.unwrap();
        append(&log, 0, 10..20).await;
        append(&log, 1, 20..30).await;
        let mut two = log.consumer_with("live", options()).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..5 {
            for member in [&mut one, &mut two] {
                let batch = member.poll(100, SHORT).await.unwrap();
                // A partition that has just gone to the other member is told, and concerns itself alone.
                drop(member.commit(batch.cursor()).await);
                seen.extend(batch.into_events().map(|event| event.number));
            }
        }
        seen.sort_unstable();
        let from = if start == SeekPosition::End { Vec::new() } else { vec![0, 1, 2] };
        assert_eq!(seen, from.into_iter().chain(10..30).collect::<Vec<_>>(), "{start:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_member_had_not_committed_goes_to_its_replacement() {
    let (log, ..) = open().await;
    let end = || starting_at(SeekPosition::End);
    let mut one = log.consumer_with("live", end()).await.unwrap();
    let mut two = log.consumer_with("live", end()).await.unwrap();
    read_all(&mut one).await;
    read_all(&mut two).await;
    append(&log, 0, 0..10).await;
    append(&log, 1, 10..20).await;
    assert_eq!(read_all(&mut two).await.0.len(), 10);
    drop(two);
    let mut three = log.consumer_with("live", end()).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(read_all(&mut one).await.0);
        seen.extend(read_all(&mut three).await.0);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_cursor_of_another_consumer_or_topic_stores_nothing() {
    let (log, ..) = open().await;
    for partition in 0..2 {
        append(&log, partition, 0..5).await;
    }
    let mut one = log.consumer("g").await.unwrap();
    let mut two = log.consumer("g").await.unwrap();
    read_all(&mut one).await;
    let of_two = two.poll(100, SHORT).await.unwrap();
    assert_eq!(of_two.len(), 5);
    let mixed_up = one.commit(of_two.cursor()).await.unwrap_err();
    assert!(mixed_up.stored().is_empty(), "{mixed_up:?}");
    for nowhere in [PartitionId(99), PartitionId(u32::MAX)] {
        let cursor: Cursor = [(nowhere, Offset(5))].into_iter().collect();
        assert!(one.commit(&cursor).await.is_err(), "partition {nowhere}");
    }
    assert_eq!(log.lag("g").await.unwrap().total(), 10, "nothing is stored");
    two.commit(of_two.cursor()).await.unwrap();
    assert_eq!(log.lag("g").await.unwrap().total(), 5, "its own consumer stores it");
}
