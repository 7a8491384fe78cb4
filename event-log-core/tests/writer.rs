//! The writer against a log that answers when the test says so: what is under way together, and what waits for what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use event_log_core::engine::{
    Assignments, CommitMode, Connect, FetchRequest, FetchResponse, GroupMember, KnownEnd, LogBuilder,
    Message, ProducerConnection, SendError, StoredMessage, Transport, TransportLog, TransportProperties,
};
use event_log_core::{
    AppendErrorKind, CommitErrorKind, Connection as Away, Error, EventLog as _, JsonCodec, Offset, Overflow,
    PartitionId, PartitionWatermarks, Partitionable, ProducerConfig, Ticket, Timestamp, Watermarks,
    partition_of,
};
use futures::FutureExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

const PARTITIONS: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Numbered {
    partition: u32,
    number: u64,
}

/// The first letter that goes to this partition.
fn key_of(partition: u32) -> &'static str {
    let mut letters = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"].into_iter();
    letters.find(|key| partition_of(key, PARTITIONS) == PartitionId(partition)).expect("one of them does")
}

impl Partitionable for Numbered {
    fn partition_key(&self) -> Option<&str> {
        Some(key_of(self.partition))
    }
}

/// A request that waits for its answer.
struct Asked {
    connection: usize,
    partition: u32,
    numbers: Vec<u64>,
    messages: Vec<Message>,
    answer: oneshot::Sender<Result<(), SendError>>,
}

/// A log of which the test answers the requests.
struct Scripted {
    connections: usize,
    asked: mpsc::UnboundedSender<Asked>,
    /// What may be connected: every connection takes one.
    lets_in: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connected: usize,
    connecting: usize,
    most_connecting: usize,
    records: HashMap<u32, Vec<StoredMessage>>,
    read_back: Vec<u32>,
}

struct Connection {
    number: usize,
    log: Arc<Scripted>,
}

/// A transport has no way to its own `Arc`, which its connections need.
struct Scripting(Arc<Scripted>);

impl Scripting {
    async fn let_in(&self) -> Result<Connection, Error> {
        let log = Arc::clone(&self.0);
        {
            let mut state = log.state.lock();
            state.connecting += 1;
            state.most_connecting = state.most_connecting.max(state.connecting);
        }
        log.lets_in.acquire().await.expect("it is not closed").forget();
        let mut state = log.state.lock();
        state.connecting -= 1;
        state.connected += 1;
        let number = state.connected;
        drop(state);
        Ok(Connection { number, log })
    }
}

impl Transport for Scripting {
    type Producer = Connection;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(PARTITIONS);
        properties.connections = self.0.connections;
        properties
    }

    async fn connect(&self, purpose: Connect) -> Result<Connection, Error> {
        if self.0.connections == 0 && purpose == Connect::Only {
            return Err(Error::Unavailable(None));
        }
        self.let_in().await
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Ok(NoMember)
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        Ok(self.0.watermarks())
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

impl Scripted {
    fn watermarks(&self) -> Watermarks {
        let state = self.state.lock();
        let high = |partition| state.records.get(&partition).map_or(0, Vec::len) as u64;
        let marks = |partition| PartitionWatermarks { low: Offset::ZERO, high: Offset(high(partition)) };
        Watermarks::new((0..PARTITIONS).map(marks).collect())
    }

    /// Appends what was asked to append. Returns the offset of the first.
    fn append(&self, partition: u32, messages: &[Message]) -> Offset {
        let mut state = self.state.lock();
        let records = state.records.entry(partition).or_default();
        let base = Offset(records.len() as u64);
        records.extend(messages.iter().zip(base.0..).map(|(message, offset)| StoredMessage {
            offset: Offset(offset),
            id: message.id,
            headers: message.headers.clone(),
            timestamp: Timestamp(offset),
            payload: message.payload.clone(),
        }));
        base
    }
}

impl ProducerConnection for Connection {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        let (answer, answered) = oneshot::channel();
        let number = |message: &Message| {
            let event: Numbered = serde_json::from_slice(&message.payload).expect("it is one of ours");
            assert_eq!(event.partition, partition.0, "it is where its key belongs");
            event.number
        };
        let numbers = messages.iter().map(number).collect();
        let (connection, partition) = (self.number, partition.0);
        let asked = Asked { connection, partition, numbers, messages: messages.to_vec(), answer };
        self.log.asked.send(asked).expect("the test listens");
        answered.await.expect("the test answers")?;
        Ok(Some(self.log.append(partition, messages)))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let FetchRequest { partition, from, max_records: count, .. } = request;
        let mut state = self.log.state.lock();
        state.read_back.push(partition.0);
        let records = state.records.get(&partition.0).into_iter().flatten();
        let records = records.skip(from.0 as usize).take(count).cloned().collect();
        Ok(FetchResponse { records, ..FetchResponse::default() })
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }
}

