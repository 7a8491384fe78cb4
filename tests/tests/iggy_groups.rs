//! How groups start on a real server, and what becomes of them there.

use std::collections::BTreeSet;
use std::time::Duration;

use event_log_core::conformance::{Harness, Probe};
use event_log_core::{
    ConsumerOptions, Error, EventConsumer, EventLog, EventLogExt, Headers, PartitionId, Partitionable,
    SeekPosition,
};
use event_log_iggy::IggyLog;
use event_log_tests::iggy::IggyHarness;
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(60);

/// A harness, unless there is no server.
fn harness() -> Option<IggyHarness> {
    let harness = IggyHarness::new();
    harness.ready().ok().map(|()| harness)
}

async fn open(harness: &IggyHarness, partitions: u32) -> IggyLog<Probe> {
    let mut config = harness.config().await;
    config.topology.partitions = partitions;
    event_log_iggy::builder(config).open().await.expect("the log opens")
}

async fn fill(log: &IggyLog<Probe>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        log.append_acked(Probe::new(&format!("key-{number}"), number)).await.expect("it is appended");
    }
}

async fn reader(log: &IggyLog<Probe>, group: &str, start: SeekPosition) -> Box<dyn EventConsumer<Probe>> {
    log.consumer_with(group, ConsumerOptions::starting_at(start)).await.expect("a consumer opens")
}

/// What comes until nothing has come for a while.
async fn drain(reader: &mut Box<dyn EventConsumer<Probe>>) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    loop {
        let batch = reader.poll(1_000, Duration::from_millis(500)).await.expect("a batch");
        if batch.is_empty() && batch.notices.is_empty() {
            return seen;
        }
        seen.extend(batch.records.into_iter().map(|record| record.event.expect("a probe").number));
    }
}

async fn places(log: &IggyLog<Probe>, group: &str) -> Vec<Option<u64>> {
    let lag = log.lag(group).await.expect("the lag is known");
    lag.iter().map(|(_, lag)| lag.committed.map(|offset| offset.0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_start_a_group_together_start_it_once() {
    const MEMBERS: usize = 4;

    let Some(harness) = harness() else { return };
    let log = open(&harness, 4).await;
    fill(&log, 0..40).await;
    // While they start, there is more: each of them finds another end.
    let filling = tokio::spawn({
        let log = log.clone();
        async move { fill(&log, 40..200).await }
    });
    let mut logs = Vec::new();
    for _ in 0..MEMBERS {
        logs.push(open(&harness, 4).await);
    }
    let starting = logs.iter().map(|log| reader(log, "readers", SeekPosition::End));
    let members = futures::future::join_all(starting).await;
    let started = places(&log, "readers").await;
    assert!(started.iter().all(Option::is_some), "{started:?}");
    filling.await.expect("it fills the log");
    drop(members);
    for log in &logs {
        assert_eq!(places(log, "readers").await, started, "it moved although nothing was committed");
    }
    // A member that comes later reads from there, wherever it would have started itself.
    let marks = log.watermarks().await.expect("they are known");
    let expected: u64 =
        marks.iter().zip(&started).map(|((_, marks), start)| marks.high.0 - start.unwrap()).sum();
    let mut last = reader(&log, "readers", SeekPosition::Beginning).await;
    let mut seen = BTreeSet::new();
    while (seen.len() as u64) < expected {
        let more = drain(&mut last).await;
        assert!(!more.is_empty(), "{} of {expected} have come", seen.len());
        seen.extend(more);
    }
    assert_eq!(seen.len() as u64, expected);
}

#[tokio::test]
async fn a_group_of_the_longest_name_starts_once_and_is_forgotten() {
    let Some(harness) = harness() else { return };
    let log = open(&harness, 2).await;
    fill(&log, 0..10).await;
    let (group, like_it) = ("g".repeat(255), format!("{}h", "g".repeat(254)));
    drop(reader(&log, &group, SeekPosition::End).await);
    fill(&log, 10..20).await;
    assert_eq!(places(&log, &like_it).await, [None, None], "a group is not another one");
    let mut again = reader(&log, &group, SeekPosition::End).await;
    assert_eq!(drain(&mut again).await, (10..20).collect(), "it has not started again");
    again.leave().await.expect("it leaves");
    log.delete_group(&group).await.expect("it is forgotten");
    assert_eq!(places(&log, &group).await, [None, None]);
    let mut anew = reader(&log, &group, SeekPosition::Beginning).await;
    assert_eq!(drain(&mut anew).await, (0..20).collect());
}

#[tokio::test]
async fn an_empty_partition_is_started_too_and_a_name_of_our_own_is_no_group() {
    let Some(harness) = harness() else { return };
    let log = open(&harness, 3).await;
    drop(reader(&log, "readers", SeekPosition::End).await);
    assert_eq!(places(&log, "readers").await, [Some(0); 3], "nothing is stored, and it has started");
    fill(&log, 0..30).await;
    let mut again = reader(&log, "readers", SeekPosition::End).await;
    assert_eq!(drain(&mut again).await, (0..30).collect(), "what came in between is its own");
    for name in ["event-log.readers", "event-log-started.readers"] {
        let refused = log.consumer(name).await.map(drop).expect_err("it is refused");
        assert!(matches!(refused, Error::InvalidArgument { name: "group", .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_member_that_died_while_it_started_a_group_holds_nobody_up_for_long() {
    let Some(harness) = harness() else { return };
    let log = open(&harness, 2).await;
    fill(&log, 0..10).await;
    harness.foreign().await.create_group("event-log-starting.readers").await;
    let opened = tokio::time::timeout(PATIENCE, reader(&log, "readers", SeekPosition::Beginning)).await;
    assert_eq!(drain(&mut opened.expect("it waits for a bounded time")).await, (0..10).collect());
    assert_eq!(places(&log, "readers").await, [Some(0); 2]);
}

#[derive(Debug, Serialize, Deserialize)]
struct Traced;

impl Partitionable for Traced {
    fn partition_key(&self) -> Option<&str> {
        None
    }
}

#[tokio::test]
async fn headers_of_other_clients_are_shown_as_their_bytes() {
    let Some(harness) = harness() else { return };
    let mut config = harness.config().await;
    config.topology.partitions = 1;
    let log = event_log_iggy::builder::<Traced>(config).open().await.expect("the log opens");
    log.watermarks().await.expect("the topic is there");
    harness.foreign().await.send_with_header(PartitionId(0), "retries", 7).await;
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    let batch = reader.poll(10, PATIENCE).await.expect("a batch");
    let headers: Vec<&Headers> = batch.records.iter().map(|record| &record.headers).collect();
    let [headers] = headers[..] else { panic!("{batch:?}") };
    assert_eq!(headers.get("retries").map(|value| &value[..]), Some(&7_u32.to_le_bytes()[..]));
}
