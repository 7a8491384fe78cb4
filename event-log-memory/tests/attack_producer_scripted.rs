//! Random work of a producer on a log with several connections whose requests are refused, arrive in part, or are
//! answered late or without a position; each outcome compared with what the log really holds.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, clippy::allow_attributes_without_reason)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use event_log_core::engine::{
    Assignments, CommitMode, Connect, FetchRequest, FetchResponse, GroupMember, KnownEnd, LogBuilder,
    Message, ProducerConnection, SendError, StoredMessage, Transport, TransportLog, TransportProperties,
};
use event_log_core::{
    AppendErrorKind, CommitErrorKind, Error, EventLog as _, JsonCodec, Offset, Overflow, PartitionId,
    PartitionWatermarks, Partitionable, ProducerConfig, ReconnectPolicy, SubmitErrorKind, Ticket, Timestamp,
    Watermarks, partition_of,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

const PARTITIONS: u32 = 3;
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Event {
    partition: u32,
    number: u64,
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
            .into_iter()
            .find(|key| partition_of(key, PARTITIONS) == PartitionId(self.partition))
    }
}

struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.next(choices.len() as u64) as usize].clone()
    }
}

struct State {
    chance: Chance,
    records: Vec<Vec<StoredMessage>>,
    /// The connection that is good: those of an earlier epoch are cut.
    epoch: u64,
    /// Whether faults happen.
    is_hostile: bool,
    down: bool,
    in_flight: HashSet<PartitionId>,
}

struct Server {
    connections: usize,
    says_where: bool,
    /// It copies what it is given, as a log over a network does, and requests to partition 0 are never answered.
    hangs: bool,
    state: Mutex<State>,
}

fn away() -> Error {
    Error::Unavailable(None)
}

struct Scripted(Arc<Server>);

struct Connection {
    server: Arc<Server>,
    epoch: u64,
}

impl Server {
    async fn slow(&self) {
        let wait = {
            let mut state = self.state.lock();
            if state.is_hostile { state.chance.of(&[0, 0, 1, 50, 2_000]) } else { 0 }
        };
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
    }

    fn append(&self, partition: PartitionId, messages: &[Message]) {
        let records = &mut self.state.lock().records[partition.0 as usize];
        for message in messages {
            records.push(StoredMessage {
                offset: Offset(records.len() as u64),
                id: message.id,
                timestamp: Timestamp(0),
                headers: message.headers.clone(),
                payload: message.payload.clone(),
            });
        }
    }

    fn fails(&self, one_in: u64) -> bool {
        let mut state = self.state.lock();
        state.down || state.is_hostile && state.chance.next(one_in) == 0
    }
}

impl Transport for Scripted {
    type Producer = Connection;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(PARTITIONS);
        (properties.connections, properties.reads_ahead) = (self.0.connections, self.0.says_where);
        properties
    }

    async fn connect(&self, purpose: Connect) -> Result<Connection, Error> {
        self.0.slow().await;
        if self.0.fails(4) {
            return Err(away());
        }
        let mut state = self.0.state.lock();
        if purpose == Connect::Only {
            // What was sent over earlier ones does not arrive any more.
            state.epoch += 1;
            state.in_flight.clear();
        }
        Ok(Connection { server: Arc::clone(&self.0), epoch: state.epoch })
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Err(away())
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.0.slow().await;
        if self.0.fails(8) {
            return Err(away());
        }
        let state = self.0.state.lock();
        let marks =
            |records: &Vec<_>| PartitionWatermarks { low: Offset::ZERO, high: Offset(records.len() as u64) };
        Ok(Watermarks::new(state.records.iter().map(marks).collect()))
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        Ok(vec![Offset::ZERO; times.len()])
    }

    async fn committed(&self, _: &str) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        Ok((0..PARTITIONS).map(|_| Ok(None)).collect())
    }

    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

fn number(message: &Message) -> u64 {
    serde_json::from_slice::<Event>(&message.payload).unwrap().number
}

