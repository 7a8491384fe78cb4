//! Servers that are killed, frozen, moved, or not there yet. Each test has a server to itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use event_log_core::conformance::Probe;
use event_log_core::{
    AppendAck, Connection, EventConsumer, EventLog, EventLogExt, PartitionId, Receipt, Ticket,
};
use event_log_iggy::server::IggyServer;
use event_log_iggy::{Endpoint, IggyConfig, IggyLog};
use event_log_tests::iggy::{Foreign, RawRecord, mend_and_start, new_stream, own_server};
use event_log_tests::proxy::Proxy;

const TOPIC: &str = "events";
const PARTITIONS: u32 = 4;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(server: &IggyServer) -> IggyConfig {
    let mut config = IggyConfig::new(server.endpoint(), new_stream(), TOPIC);
    config.topology.partitions = PARTITIONS;
    config
}

/// The same through a proxy.
async fn behind(proxy: &Proxy, server: &IggyServer) -> IggyConfig {
    let mut config = config(server);
    config.endpoint = Endpoint::new(proxy.address().to_string(), server.endpoint().credentials);
    config
}

async fn open(config: &IggyConfig) -> IggyLog<Probe> {
    event_log_iggy::builder(config.clone()).open().await.expect("the log opens")
}

async fn until(log: &IggyLog<Probe>, mut reached: impl FnMut(&Connection) -> bool) {
    let mut state = log.state();
    let change = tokio::time::timeout(PATIENCE, state.wait_for(|state| reached(&state.connection)));
    drop(change.await.expect("the log notices"));
}

const fn is_away(connection: &Connection) -> bool {
    matches!(connection, Connection::Reconnecting { .. })
}

/// What is really in the log, by partition.
async fn raw(server: &IggyServer, config: &IggyConfig) -> Vec<Vec<RawRecord>> {
    let foreign = Foreign::connect(&server.endpoint(), &config.stream, TOPIC).await;
    let mut partitions = Vec::new();
    for partition in 0..PARTITIONS {
        partitions.push(foreign.read(PartitionId(partition)).await);
    }
    partitions
}

/// Every confirmed event is where its receipt says, once, and nothing else is there.
fn assert_exactly(raw: &[Vec<RawRecord>], committed: &[AppendAck]) {
    let mut places = HashMap::new();
    for (records, partition) in raw.iter().zip(0..) {
        for record in records {
            let before = places.insert(record.id, (partition, record.offset));
            assert_eq!(before, None, "{:x} is in the log twice", record.id);
        }
    }
    for one in committed {
        let place = places.remove(&one.id.as_u128()).unwrap_or_else(|| panic!("{one:?} is lost"));
        if let Some(position) = one.position() {
            assert_eq!(place, (position.partition.0, position.offset.0), "{one:?} is somewhere else");
        }
    }
    assert!(places.is_empty(), "{} records are of nobody's", places.len());
}

/// Events of one key are in the order of their numbers.
fn assert_order(raw: &[Vec<RawRecord>]) {
    let mut last = BTreeMap::new();
    for record in raw.iter().flatten() {
        let probe: Probe = serde_json::from_slice(&record.payload).expect("a probe");
        let before = last.insert(probe.key.clone(), probe.number);
        assert!(before < Some(probe.number), "{:?}: {} after {before:?}", probe.key, probe.number);
    }
}

/// Appends `count` events of one key, some hundred at a time.
async fn produce(log: IggyLog<Probe>, key: String, count: u64) -> Vec<AppendAck> {
    let mut committed = Vec::new();
    let mut numbers = 0..count;
    while !numbers.is_empty() {
        let batch = numbers.by_ref().take(250).map(|number| Probe::new(&key, number)).collect();
        for receipt in log.append_batch(batch).await.expect("the batch is accepted") {
            committed.push(Receipt::acked(receipt).await.expect("the event is appended"));
        }
    }
    committed
}

