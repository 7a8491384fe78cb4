//! What an application meets on a real server: many producers, bad input, strangers, and other processes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use event_log_core::conformance::{Harness, Probe};
use event_log_core::{
    AppendErrorKind, EventConsumer, EventLog, EventLogExt, Notice, PartitionId, Receipt, SubmitErrorKind,
};
use event_log_iggy::limits::CONNECTIONS;
use event_log_iggy::{Credentials, Durability, IggyConfig, IggyLog, Topology};
use event_log_tests::iggy::{Foreign, IggyHarness};
use iggy_binary_protocol::codes::{PING_CODE, POLL_MESSAGES_CODE, SEND_MESSAGES_CODE};

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A harness, unless there is no server.
fn harness() -> Option<IggyHarness> {
    let harness = IggyHarness::new();
    harness.ready().ok().map(|()| harness)
}

async fn open(config: &IggyConfig) -> IggyLog<Probe> {
    event_log_iggy::builder(config.clone()).open().await.expect("the log opens")
}

/// Reads until so many records have come.
async fn read(reader: &mut Box<dyn EventConsumer<Probe>>, count: usize) -> Vec<Result<u64, usize>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = reader.poll(count - seen.len(), PATIENCE).await.expect("a batch");
        assert!(!batch.is_empty(), "only {} of {count} have come", seen.len());
        seen.extend(batch.records.into_iter().map(|record| {
            record.event.map(|probe| probe.number).map_err(|undecodable| undecodable.payload.len())
        }));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_producers_on_one_handle_share_their_requests() {
    const PRODUCERS: u64 = 1_000;
    const EACH: u64 = 10;

    let Some(harness) = harness() else { return };
    let config = harness.config().await;
    let log = open(&config).await;
    let before = harness.proxy().await.requests(SEND_MESSAGES_CODE);
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut places = Vec::new();
                for number in 0..EACH {
                    let event = Probe::new(&format!("producer-{producer}"), number);
                    places.push(log.append_acked(event).await.expect("it is appended").position());
                }
                places
            })
        })
        .collect();
    let mut places = BTreeSet::new();
    for producer in producers {
        let mine = producer.await.expect("the producer ends");
        assert!(mine.is_sorted(), "a producer's events are in order: {mine:?}");
        for place in mine {
            assert!(places.insert(place.expect("the log says where")), "two events have one place");
        }
    }
    let requests = harness.proxy().await.requests(SEND_MESSAGES_CODE) - before;
    // One round trip for each event would be one request for each.
    assert!(requests < PRODUCERS * EACH / 10, "{requests} requests for {} events", PRODUCERS * EACH);

    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    assert_eq!(read(&mut reader, (PRODUCERS * EACH) as usize).await.len(), (PRODUCERS * EACH) as usize);
}

