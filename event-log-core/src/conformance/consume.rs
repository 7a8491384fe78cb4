//! Clauses c1–c3, c9–c11: what a consumer promises while it polls.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::fixture::{
    Log, PATIENCE, Probe, append, assert_dry, assert_partition_order, fill, keys_of_two_partitions, numbers,
    numbers_by_key, open, open_with, partitions, poll, read, reader, reader_with, until_connected,
};
use super::{CaseResult, Fault, Harness};
use crate::consumer::ConsumerOptions;
use crate::error::Error;
use crate::ext::EventConsumerExt;
use crate::position::{PartitionId, SeekPosition};
use crate::record::Notice;

fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

pub(super) async fn c1_poll_returns_as_soon_as_something_is_there(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let mut reader = reader(&log, "readers").await;
    assert_dry(&mut reader).await;
    let start = Instant::now();
    let (batch, _) = tokio::join!(poll(&mut reader, 100, PATIENCE), append(&log, Probe::new("k", 1)));
    assert_eq!(numbers(&batch), [1]);
    assert!(start.elapsed() < PATIENCE / 4, "the poll slept through the append: {:?}", start.elapsed());
    Ok(())
}

pub(super) async fn c1_poll_returns_at_most_what_was_asked(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    fill(&log, 0..30).await;
    let mut reader = reader(&log, "readers").await;
    let mut seen = Vec::new();
    while seen.len() < 30 {
        let batch = poll(&mut reader, 7, PATIENCE).await;
        assert!((1..=7).contains(&batch.len()), "{} records came, at most 7 were asked for", batch.len());
        seen.extend(numbers(&batch));
    }
    assert_eq!(sorted(seen), (0..30).collect::<Vec<_>>());
    let refused = reader.poll(0, Duration::ZERO).await.expect_err("none is not a number of records");
    assert!(matches!(refused, Error::InvalidArgument { name: "max_count", .. }), "{refused:?}");
    Ok(())
}

pub(super) async fn c1_an_empty_poll_takes_its_timeout(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let mut reader = reader(&log, "readers").await;
    let (timeout, start) = (Duration::from_millis(300), Instant::now());
    assert!(poll(&mut reader, 10, timeout).await.is_empty());
    let took = start.elapsed();
    assert!(took >= timeout, "it gave up after {took:?}");
    assert!(took < timeout + Duration::from_secs(2), "it took {took:?}");
    Ok(())
}

pub(super) async fn c1_a_zero_timeout_polls_once(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let mut reader = reader(&log, "readers").await;
    let start = Instant::now();
    assert!(poll(&mut reader, 10, Duration::ZERO).await.is_empty());
    assert!(start.elapsed() < Duration::from_secs(1), "it waited {:?}", start.elapsed());
    append(&log, Probe::new("k", 1)).await;
    // On a server one look may come too early for the append, though not a few of them.
    let mut batch = poll(&mut reader, 10, Duration::ZERO).await;
    for _ in 0..100 {
        if batch.is_empty() {
            batch = poll(&mut reader, 10, Duration::ZERO).await;
        }
    }
    assert_eq!(numbers(&batch), [1]);
    Ok(())
}