/// There are no consumers here.
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

struct Stage {
    log: TransportLog<Numbered, Scripting>,
    scripted: Arc<Scripted>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Stage {
    /// A log with so many connections; with none it is away.
    async fn with(connections: usize, config: ProducerConfig) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let lets_in = Semaphore::new(Semaphore::MAX_PERMITS);
        let scripted = Arc::new(Scripted { connections, asked: sender, lets_in, state: Mutex::default() });
        let transport = Arc::new(Scripting(Arc::clone(&scripted)));
        let log =
            LogBuilder::new(Arc::new(JsonCodec)).config(config).open(transport).await.expect("it opens");
        Self { log, scripted, asked }
    }

    fn submit(&self, partition: u32, number: u64) -> Ticket<Numbered> {
        self.log.submit(Numbered { partition, number }).expect("there is space")
    }

    async fn next(&mut self) -> Asked {
        self.asked.recv().await.expect("the log is open")
    }

    /// What is asked once nothing can happen any more without the test: on a paused clock a timer expires only then.
    async fn asked_by_now(&mut self) -> Vec<Asked> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }
}

fn confirm(asked: Asked) {
    asked.answer.send(Ok(())).expect("the log waits for it");
}

#[tokio::test(start_paused = true)]
async fn partitions_do_not_wait_for_each_other() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let slow = stage.submit(0, 0);
    let held = stage.next().await;
    assert_eq!((held.connection, held.partition), (1, 0));
    for number in 0..10 {
        let fast = stage.submit(1, number);
        let asked = stage.next().await;
        assert_eq!((asked.connection, asked.partition), (2, 1), "over the connection that is free");
        confirm(asked);
        assert_eq!(fast.await.unwrap().offset, Some(Offset(number)));
    }
    let slow = slow.try_outcome().expect_err("it has no answer yet");
    confirm(held);
    assert_eq!(slow.await.unwrap().offset, Some(Offset(0)));
}