#[tokio::test]
async fn a_lone_append_costs_one_round_trip() {
    let Some(harness) = harness() else { return };
    let log = open(&harness.config().await).await;
    log.append_acked(Probe::new("k", 0)).await.expect("it is appended");
    let proxy = harness.proxy().await;
    let before = proxy.counts();
    for number in 1..=20 {
        log.append_acked(Probe::new("k", number)).await.expect("it is appended");
    }
    let after = proxy.counts();
    let asked: BTreeMap<_, _> = after
        .all_forwarded()
        .iter()
        .map(|(&code, &count)| (code, count - before.forwarded(code)))
        // An idle producer looks after its connection.
        .filter(|&(code, count)| count > 0 && code != PING_CODE)
        .collect();
    assert_eq!(asked, [(SEND_MESSAGES_CODE, 20)].into(), "nothing else is asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_partitions_are_written_over_several_connections_which_are_lost_together() {
    let Some(harness) = harness() else { return };
    let log = open(&harness.config().await).await;
    let proxy = harness.proxy().await;
    log.append_acked(Probe::new("k", 0)).await.expect("it is appended");
    let alone = proxy.counts().accepted;
    // Many keys, so that every round has several partitions; until all connections are there.
    let mut number = 1;
    while proxy.counts().accepted < alone + CONNECTIONS as u64 - 1 {
        let mut batch = (number..number + 64).map(|number| Probe::new(&format!("key-{number}"), number));
        log.append_all(&mut batch).await.expect("they are appended");
        number += 64;
    }
    proxy.lose_replies(1);
    let tickets: Vec<_> = (number..number + 200)
        .map(|number| log.submit(Probe::new(&format!("key-{}", number % 20), number)).expect("there is room"))
        .collect();
    let mut places = BTreeSet::new();
    for ticket in tickets {
        let place = ticket.await.expect("it is appended").position().expect("the log says where");
        assert!(places.insert(place), "two events have one place");
    }
    assert_eq!(proxy.counts().replies_lost, 1);
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    let seen: BTreeSet<_> = read(&mut reader, number as usize + 200).await.into_iter().collect();
    assert_eq!(seen, (0..number + 200).map(Ok).collect(), "each of them once");
    let marks = log.watermarks().await.expect("they are known");
    let high: u64 = marks.iter().map(|(_, marks)| marks.high.0).sum();
    assert_eq!(high, number + 200, "in the log too");
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_wrong() {
    let Some(harness) = harness() else { return };
    let mut config = harness.config().await;
    config.endpoint.credentials = Credentials::password("iggy", "hunter2-hunter2");
    let error = event_log_iggy::builder::<Probe>(config).open().await.expect_err("it is refused");
    assert!(matches!(error, event_log_core::Error::Unauthorized(_)), "{error:?}");
    assert!(!error.is_retryable() && !error.may_have_taken_effect());
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn another_topology_is_said_to_be_another() {
    let Some(harness) = harness() else { return };
    let config = harness.config().await;
    drop(open(&config).await);
    let mismatch = async |change: fn(&mut Topology)| {
        let mut other = config.clone();
        change(&mut other.topology);
        match event_log_iggy::builder::<Probe>(other).open().await {
            Err(event_log_core::Error::TopologyMismatch { property, .. }) => property,
            other => panic!("{:?}", other.map(drop)),
        }
    };
    assert_eq!(mismatch(|topology| topology.partitions = 3).await, "partitions");
    let day = |topology: &mut Topology| topology.retention.max_age = Some(Duration::from_secs(86_400));
    assert_eq!(mismatch(day).await, "retention.max_age");
    let size = |topology: &mut Topology| topology.retention.max_bytes = Some(8 << 30);
    assert_eq!(mismatch(size).await, "retention.max_bytes");
    let weaker = |topology: &mut Topology| topology.durability = Durability::Replicated;
    assert_eq!(mismatch(weaker).await, "durability");
    drop(open(&config).await);
    // And a topic that was made with all of them is found again as it is.
    let mut other = config.clone();
    other.topic = "other".to_owned();
    [day as fn(&mut Topology), size, weaker].iter().for_each(|change| change(&mut other.topology));
    drop(open(&other).await);
    drop(open(&other).await);
}

#[tokio::test]
async fn an_event_of_100_megabytes_comes_back_and_disturbs_nobody() {
    let Some(harness) = harness() else { return };
    let log = open(&harness.config().await).await;
    let error = log.append(Probe::new("k", 0).padded(100_000_000)).await.expect_err("it is too large");
    let AppendErrorKind::Rejected(SubmitErrorKind::TooLarge { bytes, limit }) = error.kind() else {
        panic!("{error:?}");
    };
    assert!(*bytes > 100_000_000 && *limit < *bytes);
    assert_eq!(error.into_event().padding.len(), 100_000_000, "the event comes back whole");
    // As large as it may be, and several of them waiting: no frame may become too large for the server.
    let large: Vec<_> = (1..=6).map(|number| Probe::new("k", number).padded(8_000_000)).collect();
    for receipt in log.append_batch(large).await.expect("they are taken") {
        Receipt::acked(receipt).await.expect("it is appended");
    }
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    assert_eq!(read(&mut reader, 6).await, (1..=6).map(Ok).collect::<Vec<_>>());
}

#[tokio::test]
async fn strangers_may_write_anything_over_tcp_and_http() {
    let Some(harness) = harness() else { return };
    let mut config = harness.config().await;
    config.topology.partitions = 1;
    let log = open(&config).await;
    log.append_acked(Probe::new("k", 0)).await.expect("it is appended");
    let foreign: Foreign = harness.foreign().await;
    foreign.send(PartitionId(0), b"\xff\xfe not an event"[..].into()).await;
    let known = serde_json::to_vec(&Probe::new("k", 1)).expect("a probe can be written");
    harness.http_send(&known).await;
    harness.http_send(b"{\"not\": \"an event\"}").await;
    log.append_acked(Probe::new("k", 2)).await.expect("it is appended");
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    assert_eq!(read(&mut reader, 5).await, [Ok(0), Err(15), Ok(1), Err(19), Ok(2)]);
    let position = reader.position().clone();
    reader.commit(&position).await.expect("the commit succeeds");
}

#[tokio::test]
async fn a_topic_purged_under_a_consumer_is_told_and_read_on() {
    let Some(harness) = harness() else { return };
    let log = open(&harness.config().await).await;
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    for number in 0..40 {
        log.append_acked(Probe::new(&format!("key-{number}"), number)).await.expect("it is appended");
    }
    read(&mut reader, 40).await;
    harness.foreign().await.purge().await;
    for number in 40..48 {
        log.append_acked(Probe::new(&format!("key-{number}"), number)).await.expect("it is appended");
    }
    let (mut seen, mut truncated) = (BTreeSet::new(), BTreeMap::new());
    while seen.len() < 8 {
        let batch = reader.poll(100, PATIENCE).await.expect("a batch");
        for notice in &batch.notices {
            if let Notice::Truncated { partition, .. } = notice {
                *truncated.entry(*partition).or_insert(0) += 1;
            }
        }
        seen.extend(batch.into_events().map(|probe| probe.number));
    }
    assert_eq!(seen, (40..48).collect(), "what came after the purge is read");
    assert!(!truncated.is_empty() && truncated.values().all(|&times| times == 1), "{truncated:?}");
}

#[tokio::test]
async fn large_records_behind_many_small_ones_are_read() {
    const SMALL: u64 = 2_000;
    const LARGE: u64 = 16;

    let Some(harness) = harness() else { return };
    let mut config = harness.config().await;
    config.topology.partitions = 1;
    let log = open(&config).await;
    let small = (0..SMALL).map(|number| Probe::new("k", number)).collect();
    for receipt in log.append_batch(small).await.expect("they are taken") {
        Receipt::acked(receipt).await.expect("it is appended");
    }
    // Together more than the server can put into one answer.
    for number in SMALL..SMALL + LARGE {
        log.append_acked(Probe::new("k", number).padded(8_000_000)).await.expect("it is appended");
    }
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    let mut seen = Vec::new();
    let reading = async {
        while seen.len() < (SMALL + LARGE) as usize {
            match reader.poll(1_000, PATIENCE).await {
                Ok(batch) => seen.extend(batch.into_events().map(|probe| probe.number)),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("they come");
    assert_eq!(seen, (0..SMALL + LARGE).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_retention_has_removed_is_said_to_be_missing() {
    let Some(harness) = harness() else { return };
    harness.foreign().await.create_topic_of_segments(1 << 20).await;
    let mut config = harness.config().await;
    config.topology.partitions = 1;
    let log = open(&config).await;
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    for number in 0..60 {
        log.append_acked(Probe::new("k", number).padded(50_000)).await.expect("it is appended");
    }
    // Before the reader has read anything, since what it had fetched ahead would be good.
    harness.foreign().await.delete_oldest_segment().await;
    let low = log.watermarks().await.expect("they are known").get(PartitionId(0)).expect("a partition").low;
    assert!(low.0 > 1, "something is gone: {low}");
    let mut other = log.consumer("others").await.expect("a consumer opens");
    assert_eq!(other.position().get(PartitionId(0)), Some(low), "whoever begins now begins there");
    let (mut seen, mut missing) = (Vec::new(), Vec::new());
    while seen.last() != Some(&59) {
        let batch = reader.poll(100, PATIENCE).await.expect("a batch");
        for notice in &batch.notices {
            if let Notice::Missing { from, resumed_at, .. } = notice {
                missing.push(from.0..resumed_at.0);
            }
        }
        seen.extend(batch.into_events().map(|probe| probe.number));
    }
    assert_eq!((missing.len(), missing.first()), (1, Some(&(0..low.0))), "said once, and in full");
    // Every record was read, or is said to be missing.
    let mut accounted: Vec<_> = seen.into_iter().chain(missing.into_iter().flatten()).collect();
    accounted.sort_unstable();
    assert_eq!(accounted, (0..60).collect::<Vec<_>>());
    assert_eq!(read(&mut other, 60 - low.0 as usize).await.len(), 60 - low.0 as usize);
}

#[tokio::test]
async fn a_consumer_that_waits_behind_a_cut_does_not_ask_all_the_time() {
    let Some(harness) = harness() else { return };
    let mut config = harness.config().await;
    config.topology.partitions = 1;
    let log = open(&config).await;
    for number in 0..20 {
        log.append_acked(Probe::new("k", number)).await.expect("it is appended");
    }
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    read(&mut reader, 20).await;
    let foreign = harness.foreign().await;
    foreign.purge().await;
    let known = serde_json::to_vec(&Probe::new("k", 20)).expect("a probe can be written");
    foreign.send(PartitionId(0), known.into()).await;
    assert_eq!(read(&mut reader, 1).await, [Ok(20)]);
    // The end that this handle knew is beyond what there is.
    let before = harness.proxy().await.requests(POLL_MESSAGES_CODE);
    let batch = reader.poll(10, Duration::from_secs(1)).await.expect("a batch");
    assert!(batch.is_empty(), "{batch:?}");
    let polls = harness.proxy().await.requests(POLL_MESSAGES_CODE) - before;
    assert!(polls < 20, "{polls} polls in a second of waiting");
}

#[tokio::test]
async fn whoever_is_behind_asks_ahead_and_for_more_each_time() {
    const EVENTS: usize = 16_000;

    let Some(harness) = harness() else { return };
    let log = open(&harness.config().await).await;
    let mut events = (0..EVENTS as u64).map(|number| Probe::new("k", number));
    log.append_all(&mut events).await.expect("they are appended");
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    let proxy = harness.proxy().await;
    read(&mut reader, 128).await;
    let before = proxy.requests(POLL_MESSAGES_CODE);
    read(&mut reader, 128).await;
    // One that was asked for, and one that nobody has waited for.
    let asks_ahead = proxy.until(|counts| counts.received(POLL_MESSAGES_CODE) >= before + 2);
    tokio::time::timeout(PATIENCE, asks_ahead).await.expect("it asks ahead");
    for _ in 2..EVENTS / 128 {
        read(&mut reader, 128).await;
    }
    let polls = proxy.requests(POLL_MESSAGES_CODE) - before;
    assert!(polls < 16, "{polls} requests for {EVENTS} records, of which 4,096 fit in one");
}

/// A consumer in a process of its own, which does what it is told on its standard input.
struct OtherProcess {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Where the other process finds its log.
const OTHER: &str = "EVENT_LOG_TESTS_OTHER_PROCESS";

impl OtherProcess {
    fn start(config: &IggyConfig) -> Self {
        let Credentials::Password { username, password } = config.endpoint.credentials.clone() else {
            panic!("the server's own user has a password");
        };
        let password = secrecy::ExposeSecret::expose_secret(&password).to_owned();
        let address = config.endpoint.addresses.first().expect("an address");
        let url = format!("iggy://{username}:{password}@{address}/{}/{}", config.stream, config.topic);
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "the_other_process", "--nocapture", "--quiet"])
            .env(OTHER, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let orders = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, orders, answers }
    }

    /// Gives an order, and returns the answer.
    fn tell(&mut self, order: &str) -> Vec<u64> {
        writeln!(self.orders, "{order}").expect("it listens");
        loop {
            let mut line = String::new();
            assert!(
                self.answers.read_line(&mut line).expect("it answers") > 0,
                "the other process has ended"
            );
            // What the test harness prints is not for us.
            if let Some(answer) = line.trim().strip_prefix("answer:") {
                return answer.split_whitespace().map(|number| number.parse().expect("a number")).collect();
            }
        }
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test by itself: the body of the other process.
#[tokio::test]
async fn the_other_process() {
    let Ok(url) = std::env::var(OTHER) else { return };
    let log = event_log_iggy::open::<Probe>(&url).await.expect("the log opens");
    let mut reader = log.consumer("shared").await.expect("a consumer opens");
    let mut orders = std::io::stdin().lines();
    while let Some(Ok(order)) = orders.next() {
        let answer = match order.as_str() {
            "share" => {
                drop(reader.end().await);
                vec![reader.position().len() as u64]
            }
            "read" => {
                let batch = reader.poll(1_000, Duration::ZERO).await.expect("a batch");
                batch.into_events().map(|probe| probe.number).collect()
            }
            "commit" => {
                let position = reader.position().clone();
                reader.commit(&position).await.expect("the commit succeeds");
                Vec::new()
            }
            other => panic!("{other:?} is no order"),
        };
        let answer: Vec<_> = answer.iter().map(u64::to_string).collect();
        println!("\nanswer: {}", answer.join(" "));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_a_group_and_one_inherits_from_the_other() {
    let Some(harness) = harness() else { return };
    let config = harness.config().await;
    let log = Arc::new(open(&config).await);
    let mut ours = log.consumer("shared").await.expect("a consumer opens");
    let mut other = OtherProcess::start(&config);
    while (ours.position().len(), other.tell("share")) != (4, vec![4]) {
        drop(ours.end().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let append = async |numbers: std::ops::Range<u64>| {
        let events = numbers.map(|number| Probe::new(&format!("key-{number}"), number)).collect();
        for receipt in log.append_batch(events).await.expect("the batch is taken") {
            Receipt::acked(receipt).await.expect("it is appended");
        }
    };
    append(0..400).await;
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    while mine.len() + theirs.len() < 400 {
        let batch = ours.poll(1_000, Duration::ZERO).await.expect("a batch");
        mine.extend(batch.into_events().map(|probe| probe.number));
        theirs.extend(other.tell("read"));
    }
    assert!(!mine.is_empty() && !theirs.is_empty(), "both have something to do");
    let all: BTreeSet<_> = mine.iter().chain(&theirs).copied().collect();
    assert_eq!(all, (0..400).collect(), "each record went to one of them");
    let position = ours.position().clone();
    ours.commit(&position).await.expect("the commit succeeds");
    other.tell("commit");

    // What it reads now it does not commit before it dies.
    append(400..600).await;
    let mut uncommitted = BTreeSet::new();
    while uncommitted.is_empty() {
        uncommitted.extend(other.tell("read"));
    }
    other.child.kill().expect("it is killed");
    let mut rest = BTreeSet::new();
    while rest.len() < 200 {
        let batch = ours.poll(1_000, PATIENCE).await.expect("a batch");
        for number in batch.into_events().map(|probe| probe.number) {
            assert!(number >= 400, "{number} was committed");
            assert!(rest.insert(number), "{number} came twice");
        }
    }
    assert!(uncommitted.is_subset(&rest), "what the other has read and not committed comes to us");
}