pub(super) async fn c1_an_empty_answer_is_not_the_end(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let mut reader = reader(&log, "readers").await;
    fill(&log, 0..5).await;
    harness.inject(Fault::EmptyFetches(3)).await?;
    assert_eq!(numbers(&read(&mut reader, 5).await), (0..5).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn c1_a_consumer_survives_a_lost_connection(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    fill(&log, 0..20).await;
    let mut reader = reader(&log, "readers").await;
    let mut seen = numbers(&read(&mut reader, 8).await);
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    // Whatever was fetched ahead may still come; then it has to say that it cannot see.
    let lost = loop {
        match reader.poll(100, Duration::from_millis(300)).await {
            Ok(batch) => {
                assert!(!batch.is_empty(), "an empty batch says that there is nothing, and nobody can know");
                seen.extend(numbers(&batch));
            }
            Err(error) => break error,
        }
    };
    assert!(lost.is_retryable(), "{lost:?}");
    harness.inject(Fault::Reconnect).await?;
    seen.extend(numbers(&read(&mut reader, 20 - seen.len()).await));
    assert_eq!(sorted(seen), (0..20).collect::<Vec<_>>(), "nothing is missed and nothing repeated");
    assert_dry(&mut reader).await;
    let position = reader.position().clone();
    reader.commit(&position).await.expect("committing works again");
    Ok(())
}

pub(super) async fn c1_a_poll_ends_although_nobody_answers(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    let mut reader = reader(&log, "readers").await;
    fill(&log, 0..10).await;
    harness.inject(Fault::StallFetches(true)).await?;
    let timeout = Duration::from_millis(200);
    for timeout in [timeout, Duration::ZERO] {
        let start = Instant::now();
        let blind = reader.poll(10, timeout).await.expect_err("nobody knows whether there are records");
        assert!(blind.is_retryable(), "{blind:?}");
        let took = start.elapsed();
        assert!(took >= timeout && took < timeout + Duration::from_secs(5), "it took {took:?}");
    }
    harness.inject(Fault::StallFetches(false)).await?;
    // Retried: a backend may have to find out first that the connection is good, or to make a new one.
    let mut seen = Vec::new();
    while seen.len() < 10 {
        match reader.poll(10 - seen.len(), PATIENCE).await {
            Ok(batch) => seen.extend(numbers(&batch)),
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    assert_eq!(sorted(seen), (0..10).collect::<Vec<_>>());
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn c2_partitions_are_read_in_offset_order(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(4)).await;
    let events = (0..500).map(|number| Probe::new(&format!("key-{}", number % 17), number)).collect();
    log.append_batch(events).await.expect("the batch is appended");
    let mut reader = reader(&log, "readers").await;
    let records = read(&mut reader, 500).await;
    assert_partition_order(&records);
    for (key, numbers) in numbers_by_key(&records) {
        assert!(numbers.is_sorted(), "{key:?} came as {numbers:?}");
    }
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn c2_partitions_are_merged_by_append_time(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(4)).await;
    for number in 0..20 {
        append(&log, Probe::new(&format!("key-{number}"), number)).await;
        // Apart in time as the log's own clock sees it.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let records = read(&mut reader(&log, "readers").await, 20).await;
    assert!(records.is_sorted_by_key(|record| record.timestamp), "{records:?}");
    assert_eq!(numbers(&records), (0..20).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn c2_no_partition_starves(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    let [busy, quiet] = keys_of_two_partitions();
    let flood = |from: u64| (from..from + 100).map(|number| Probe::new(&busy, number)).collect::<Vec<_>>();
    log.append_batch(flood(0)).await.expect("the batch is appended");
    append(&log, Probe::new(&quiet, 9_999)).await;
    let mut reader = reader(&log, "readers").await;
    for round in 1..20 {
        // The busy partition always has more than is read.
        log.append_batch(flood(round * 100)).await.expect("the batch is appended");
        if numbers(&poll(&mut reader, 50, PATIENCE).await).contains(&9_999) {
            return Ok(());
        }
    }
    panic!("the quiet partition starves beside the busy one");
}

pub(super) async fn c3_a_new_group_starts_where_it_is_told(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    fill(&log, 0..10).await;
    let mut default = reader(&log, "default").await;
    assert_eq!(sorted(numbers(&read(&mut default, 10).await)), (0..10).collect::<Vec<_>>());
    let mut end = reader_with(&log, "end", ConsumerOptions::starting_at(SeekPosition::End)).await;
    let mut last = reader_with(&log, "last", ConsumerOptions::starting_at(SeekPosition::FromEnd(3))).await;
    fill(&log, 10..12).await;
    assert_eq!(sorted(numbers(&read(&mut end, 2).await)), [10, 11]);
    assert_eq!(read(&mut last, 5).await.len(), 5);
    assert_dry(&mut end).await;
    assert_dry(&mut last).await;
    Ok(())
}

pub(super) async fn c3_a_known_group_resumes(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    fill(&log, 0..10).await;
    let mut first = reader(&log, "readers").await;
    read(&mut first, 4).await;
    let position = first.position().clone();
    first.commit(&position).await.expect("the commit succeeds");
    drop(first);
    // The start position is for groups that never committed.
    let mut second = reader_with(&log, "readers", ConsumerOptions::starting_at(SeekPosition::End)).await;
    assert_eq!(second.committed(), &position);
    assert_eq!(second.position(), &position);
    assert_eq!(numbers(&read(&mut second, 6).await), (4..10).collect::<Vec<_>>());
    assert_dry(&mut second).await;
    Ok(())
}

pub(super) async fn c3_lag_counts_from_the_committed_cursor(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    fill(&log, 0..10).await;
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 10, "nothing is committed");
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 4).await;
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 10, "reading is not committing");
    let position = reader.position().clone();
    reader.commit(&position).await.expect("the commit succeeds");
    let lag = log.lag("readers").await.expect("the lag is known");
    let partition = lag.get(PartitionId(0)).expect("there is one partition");
    assert_eq!((lag.total(), partition.committed), (6, position.get(PartitionId(0))));
    Ok(())
}

pub(super) async fn c9_a_dropped_poll_loses_nothing(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(3)).await;
    let mut reader = reader(&log, "readers").await;
    let mut seen = Vec::new();
    for number in 0..60 {
        // Dropped before, while, and after something is there.
        let _ = reader
            .poll(10, PATIENCE)
            .now_or_never()
            .map(|batch| seen.extend(numbers(&batch.expect("a batch"))));
        let appended = append(&log, Probe::new(&format!("key-{number}"), number));
        tokio::select! {
            biased;
            batch = reader.poll(3, PATIENCE) => seen.extend(numbers(&batch.expect("a batch"))),
            _ = appended => {}
        }
        if number % 3 == 0 {
            let short = tokio::time::timeout(Duration::from_micros(50), reader.poll(2, PATIENCE)).await;
            seen.extend(short.into_iter().flat_map(|batch| numbers(&batch.expect("a batch"))));
        }
    }
    // An append that lost the race was dropped: it may be there or not.
    loop {
        let batch = poll(&mut reader, 10, Duration::from_millis(200)).await;
        if batch.is_empty() {
            break;
        }
        seen.extend(numbers(&batch));
    }
    let all = read_everything(&log).await;
    assert_eq!(sorted(seen), all, "dropping a poll lost or repeated records");
    Ok(())
}

/// What is in the log, read by a group that nobody has disturbed.
async fn read_everything(log: &Log) -> Vec<u64> {
    let mut reader = reader(log, "undisturbed").await;
    let mut seen = Vec::new();
    loop {
        let batch = poll(&mut reader, 100, Duration::from_millis(200)).await;
        if batch.is_empty() {
            return sorted(seen);
        }
        seen.extend(numbers(&batch));
    }
}

pub(super) async fn c10_history_then_tail_misses_and_repeats_nothing(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(3)).await;
    fill(&log, 0..100).await;
    let mut reader = reader(&log, "readers").await;
    let reading = async {
        let mut seen = Vec::new();
        let mut history = reader.until_caught_up(16);
        while let Some(batch) = history.next().await {
            seen.extend(numbers(&batch.expect("a batch")));
        }
        drop(history);
        assert!(seen.len() >= 100, "history ended after {} of 100", seen.len());
        let mut tail = reader.stream(16);
        while seen.len() < 200 {
            seen.extend(numbers(&tail.next().await.expect("the tail has no end").expect("a batch")));
        }
        drop(tail);
        seen
    };
    let reading = tokio::time::timeout(2 * PATIENCE, reading);
    let (seen, ()) = tokio::join!(reading, fill(&log, 100..200));
    assert_eq!(sorted(seen.expect("it ends")), (0..200).collect::<Vec<_>>());
    assert_dry(&mut reader).await;
    Ok(())
}

/// Watermarks that lag behind what is read would end a history too early, and look like a log that has lost its tail.
pub(super) async fn c10_the_end_is_never_before_what_was_delivered(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    let mut reader = reader(&log, "readers").await;
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < 50 {
            let batch = poll(&mut reader, 16, PATIENCE).await;
            let is_news = !batch.is_empty() || !batch.notices.is_empty();
            assert!(is_news, "only {} of 50 records came", seen.len());
            let truncated = |notice: &Notice| matches!(notice, Notice::Truncated { .. });
            assert!(!batch.notices.iter().any(truncated), "nothing was lost: {:?}", batch.notices);
            let end = reader.end().await.expect("the end is known");
            for (partition, next) in batch.cursor().iter() {
                assert!(end.get(partition) >= Some(next), "{partition} was read to {next}, and ends: {end}");
            }
            seen.extend(numbers(&batch));
        }
        sorted(seen)
    };
    let (seen, ()) = tokio::join!(reading, fill(&log, 0..50));
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn c11_a_fault_is_reported_and_hides_nothing(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    let [bad, good] = keys_of_two_partitions();
    let mut reader = reader(&log, "readers").await;
    for number in 0..5 {
        append(&log, Probe::new(&bad, number)).await;
        append(&log, Probe::new(&good, 100 + number)).await;
    }
    harness.inject(Fault::FailFetches(PartitionId(0), 2)).await?;
    let batch = poll(&mut reader, 100, PATIENCE).await;
    let seen = numbers(&batch);
    assert_eq!(seen, (100..105).collect::<Vec<_>>(), "the other partition is not hidden");
    let told: BTreeSet<_> = batch
        .notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Fault { partition, .. } => Some(*partition),
            _ => None,
        })
        .collect();
    assert_eq!(told, BTreeSet::from([PartitionId(0)]), "the fault is told: {:?}", batch.notices);
    assert_eq!(numbers(&read(&mut reader, 5).await), (0..5).collect::<Vec<_>>(), "and nothing is lost by it");
    Ok(())
}