impl ProducerConnection for Connection {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        if self.server.hangs && partition.0 == 0 {
            std::future::pending::<()>().await;
        }
        if self.server.hangs {
            return Ok(Some(Offset::ZERO));
        }
        assert!(self.server.state.lock().in_flight.insert(partition), "one request of a partition at a time");
        self.server.slow().await;
        let lost = |may_have_taken_effect| SendError::Lost { error: away(), may_have_taken_effect };
        let (arrives, result) = {
            let mut state = self.server.state.lock();
            let is_cut = state.epoch != self.epoch || state.down;
            let fate = if state.is_hostile { state.chance.next(8) } else { 7 };
            state.in_flight.remove(&partition);
            if is_cut {
                (0, Err(lost(false)))
            } else if messages.iter().any(|message| number(message) % 5 == 0) {
                (0, Err(SendError::Refused(Error::invalid("event", "is not liked"))))
            } else {
                match fate {
                    0 => (0, Err(lost(false))),
                    1 => (0, Err(lost(true))),
                    2 => (messages.len(), Err(lost(true))),
                    3 => (messages.len() / 2, Err(lost(true))),
                    _ => {
                        let base = Offset(state.records[partition.0 as usize].len() as u64);
                        (messages.len(), Ok(self.server.says_where.then_some(base)))
                    }
                }
            }
        };
        self.server.append(partition, &messages[..arrives]);
        self.server.slow().await;
        result
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.server.slow().await;
        if self.server.fails(8) {
            return Err(away());
        }
        let mut state = self.server.state.lock();
        let most = state.chance.of(&[1, 2, 1_000]).min(request.max_records);
        let records = &state.records[request.partition.0 as usize];
        let records = records.iter().skip(request.from.0 as usize).take(most).cloned().collect();
        Ok(FetchResponse { records, ..FetchResponse::default() })
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }
}

struct NoMember;

impl GroupMember for NoMember {
    async fn assignments(&self, _: Option<u64>) -> Result<Option<Assignments>, Error> {
        Ok(None)
    }

    async fn fetch(&self, _: FetchRequest) -> Result<FetchResponse, Error> {
        Ok(FetchResponse::default())
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        _: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        places.iter().map(|_| Ok(())).collect()
    }

    async fn wait(&self, _: &[KnownEnd], _: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        tokio::time::sleep_until(deadline).await;
        Vec::new()
    }