/// Reads and commits until `count` different events have come. Returns the ids of all that came.
async fn consume(mut reader: Box<dyn EventConsumer<Probe>>, count: usize) -> Vec<u128> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match reader.poll(1_000, Duration::from_secs(5)).await {
            Ok(batch) => {
                seen.extend(batch.records.iter().map(|record| record.id.as_u128()));
                // What is not stored now is stored with the next one.
                let _away = reader.commit(batch.cursor()).await;
            }
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_amid_100_000_appends_loses_nothing_and_doubles_nothing() {
    const PRODUCERS: u64 = 8;
    const EACH: u64 = 12_500;

    let Some(server) = own_server().await else { return };
    let config = config(&server);
    let log = open(&config).await;
    let reader = log.consumer("readers").await.expect("a consumer opens");
    let reading = tokio::spawn(consume(reader, (PRODUCERS * EACH) as usize));
    let producing: Vec<_> = (0..PRODUCERS)
        .map(|producer| tokio::spawn(produce(log.clone(), format!("session-{producer}"), EACH)))
        .collect();
    for part in [4, 2] {
        // In the middle of it, as the log itself says.
        while log.watermarks().await.map_or(0, |marks| marks.iter().map(|(_, marks)| marks.high.0).sum())
            < PRODUCERS * EACH / part
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill().await.expect("the server is killed");
        until(&log, is_away).await;
        mend_and_start(&server).await.expect("the server starts");
    }
    let mut committed = Vec::new();
    for producer in producing {
        committed.extend(producer.await.expect("the producer ends"));
    }
    let mut seen = reading.await.expect("the consumer ends");

    let raw = raw(&server, &config).await;
    assert_exactly(&raw, &committed);
    assert_order(&raw);
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), all), (committed.len(), committed.len()), "each event is read, and once");
    log.close(PATIENCE).await.expect("nothing is left");
    server.stop().await.expect("the server stops");
}

#[tokio::test]
async fn few_confirmed_events_survive_a_kill() {
    let Some(server) = own_server().await else { return };
    let config = config(&server);
    let log = open(&config).await;
    let mut committed = Vec::new();
    // Far fewer than a partition gathers before it writes, unless it is told to write at once.
    for number in 0..50 {
        let event = Probe::new(&format!("key-{}", number % 7), number);
        committed.push(log.append_acked(event).await.expect("it is appended"));
    }
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    let batch = reader.poll(1_000, PATIENCE).await.expect("a batch");
    reader.commit(batch.cursor()).await.expect("the commit succeeds");
    server.kill().await.expect("the server is killed");
    mend_and_start(&server).await.expect("the server starts");

    assert_exactly(&raw(&server, &config).await, &committed);
    // What was committed is committed, and the offsets go on.
    let again = open(&config).await;
    let mut second = again.consumer("readers").await.expect("a consumer opens");
    let left = 50 - batch.len();
    let mut rest = 0;
    while rest < left {
        rest += second.poll(1_000, PATIENCE).await.expect("a batch").len();
    }
    assert_eq!(rest, left);
    committed.push(again.append_acked(Probe::new("key-0", 50)).await.expect("it is appended"));
    assert_exactly(&raw(&server, &config).await, &committed);
}

#[tokio::test]
async fn what_is_appended_before_there_is_a_server_arrives_in_order() {
    let Some(server) = own_server().await else { return };
    let config = config(&server);
    server.kill().await.expect("the server is killed");

    let log = open(&config).await;
    assert!(is_away(&log.state().current().connection), "a server that is away is no error");
    let tickets: Vec<Ticket<Probe>> = (0..200)
        .map(|number| log.submit(Probe::new(&format!("key-{}", number % 5), number)).expect("it is buffered"))
        .collect();
    let receipt = log.append(Probe::new("key-0", 200)).await.expect("it is buffered");
    assert!(receipt.is_buffered());
    mend_and_start(&server).await.expect("the server starts");
    let mut committed = Vec::new();
    for ticket in tickets {
        committed.push(ticket.await.expect("it is appended"));
    }
    committed.push(receipt.acked().await.expect("it is appended"));
    let raw = raw(&server, &config).await;
    assert_exactly(&raw, &committed);
    assert_order(&raw);
}