#[tokio::test(start_paused = true)]
async fn a_partition_has_one_request_under_way_and_what_waits_goes_together() {
    let mut stage = Stage::with(4, ProducerConfig::default()).await;
    let mut tickets = vec![stage.submit(2, 0)];
    let first = stage.next().await;
    tickets.extend((1..4).map(|number| stage.submit(2, number)));
    // Another partition has all connections opened, so that it is not for want of one.
    for partition in [0, 1, 3] {
        tickets.push(stage.submit(partition, 9));
    }
    let others = stage.asked_by_now().await;
    assert!(others.iter().all(|asked| asked.partition != 2), "it waits for the answer");
    assert_eq!(others.len(), 3);
    others.into_iter().for_each(confirm);
    assert_eq!(stage.asked_by_now().await.len(), 0, "although connections are free");
    confirm(first);
    let second = stage.next().await;
    assert_eq!((second.partition, &second.numbers[..]), (2, &[1, 2, 3][..]));
    confirm(second);
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_connection_is_lost_the_answers_of_the_others_count() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let lost = stage.submit(0, 0);
    let on_first = stage.next().await;
    let kept = stage.submit(1, 1);
    let on_second = stage.next().await;
    // It has arrived, but its answer has not.
    stage.scripted.append(0, &on_first.messages);
    let error = Error::Unavailable(None);
    on_first.answer.send(Err(SendError::Lost { error, may_have_taken_effect: true })).unwrap();
    assert!(stage.asked_by_now().await.is_empty(), "nothing is sent before the others are answered");
    confirm(on_second);
    assert_eq!(kept.await.unwrap().offset, Some(Offset(0)));
    assert_eq!(lost.await.unwrap().offset, Some(Offset(0)), "read back");
    assert!(stage.asked_by_now().await.is_empty(), "nothing was sent again");
    assert_eq!(stage.scripted.state.lock().read_back, [0], "nothing else was open");
    assert_eq!(stage.log.state().current().recovered.found, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_told_before_the_others_have_answered() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let _lost = stage.submit(0, 0);
    let on_first = stage.next().await;
    let _open = stage.submit(1, 1);
    let _on_second = stage.next().await;
    let error = Error::Unavailable(None);
    on_first.answer.send(Err(SendError::Lost { error, may_have_taken_effect: true })).unwrap();
    assert!(stage.asked_by_now().await.is_empty());
    let state = stage.log.state().current();
    let told = matches!(state.connection, Away::Reconnecting { last_error: Some(_), .. });
    assert!(told && !state.is_connected(), "{state:?}");
    let appended = stage.log.append(Numbered { partition: 0, number: 2 }).now_or_never();
    assert!(appended.expect("at once").unwrap().is_buffered());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_expires_leaves_the_attempt_to_connect_alone() {
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_secs(1));
    let mut stage = Stage::with(1, config).await;
    let _left_over = stage.submit(0, 0);
    let asked = stage.next().await;
    stage.scripted.lets_in.forget_permits(Semaphore::MAX_PERMITS);
    let error = Error::Unavailable(None);
    asked.answer.send(Err(SendError::Lost { error, may_have_taken_effect: false })).unwrap();
    for number in 1..10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let error = stage.submit(0, number).await.unwrap_err();
        assert!(matches!(error.kind(), AppendErrorKind::Expired(_)), "{error:?}");
    }
    // One that was given up would still be counted.
    assert_eq!(stage.scripted.state.lock().connecting, 1);
    stage.scripted.lets_in.add_permits(1);
    let ticket = stage.submit(0, 10);
    confirm(stage.next().await);
    ticket.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_left_over_goes_before_what_came_later() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let mut tickets = vec![stage.submit(0, 0), stage.submit(0, 1)];
    let asked = stage.next().await;
    assert_eq!(asked.numbers, [0, 1]);
    tickets.push(stage.submit(0, 2));
    // Refused together: each for itself, and in order.
    let refusal = || SendError::Refused(Error::invalid("event", "is not liked"));
    asked.answer.send(Err(refusal())).unwrap();
    let alone = stage.next().await;
    assert_eq!(alone.numbers, [0]);
    alone.answer.send(Err(refusal())).unwrap();
    let alone = stage.next().await;
    assert_eq!(alone.numbers, [1]);
    // Lost on the way, without effect: again, over a new connection.
    let error = Error::Unavailable(None);
    alone.answer.send(Err(SendError::Lost { error, may_have_taken_effect: false })).unwrap();
    let again = stage.next().await;
    assert_eq!((again.connection, &again.numbers[..]), (2, &[1][..]));
    confirm(again);
    let last = stage.next().await;
    assert_eq!(last.numbers, [2]);
    confirm(last);
    let mut outcomes = Vec::new();
    for ticket in tickets {
        outcomes.push(ticket.await);
    }
    let refused = outcomes.remove(0).unwrap_err();
    assert!(matches!(refused.kind(), AppendErrorKind::Refused(_)), "{refused:?}");
    assert_eq!(refused.event().number, 0);
    let offsets: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().offset.unwrap().0).collect();
    assert_eq!(offsets, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn further_connections_are_opened_one_after_the_other_and_only_for_something_to_do() {
    let mut stage = Stage::with(4, ProducerConfig::default()).await;
    for number in 0..3 {
        let ticket = stage.submit(0, number);
        confirm(stage.next().await);
        ticket.await.unwrap();
    }
    assert_eq!(stage.scripted.state.lock().connected, 1, "one partition needs one");
    stage.scripted.lets_in.forget_permits(Semaphore::MAX_PERMITS);
    let tickets: Vec<_> = (0..PARTITIONS).map(|partition| stage.submit(partition, 9)).collect();
    let mut asked = stage.asked_by_now().await;
    assert_eq!(asked.len(), 1, "the others wait for nothing but a connection");
    for connected in 2..=4 {
        stage.scripted.lets_in.add_permits(1);
        asked.extend(stage.asked_by_now().await);
        assert_eq!(asked.len(), connected);
        assert_eq!(stage.scripted.state.lock().connected, connected);
    }
    assert_eq!(stage.scripted.state.lock().most_connecting, 1);
    asked.into_iter().for_each(confirm);
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_every_partition() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let tickets = [stage.submit(0, 0), stage.submit(1, 1)];
    let (first, second) = (stage.next().await, stage.next().await);
    let log = stage.log.clone();
    let flush = tokio::spawn(async move { log.flush().await });
    assert!(stage.asked_by_now().await.is_empty());
    let later = stage.submit(1, 2);
    confirm(second);
    let third = stage.next().await;
    assert!(stage.asked_by_now().await.is_empty());
    assert!(!flush.is_finished(), "the first event is not in the log");
    confirm(first);
    flush.await.unwrap().unwrap();
    assert!(later.try_outcome().is_err(), "what came after the flush began is not waited for");
    confirm(third);
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_all_partitions_is_dropped() {
    let mut config = ProducerConfig::default();
    (config.buffer_events, config.overflow) = (3, Overflow::DropOldest);
    let stage = Stage::with(0, config).await;
    let tickets: Vec<_> = [3, 1, 3, 0, 1].into_iter().zip(0..).map(|(to, n)| stage.submit(to, n)).collect();
    assert_eq!(stage.log.state().current().dropped, 2);
    let leftover = stage.log.close(Duration::ZERO).await.unwrap_err();
    assert_eq!(leftover.returned_by_ticket, 3);
    let mut failures = Vec::new();
    for ticket in tickets {
        let error = ticket.await.unwrap_err();
        failures.push((error.event().number, matches!(error.kind(), AppendErrorKind::Dropped)));
    }
    assert_eq!(failures, [(0, true), (1, true), (2, false), (3, false), (4, false)]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_waits_allocates_its_ticket_and_a_share_of_a_block() {
    const EVENTS: u64 = 1_000;
    let stage = Stage::with(0, ProducerConfig::default()).await;
    let mut tickets = Vec::with_capacity(2 * EVENTS as usize);
    // The queue, and the buffer to encode in, have grown to their size.
    tickets.extend((0..EVENTS).map(|number| stage.submit(0, number)));
    let counted = measure(|| tickets.extend((0..EVENTS).map(|number| stage.submit(0, number))));
    let bytes: usize =
        (0..EVENTS).map(|number| serde_json::to_vec(&Numbered { partition: 0, number }).unwrap().len()).sum();
    // A block of 4 KiB, and its count of references. The queue doubles at most once.
    let blocks = 2 * bytes.div_ceil(4_096 - 50) as u64;
    println!("{EVENTS} events of {bytes} bytes in all: {} allocations", counted.count_total);
    assert!(counted.count_total <= EVENTS + blocks + 1, "{}", counted.count_total);
}
