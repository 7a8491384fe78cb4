//! How many round trips in a row an operation takes, where each of them is slow.

use std::time::Duration;

use event_log_core::conformance::{Harness, Probe};
use event_log_core::{EventConsumer, EventLog, EventLogExt, SeekPosition};
use event_log_iggy::IggyLog;
use event_log_tests::iggy::IggyHarness;
use event_log_tests::proxy::{NetworkFault, Proxy};

const PARTITIONS: u32 = 8;

/// Each way. Requests that do not wait for each other are sent well within it.
const DELAY: Duration = Duration::from_millis(40);

const PATIENCE: Duration = Duration::from_secs(60);

async fn read(reader: &mut Box<dyn EventConsumer<Probe>>, count: usize) {
    let mut seen = 0;
    while seen < count {
        let batch = reader.poll(count - seen, PATIENCE).await.expect("a batch");
        assert!(!batch.is_empty(), "only {seen} of {count} have come");
        seen += batch.len();
    }
}

/// How many round trips in a row this takes.
async fn round_trips<T>(proxy: &Proxy, what: impl Future<Output = T>) -> (u64, T) {
    let before = proxy.counts();
    let result = what.await;
    let after = proxy.counts();
    let requests = after.all_forwarded().iter().map(|(&code, count)| (code, count - before.forwarded(code)));
    let requests: Vec<_> = requests.filter(|&(_, count)| count > 0).collect();
    // Shown by `--nocapture`.
    println!("requests by code: {requests:?}");
    (after.round_trips_in_a_row - before.round_trips_in_a_row, result)
}

/// A log with a record in each of its partitions, each round trip to which is slow.
async fn slow_log(harness: &IggyHarness) -> IggyLog<Probe> {
    let mut config = harness.config().await;
    config.topology.partitions = PARTITIONS;
    let log = event_log_iggy::builder(config).open().await.expect("the log opens");
    let mut with_records = std::collections::BTreeSet::new();
    for number in 0.. {
        let ack = log.append_acked(Probe::new(&format!("key-{number}"), number)).await.expect("appended");
        with_records.insert(ack.partition);
        if with_records.len() == PARTITIONS as usize {
            break;
        }
    }
    harness.proxy().await.apply(NetworkFault::Delay(DELAY));
    // The first questions find out that they are slow, and that more connections are worth having.
    for _ in 0..4 {
        log.lag("unknown").await.expect("the lag is known");
        tokio::time::timeout(PATIENCE, log.watermarks()).await.expect("in time").expect("they are known");
    }
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_about_many_partitions_overlap() {
    let harness = IggyHarness::new();
    if harness.ready().is_err() {
        return;
    }
    let log = slow_log(&harness).await;
    let proxy = harness.proxy().await;
    let (watermarks, marks) = round_trips(proxy, log.watermarks()).await;
    let total: u64 = marks.expect("they are known").iter().map(|(_, marks)| marks.high.0).sum();
    println!("round trips in a row: {watermarks} for the watermarks");
    assert_eq!(watermarks, 1, "one request answers for all partitions");

    let (first, reader) = round_trips(proxy, log.consumer("readers")).await;
    let mut reader = reader.expect("a consumer opens");
    read(&mut reader, usize::try_from(total).unwrap()).await;
    let position = reader.position().clone();
    let (commit, committed) = round_trips(proxy, reader.commit(&position)).await;
    committed.expect("the commit succeeds");
    let (seek, sought) = round_trips(proxy, reader.seek(SeekPosition::End)).await;
    sought.expect("the seek succeeds");
    drop(reader);
    let (again, reader) = round_trips(proxy, log.consumer("readers")).await;
    reader.expect("a consumer opens");
    let (lag, known) = round_trips(proxy, log.lag("readers")).await;
    assert_eq!(known.expect("the lag is known").total(), 0);
    println!(
        "round trips in a row: {first} to start a group, {again} to open a consumer, {commit} to commit, \
         {seek} to seek to the end, {lag} for the lag"
    );
    // A connection carries one request at a time, and the server takes a group's offset only over that of the member: one
    // round trip for each partition, one for the last copy, one for the assignment, and one for the cluster's nodes, for
    // which the SDK asks before the first offset that it stores over a connection.
    // One of them asks whether the partitions are still its own: the server does not know what a member knows.
    assert!(commit <= u64::from(PARTITIONS) + 4, "{commit} to commit");
    assert!(seek <= 2, "{seek} to seek to the end");
    assert!(lag <= 4, "{lag} for the lag");
    assert!(again <= 12, "{again} to open a consumer");
    assert!(first <= 36, "{first} to start a group");
}