#[tokio::test]
async fn a_server_that_comes_back_on_another_port_is_found_behind_its_address() {
    let Some(server) = own_server().await else { return };
    let proxy = Proxy::start(server.tcp_address()).await.expect("there is a port");
    let config = behind(&proxy, &server).await;
    let log = open(&config).await;
    let mut committed = vec![log.append_acked(Probe::new("k", 0)).await.expect("it is appended")];
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    server.restart_on_another_port().await.expect("the server moves");
    until(&log, is_away).await;
    proxy.set_target(server.tcp_address());
    committed.push(log.append_acked(Probe::new("k", 1)).await.expect("it is appended"));
    assert_exactly(&raw(&server, &config).await, &committed);
    assert_eq!(poll_all(&mut reader, 2).await, [0, 1]);
}

/// Reads until so many have come, through lost connections.
async fn poll_all(reader: &mut Box<dyn EventConsumer<Probe>>, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        match reader.poll(count - numbers.len(), PATIENCE).await {
            Ok(batch) => numbers.extend(batch.into_events().map(|probe| probe.number)),
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    numbers
}

#[tokio::test]
async fn a_login_that_is_refused_for_a_while_is_tried_again() {
    let (Some(server), Some(stranger)) = (own_server().await, own_server().await) else { return };
    let proxy = Proxy::start(server.tcp_address()).await.expect("there is a port");
    let mut config = behind(&proxy, &server).await;
    config.producer.reconnect.initial = Duration::from_millis(50);
    config.producer.reconnect.max = Duration::from_millis(200);
    let log = open(&config).await;
    // Our password is not the stranger's.
    proxy.set_target(stranger.tcp_address());
    proxy.interrupt();
    let ticket = log.submit(Probe::new("k", 0)).expect("it is taken");
    until(&log, |connection| matches!(connection, Connection::Reconnecting { attempt: 3.., .. })).await;
    proxy.set_target(server.tcp_address());
    let committed = ticket.await.expect("it is appended");
    assert_exactly(&raw(&server, &config).await, &[committed]);
}

#[tokio::test]
async fn a_server_that_hangs_delays_its_events_and_nobody_else() {
    let Some(server) = own_server().await else { return };
    let mut config = config(&server);
    config.request_timeout = Duration::from_secs(1);
    config.connect_timeout = Duration::from_secs(1);
    let log = open(&config).await;
    let mut committed = vec![log.append_acked(Probe::new("k", 0)).await.expect("it is appended")];
    server.pause().await.expect("the server is frozen");
    let under_way = log.append(Probe::new("k", 1));
    let receipt = tokio::time::timeout(PATIENCE, under_way).await.expect("it does not wait for ever");
    let receipt = receipt.expect("it is not lost");
    assert!(receipt.is_buffered(), "{receipt:?}");
    let ticket = log.submit(Probe::new("k", 2)).expect("it is buffered");
    server.resume().await.expect("the server goes on");
    // The request from before the freeze arrives after all, and is found.
    committed.push(receipt.acked().await.expect("it is appended"));
    committed.push(ticket.await.expect("it is appended"));
    let raw = raw(&server, &config).await;
    assert_exactly(&raw, &committed);
    assert_order(&raw);
}

#[tokio::test]
async fn a_killed_server_keeps_its_consumers_waiting_and_then_goes_on() {
    let Some(server) = own_server().await else { return };
    let config = config(&server);
    let log = Arc::new(open(&config).await);
    log.append_acked(Probe::new("k", 0)).await.expect("it is appended");
    let mut reader = log.consumer("readers").await.expect("a consumer opens");
    assert_eq!(poll_all(&mut reader, 1).await, [0]);
    server.kill().await.expect("the server is killed");
    let blind = loop {
        match reader.poll(1, Duration::ZERO).await {
            Ok(batch) => assert!(batch.is_empty(), "{batch:?}"),
            Err(error) => break error,
        }
    };
    assert!(blind.is_retryable(), "{blind:?}");
    mend_and_start(&server).await.expect("the server starts");
    log.append_acked(Probe::new("k", 1)).await.expect("it is appended");
    // What was delivered and not committed is not delivered again to the same consumer.
    assert_eq!(poll_all(&mut reader, 1).await, [1]);
    let position = reader.position().clone();
    reader.commit(&position).await.expect("committing works again");
}
