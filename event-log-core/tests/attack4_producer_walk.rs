//! Random walks of a producer over a log that begins again, whose requests arrive late (until there is a new connection), whose
//! partitions cannot be read for a while, and whose answers have few records. What is expected is written from CONTRACT.md alone.
#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use event_log_core::engine::{
    Assignments, CommitMode, Connect, FetchRequest, FetchResponse, GroupMember, KnownEnd, LogBuilder,
    Message, ProducerConnection, SendError, StoredMessage, Transport, TransportLog, TransportProperties,
};
use event_log_core::{
    CommitErrorKind, Error, EventLog as _, EventLogExt as _, JsonCodec, LogState, Offset, Outcome, Overflow,
    PartitionId, PartitionWatermarks, Partitionable, ProducerConfig, Receipt, ReconnectPolicy,
    SubmitErrorKind, Ticket, Timestamp, Watermarks, partition_of,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

const PARTITIONS: u32 = 3;
const DAY: Duration = Duration::from_secs(86_400);

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

#[derive(Default)]
struct Partition {
    low: u64,
    /// All that was appended since it began again.
    records: Vec<StoredMessage>,
    /// What was there before.
    former: Vec<Vec<StoredMessage>>,
    /// Fetches of it fail, or hang.
    fails: bool,
    hangs: bool,
}

struct State {
    chance: Chance,
    partitions: Vec<Partition>,
    hostile: bool,
    refuses: bool,
    down: bool,
    in_flight: HashSet<PartitionId>,
    /// Changes when every connection is cut.
    link: u64,
    /// How many first connections were made.
    firsts: u64,
    begun_again: u64,
}

struct Server {
    connections: usize,
    says_where: bool,
    reads_ahead: bool,
    state: Mutex<State>,
}

fn away() -> Error {
    Error::Unavailable(None)
}

impl Server {
    async fn slow(&self, choices: &[u64]) {
        let wait = {
            let mut state = self.state.lock();
            if state.hostile { state.chance.of(choices) } else { 0 }
        };
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
    }

    fn fails(&self, one_in: u64) -> bool {
        let mut state = self.state.lock();
        state.down || state.hostile && state.chance.next(one_in) == 0
    }
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
static START: Mutex<Option<Instant>> = Mutex::new(None);

/// What happened, for whoever looks for it.
fn loud(what: impl FnOnce() -> String) {
    let mut log = LOG.lock();
    log.push(format!("{:?} {}", START.lock().map(|start| start.elapsed()), what()));
}

fn numbers(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(number).collect()
}

fn append(partition: &mut Partition, messages: &[Message]) -> Offset {
    loud(|| format!("    append {:?} at {}", numbers(messages), partition.records.len()));
    let base = partition.records.len() as u64;
    for message in messages {
        partition.records.push(StoredMessage {
            offset: Offset(partition.records.len() as u64),
            id: message.id,
            timestamp: Timestamp(0),
            headers: message.headers.clone(),
            payload: message.payload.clone(),
        });
    }
    Offset(base)
}

struct Scripted(Arc<Server>);
struct Connection(Arc<Server>, u64, u64);

impl Connection {
    fn is_cut(&self) -> bool {
        self.0.state.lock().link != self.1
    }
}

impl Transport for Scripted {
    type Producer = Connection;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(PARTITIONS);
        (properties.connections, properties.reads_ahead) = (self.0.connections, self.0.reads_ahead);
        properties
    }

    async fn connect(&self, purpose: Connect) -> Result<Connection, Error> {
        self.0.slow(&[0, 0, 5, 3_000]).await;
        if self.0.fails(4) {
            return Err(away());
        }
        let mut state = self.0.state.lock();
        loud(|| format!("connect {purpose:?}"));
        if purpose == Connect::Only {
            state.firsts += 1;
        }
        Ok(Connection(Arc::clone(&self.0), state.link, state.firsts))
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Err(away())
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.0.slow(&[0, 0, 10, 2_000]).await;
        if self.0.fails(20) {
            return Err(away());
        }
        let marks = |partition: &Partition| PartitionWatermarks {
            low: Offset(partition.low),
            high: Offset(partition.records.len() as u64),
        };
        let answer = Watermarks::new(self.0.state.lock().partitions.iter().map(marks).collect());
        loud(|| format!("marks {answer:?}"));
        // It takes its time to come back.
        self.0.slow(&[0, 0, 10, 2_000, 6_000]).await;
        Ok(answer)
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

struct Late(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(arrives) = self.0.take() {
            arrives();
        }
    }
}

/// Leaves the partition also when the request is given up.
struct InFlight<'a>(&'a Server, PartitionId);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.state.lock().in_flight.remove(&self.1);
    }
}