    async fn leave(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn state(seed: u64) -> State {
    State {
        chance: Chance(seed),
        records: vec![Vec::new(); PARTITIONS as usize],
        epoch: 0,
        is_hostile: true,
        down: false,
        in_flight: HashSet::new(),
    }
}

async fn run(seed: u64) {
    let mut chance = Chance(seed);
    let state = state(seed ^ 0xabcd);
    let (connections, says_where) = (chance.of(&[1, 2, 4]), chance.next(3) > 0);
    let server = Arc::new(Server { connections, says_where, hangs: false, state: Mutex::new(state) });
    let mut config = ProducerConfig::default();
    (config.buffer_events, config.request_events) = (chance.of(&[1, 5, 10_000]), chance.of(&[1, 3, 1_024]));
    let block = Overflow::Block { deadline: Duration::from_secs(2) };
    config.overflow = chance.of(&[Overflow::DropOldest, Overflow::Reject, block]);
    config.expiry = chance.of(&[None, None, Some(Duration::from_secs(3)), Some(Duration::from_millis(100))]);
    config.reconnect = ReconnectPolicy::new(Duration::from_millis(10), Duration::from_millis(100));
    let expiry = config.expiry;
    let log: TransportLog<Event, Scripted> = LogBuilder::new(Arc::new(JsonCodec))
        .config(config)
        .seed(seed)
        .open(Arc::new(Scripted(server.clone())))
        .await
        .unwrap();
    let mut tickets: BTreeMap<u64, (u32, Result<Ticket<Event>, ()>)> = BTreeMap::new();
    let mut number = 0;
    for _ in 0..chance.of(&[10, 50, 200]) {
        match chance.next(8) {
            0..=4 => {
                let partition = chance.next(u64::from(PARTITIONS)) as u32;
                let ticket = log.submit(Event { partition, number });
                if let Err(error) = &ticket {
                    assert!(matches!(error.kind, SubmitErrorKind::Full));
                }
                tickets.insert(number, (partition, ticket.map_err(drop)));
                number += 1;
            }
            5 => {
                let down = chance.next(4) == 0;
                let mut state = server.state.lock();
                state.down = down;
                if down {
                    state.epoch += 1;
                    state.in_flight.clear();
                }
            }
            6 => drop(timeout(Duration::from_millis(300), log.flush()).await),
            _ => sleep(Duration::from_millis(chance.of(&[0, 1, 20, 1_000]))).await,
        }
    }
    let is_gentle = chance.next(2) == 0;
    if is_gentle {
        {
            let mut state = server.state.lock();
            (state.is_hostile, state.down) = (false, false);
        }
        timeout(HOUR, log.flush()).await.expect("the flush ends").unwrap();
    }
    let deadline = Duration::from_millis(chance.of(&[0, 10, 5_000]));
    let left = timeout(HOUR, log.close(deadline)).await.expect("closing ends").err();
    assert!(!is_gentle || left.is_none());
    let mut copies: HashMap<u64, Vec<u64>> = HashMap::new();
    for (partition, records) in (0..).zip(&server.state.lock().records) {
        let mut last = None;
        for record in records {
            let event: Event = serde_json::from_slice(&record.payload).unwrap();
            assert_eq!(event.partition, partition);
            assert!(Some(event.number) > last, "seed {seed}: {} is behind {last:?}", event.number);
            last = Some(event.number);
            copies.entry(event.number).or_default().push(record.offset.0);
        }
    }
    for (number, (partition, ticket)) in tickets {
        let there = copies.get(&number).cloned().unwrap_or_default();
        assert!(there.len() <= 1, "seed {seed}: {number} is there {} times", there.len());
        let Ok(ticket) = ticket else {
            assert!(there.is_empty());
            continue;
        };
        match ticket.try_outcome().expect("it is resolved") {
            Ok(ack) => {
                assert_eq!(ack.partition.0, partition);
                assert!(
                    there.len() == 1 && ack.offset.is_none_or(|offset| there == [offset.0]),
                    "seed {seed}: {number}"
                );
            }
            Err(error) if error.may_have_taken_effect() => {
                // One that is refused when it is sent again: what became of it before was not waited for.
                let is_refused = matches!(error.kind(), AppendErrorKind::Unknown(Some(_))) && number % 5 == 0;
                assert!(!is_gentle || expiry.is_some() || is_refused, "seed {seed}: {number} {error:?}");
            }
            Err(error) => {
                assert!(there.is_empty(), "seed {seed}: {number} {error:?} is at {there:?}");
                if matches!(error.kind(), AppendErrorKind::Refused(_)) {
                    assert_eq!(number % 5, 0);
                }
            }
        }
    }
}

#[test]
fn a4_every_outcome_on_several_connections_is_what_the_log_holds() {
    let from = std::env::var("SEED").map_or(0, |seed| seed.parse().unwrap());
    let count = std::env::var("SEEDS").map_or(500, |seeds| seeds.parse().unwrap());
    for seed in from..from + count {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed))));
        assert!(ran.is_ok(), "seed {seed}");
    }
}

#[derive(Serialize)]
struct Text(&'static str, String);

impl Partitionable for Text {
    fn partition_key(&self) -> Option<&str> {
        Some(self.0)
    }
}

/// So many pairs of a long event for partition 1 and a short one for partition 0, which stands still. What is kept when the
/// long ones are in the log.
fn kept(batches: bool) -> i64 {
    let mut hostile = state(0);
    hostile.is_hostile = false;
    let server = Server { connections: 2, says_where: true, hangs: true, state: Mutex::new(hostile) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let key = |partition| {
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
            .into_iter()
            .find(|key| partition_of(key, PARTITIONS) == PartitionId(partition))
            .unwrap()
    };
    let (stuck, flows) = (key(0), key(1));
    let log: TransportLog<Text, Scripted> = runtime
        .block_on(LogBuilder::new(Arc::new(JsonCodec)).open(Arc::new(Scripted(Arc::new(server)))))
        .unwrap();
    let counted = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..100 {
                let (long, short) = (Text(flows, "x".repeat(100_000)), Text(stuck, String::new()));
                if batches {
                    drop(timeout(Duration::from_millis(2), log.append_batch(vec![long, short])).await);
                } else {
                    drop(log.submit(short).unwrap());
                    log.submit(long).unwrap().await.unwrap();
                }
            }
            sleep(Duration::from_millis(50)).await;
        });
    });
    assert_eq!(log.state().current().buffered, 100, "the short ones");
    counted.bytes_current
}

#[test]
fn l8_short_events_of_batches_that_wait_keep_no_more_memory_than_their_own() {
    let (single, batch) = (kept(false), kept(true));
    assert!(
        batch <= single + 1_000_000,
        "a hundred short events wait: {single} bytes, and {batch} when they came in batches"
    );
}