impl ProducerConnection for Connection {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        assert!(self.0.state.lock().in_flight.insert(partition), "one request of a partition at a time");
        let _in_flight = InFlight(&self.0, partition);
        // It may arrive although nobody waits for it any more, until there is a new connection.
        let (server, first, late) = (Arc::clone(&self.0), self.2, messages.to_vec());
        let mut arrives_late = Late(Some(Box::new(move || {
            let state = &mut *server.state.lock();
            if state.firsts == first && state.hostile && state.chance.next(2) == 0 {
                append(&mut state.partitions[partition.0 as usize], &late);
            }
        })));
        self.0.slow(&[0, 0, 1, 20, 20, 300, 4_000]).await;
        let is_cut = self.is_cut();
        let lost = |may_have_taken_effect| SendError::Lost { error: away(), may_have_taken_effect };
        if is_cut {
            drop(arrives_late);
            return Err(lost(true));
        }
        arrives_late.0 = None;
        loud(|| format!("send {partition} {:?}", numbers(messages)));
        let result = {
            let state = &mut *self.0.state.lock();
            let fate = if state.hostile { state.chance.next(30) } else { 29 };
            let there = &mut state.partitions[partition.0 as usize];
            if state.down {
                Err(lost(false))
            } else if state.refuses && messages.iter().any(|message| number(message) % 7 == 0) {
                Err(SendError::Refused(Error::invalid("event", "is not liked")))
            } else {
                match fate {
                    0 => Err(lost(false)),
                    1 => Err(lost(true)),
                    2 => {
                        append(there, messages);
                        Err(lost(true))
                    }
                    3 => {
                        append(there, &messages[..messages.len() / 2]);
                        Err(lost(true))
                    }
                    _ => Ok(self.0.says_where.then_some(append(there, messages))),
                }
            }
        };
        self.0.slow(&[0, 0, 1, 20, 300]).await;
        result
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.0.slow(&[0, 0, 1, 200]).await;
        let (hangs, fails) = {
            let state = self.0.state.lock();
            let partition = &state.partitions[request.partition.0 as usize];
            (partition.hangs, partition.fails)
        };
        if hangs {
            sleep(Duration::from_secs(5)).await;
            return Err(Error::Timeout(Duration::from_secs(5)));
        }
        if fails {
            return Err(Error::Backend {
                retryable: true,
                may_have_taken_effect: false,
                error: "a fault".into(),
            });
        }
        if self.0.fails(12) || self.is_cut() {
            return Err(away());
        }
        let mut state = self.0.state.lock();
        let most = state.chance.of(&[0, 1, 2, 1_000, 1_000]).min(request.max_records);
        loud(|| format!("fetch {request:?}, most {most}"));
        let partition = &state.partitions[request.partition.0 as usize];
        let from = request.from.0.max(partition.low);
        let records = partition.records.iter().skip(from as usize).take(most).cloned().collect();
        let low = Some(Offset(partition.low));
        let is_other = |after: event_log_core::engine::Landmark| {
            partition.records.get(after.offset.0 as usize).is_none_or(|record| record.id != after.id)
        };
        let truncated = request.after.is_some_and(is_other);
        let high = Some(Offset(partition.records.len() as u64));
        Ok(FetchResponse { records, low, high, truncated, ..FetchResponse::default() })
    }

    async fn lost(&mut self) -> Error {
        loop {
            sleep(Duration::from_millis(50)).await;
            if self.0.fails(4_000) || self.is_cut() {
                return away();
            }
        }
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

type Log = TransportLog<Event, Scripted>;
type Ends = Arc<Mutex<BTreeMap<u64, Vec<Outcome<Event>>>>>;

fn note(ends: &Ends, number: u64, outcome: Outcome<Event>) {
    if let Err(error) = &outcome {
        assert_eq!(error.event().number, number, "its own event comes back");
    }
    ends.lock().entry(number).or_default().push(outcome);
}

async fn note_receipt(
    ends: &Ends,
    number: u64,
    receipt: Result<Receipt<Event>, event_log_core::AppendError<Event>>,
) {
    let outcome = match receipt {
        Ok(receipt) => receipt.acked().await,
        Err(error) => Err(error),
    };
    note(ends, number, outcome);
}

fn grows(before: &LogState, after: &LogState) {
    assert!(before.dropped <= after.dropped && before.reconnects <= after.reconnects);
    let (b, a) = (before.recovered, after.recovered);
    assert!(b.found <= a.found && b.sent_again <= a.sent_again && b.unknown <= a.unknown);
}

async fn run(seed: u64) {
    LOG.lock().clear();
    *START.lock() = Some(Instant::now());
    let mut chance = Chance(seed);
    let trims = chance.next(4) == 0;
    let refuses = chance.next(3) == 0;
    let begins_again = !trims && chance.next(3) == 0;
    let breaks = chance.next(3) == 0;
    // `READ_BACK_PATIENCE` over an outage: see attack4_recovery.
    let lenient = true;
    let cuts = std::env::var("UNCUT").is_err();
    let server = Arc::new(Server {
        connections: chance.of(&[1, 2, 4]),
        says_where: chance.next(4) > 0,
        reads_ahead: chance.next(4) > 0,
        state: Mutex::new(State {
            chance: Chance(seed ^ 0x1234_5678),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            hostile: true,
            refuses,
            down: false,
            in_flight: HashSet::new(),
            link: 0,
            firsts: 0,
            begun_again: 0,
        }),
    });
    let mut config = ProducerConfig::default();
    config.buffer_events = chance.of(&[1, 4, 20, 10_000]);
    config.request_events = chance.of(&[1, 3, 1_024]);
    let block = Overflow::Block { deadline: Duration::from_millis(chance.of(&[0, 500, 20_000])) };
    config.overflow = chance.of(&[Overflow::DropOldest, Overflow::Reject, block]);
    config.expiry = chance.of(&[None, None, Some(Duration::from_secs(8)), Some(Duration::from_millis(400))]);
    config.reconnect =
        ReconnectPolicy::new(Duration::from_millis(chance.of(&[5, 1_000])), Duration::from_secs(5));
    if chance.next(3) == 0 {
        config.max_event_bytes = 100;
        config.buffer_bytes = chance.of(&[100, 150, 400]);
        config.request_bytes = chance.of(&[1, 70, 1_000]);
        config.reconnect.jitter_percent = chance.of(&[0, 100]);
        config.expiry = chance.of(&[config.expiry, config.expiry, Some(Duration::ZERO), Some(Duration::MAX)]);
    }
    let (expiry, overflow) = (config.expiry, config.overflow);
    let builder = LogBuilder::new(Arc::new(JsonCodec)).config(config.clone()).seed(seed);
    let log: Log = builder.open(Arc::new(Scripted(server.clone()))).await.unwrap();
    let ends = Ends::default();
    let mut tickets: Vec<(u64, Ticket<Event>)> = Vec::new();
    let mut tasks = Vec::new();
    let mut partitions: HashMap<u64, u32> = HashMap::new();
    let (mut orphans, mut cancelled) = (HashSet::new(), HashSet::new());
    let mut next = 0_u64;
    let mut state = log.state().current();
    for _ in 0..chance.of(&[20, 100, 400]) {
        let partition = chance.next(u64::from(PARTITIONS)) as u32;
        match chance.next(20) {
            0..=6 => {
                let event = Event { partition, number: next };
                partitions.insert(next, partition);
                match log.submit(event) {
                    Ok(ticket) if chance.next(5) == 0 => {
                        drop(ticket);
                        orphans.insert(next);
                    }
                    Ok(ticket) => tickets.push((next, ticket)),
                    Err(error) => {
                        assert!(matches!(error.kind, SubmitErrorKind::Full), "{error:?}");
                        note(&ends, next, Err(error.into()));
                    }
                }
                next += 1;
            }
            7 | 8 => {
                let number = next;
                next += 1;
                partitions.insert(number, partition);
                let (log, ends) = (log.clone(), ends.clone());
                let appending = async move {
                    let receipt = log.append(Event { partition, number }).await;
                    note_receipt(&ends, number, receipt).await;
                };
                if chance.next(3) == 0 {
                    cancelled.insert(number);
                    drop(timeout(Duration::from_millis(chance.of(&[0, 5, 500])), appending).await);
                } else {
                    tasks.push(tokio::spawn(appending));
                    tokio::task::yield_now().await;
                }
            }
            9 | 10 => {
                let count = chance.of(&[1, 2, 5, 30]);
                let numbers: Vec<_> = (next..next + count).collect();
                next += count;
                let batch: Vec<_> = numbers
                    .iter()
                    .map(|&number| Event { partition: chance.next(u64::from(PARTITIONS)) as u32, number })
                    .collect();
                partitions.extend(batch.iter().map(|event| (event.number, event.partition)));
                let cancels = chance.next(4) == 0;
                if cancels {
                    cancelled.extend(numbers.iter().copied());
                }
                let (log, ends) = (log.clone(), ends.clone());
                let appending = async move {
                    let outcomes: Vec<_> = match log.append_batch(batch).await {
                        Ok(receipts) => receipts.into_iter().map(Ok).collect(),
                        Err(error) => error.into_outcomes(),
                    };
                    for (number, receipt) in numbers.into_iter().zip(outcomes) {
                        note_receipt(&ends, number, receipt).await;
                    }
                };
                if cancels {
                    drop(timeout(Duration::from_millis(chance.of(&[0, 5, 500])), appending).await);
                } else {
                    tasks.push(tokio::spawn(appending));
                    tokio::task::yield_now().await;
                }
            }
            11 => {
                let number = next;
                next += 1;
                partitions.insert(number, partition);
                let (log, ends) = (log.clone(), ends.clone());
                tasks.push(tokio::spawn(async move {
                    let outcome = log.append_acked(Event { partition, number }).await;
                    note(&ends, number, outcome);
                }));
                tokio::task::yield_now().await;
            }
            12 => {
                let mut state = server.state.lock();
                state.down = chance.next(3) == 0;
            }
            13 => {
                let message = |number: u64| Message {
                    id: event_log_core::EventId::from_u128(u128::from(number) + (1 << 100)),
                    headers: Default::default(),
                    payload: serde_json::to_vec(&Event { partition, number }).unwrap().into(),
                };
                let messages: Vec<_> = (0..chance.of(&[1, 50])).map(|n| message(1_000_000 + n)).collect();
                append(&mut server.state.lock().partitions[partition as usize], &messages);
            }
            14 if trims => {
                let mut state = server.state.lock();
                let partition = &mut state.partitions[partition as usize];
                partition.low = partition
                    .low
                    .max((partition.records.len() as u64).saturating_sub(chance.of(&[0, 2, 10])));
            }
            14 if begins_again => {
                let mut state = server.state.lock();
                // Over the connections that are there, or with all of them.
                if cuts {
                    state.link += 1;
                }
                state.begun_again += 1;
                loud(|| format!("{partition} begins again"));
                let partition = &mut state.partitions[partition as usize];
                let records = std::mem::take(&mut partition.records);
                partition.former.push(records);
                partition.low = 0;
            }
            14 if breaks => {
                let mut state = server.state.lock();
                let (which, value) = (chance.next(2), chance.next(2) == 0);
                let partition = &mut state.partitions[partition as usize];
                if which == 0 { partition.fails = value } else { partition.hangs = value }
            }
            15 => {
                let flushed = timeout(Duration::from_millis(chance.of(&[0, 300, 30_000])), log.flush()).await;
                if let Ok(flushed) = flushed {
                    flushed.unwrap();
                    for (number, ticket) in std::mem::take(&mut tickets) {
                        let outcome = ticket.try_outcome();
                        note(
                            &ends,
                            number,
                            outcome
                                .unwrap_or_else(|_| panic!("seed {seed}: {number} is pending after a flush")),
                        );
                    }
                }
            }
            _ => sleep(Duration::from_millis(chance.of(&[0, 1, 10, 100, 1_000, 1_000, 5_000, 61_000]))).await,
        }
        let now = log.state().current();
        grows(&state, &now);
        state = now;
    }
    let gentle = chance.next(2) == 0;
    if gentle {
        {
            let mut state = server.state.lock();
            (state.hostile, state.down) = (false, false);
            for partition in &mut state.partitions {
                (partition.fails, partition.hangs) = (false, false);
            }
        }
        timeout(DAY, log.flush())
            .await
            .unwrap_or_else(|_| panic!("seed {seed}: the flush does not end"))
            .unwrap();
    }
    let deadline = Duration::from_millis(chance.of(&[0, 10, 5_000, 60_000]));
    let left = match chance.next(6) {
        0 => {
            // Without `close`.
            for task in &tasks {
                task.abort();
            }
            let state = log.state();
            drop(log);
            let mut state = state;
            timeout(DAY, state.wait_for(LogState::is_closed)).await.expect("it ends");
            None
        }
        _ => {
            let closed = timeout(DAY, log.close(deadline)).await;
            let closed = closed.unwrap_or_else(|_| panic!("seed {seed}: closing does not end"));
            assert_eq!(log.state().current().buffered, 0);
            Some(closed.err())
        }
    };
    let dropped_whole = left.is_none();
    for (number, ticket) in tickets {
        let outcome = ticket.try_outcome().unwrap_or_else(|_| panic!("seed {seed}: {number} is pending"));
        note(&ends, number, outcome);
    }
    for task in tasks {
        match timeout(DAY, task).await.unwrap_or_else(|_| panic!("seed {seed}: an append does not end")) {
            Ok(()) => {}
            Err(error) => assert!(dropped_whole && error.is_cancelled(), "seed {seed}: {error}"),
        }
    }
    let mut copies: HashMap<u64, Vec<(u32, u64)>> = HashMap::new();
    let mut former: HashMap<u64, Vec<(u32, u64)>> = HashMap::new();
    for (partition, there) in (0..).zip(&server.state.lock().partitions) {
        let before = there.former.iter().map(|records| (records, false));
        for (records, is_now) in before.chain([(&there.records, true)]) {
            let mut last = None;
            let mut seen = HashSet::new();
            for record in records {
                let event: Event = serde_json::from_slice(&record.payload).unwrap();
                if event.number >= 1_000_000 {
                    continue;
                }
                assert_eq!(event.partition, partition);
                // A log that begins again where nothing is known of it cannot be told from what it was.
                let is_new = seen.insert(event.number);
                assert!(is_new || begins_again, "seed {seed}: {} is there twice", event.number);
                let copies = if is_now { &mut copies } else { &mut former };
                copies.entry(event.number).or_default().push((partition, record.offset.0));
                assert!(
                    Some(event.number) > last || begins_again,
                    "seed {seed}: {} is behind {last:?}",
                    event.number
                );
                last = Some(event.number);
            }
        }
    }
    let mut left_over = HashMap::new();
    let mut by_ticket = 0;
    for left in left.into_iter().flatten() {
        by_ticket = left.returned_by_ticket;
        for (unknown, events) in [(false, left.not_appended), (true, left.unknown)] {
            for (_, event) in events {
                assert!(left_over.insert(event.number, unknown).is_none(), "seed {seed}: twice");
            }
        }
    }
    let ends = std::mem::take(&mut *ends.lock());
    let mut returned = 0;
    for number in 0..next {
        let mut there = copies.get(&number).cloned().unwrap_or_default();
        if there.is_empty() {
            there = former.get(&number).cloned().unwrap_or_default();
        }
        assert!(there.len() <= 1 || begins_again, "seed {seed}: {number} is there {} times", there.len());
        if let Some(unknown) = left_over.get(&number) {
            assert!(there.is_empty() || *unknown, "seed {seed}: {number} was left over and is there");
            assert!(
                orphans.contains(&number) || cancelled.contains(&number),
                "seed {seed}: {number} has a ticket"
            );
        }
        let outcomes = ends.get(&number).map_or(&[][..], |ends| ends);
        if orphans.contains(&number) {
            let certain = !begins_again
                && !breaks
                && !dropped_whole
                && expiry.is_none()
                && !refuses
                && !trims
                && overflow != Overflow::DropOldest;
            assert!(
                !certain || !there.is_empty() || left_over.contains_key(&number),
                "seed {seed}: {number} is nowhere"
            );
            continue;
        }
        if cancelled.contains(&number) || dropped_whole && outcomes.is_empty() {
            continue;
        }
        assert_eq!(outcomes.len(), 1, "seed {seed}: {number}");
        match &outcomes[0] {
            Ok(ack) => {
                assert_eq!(ack.partition.0, partitions[&number]);
                assert!(
                    !there.is_empty()
                        && ack.offset.is_none_or(|offset| there
                            .iter()
                            .chain(former.get(&number).into_iter().flatten())
                            .any(|at| at.1 == offset.0)),
                    "seed {seed}: {number} {ack:?} {there:?}"
                );
            }
            Err(error) => {
                returned += 1;
                if error.may_have_taken_effect() {
                    assert!(
                        !gentle || expiry.is_some() || trims || refuses || begins_again || breaks || lenient,
                        "seed {seed}: {number} {error:?}"
                    );
                } else {
                    assert!(there.is_empty(), "seed {seed}: {number} {error:?} is at {there:?}");
                }
            }
        }
    }
    assert!(by_ticket as u64 <= returned + cancelled.len() as u64, "seed {seed}");
}

#[test]
fn every_promise_to_producers_holds_on_a_random_walk() {
    let from = std::env::var("SEED").map_or(0, |seed| seed.parse().unwrap());
    let count = std::env::var("SEEDS").map_or(100, |seeds| seeds.parse().unwrap());
    let mut failed = Vec::new();
    for seed in from..from + count {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed))));
        if ran.is_err() {
            if std::env::var("LOUD").is_ok() {
                println!("seed {seed}\n{}", LOG.lock().join("\n"));
            }
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "{} seeds failed: {:?}", failed.len(), &failed[..failed.len().min(20)]);
}
