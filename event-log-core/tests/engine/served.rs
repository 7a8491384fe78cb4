//! A log of a few partitions whose answers a test decides: requests and fetches that are lost, slow or refused, a partition that
//! begins again, answers piece by piece. It does as the documentation of `Transport` says.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::no_member::NoMember;
use event_log_core::engine::{
    FetchRequest, FetchResponse, LogBuilder, Message, ProducerConnection, SendError, StoredMessage,
    Transport, TransportLog, TransportProperties,
};
use event_log_core::{
    Error, EventId, EventLog as _, JsonCodec, Offset, PartitionId, PartitionWatermarks, Partitionable,
    ProducerConfig, ReconnectPolicy, Timestamp, Watermarks, partition_of,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

pub(crate) const PARTITIONS: u32 = 3;
/// Where each partition is to have its turn.
pub(crate) const MANY: u32 = 32;
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const OTHERS: u64 = 1_000_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) partition: u32,
    pub(crate) number: u64,
    pub(crate) id: Option<u128>,
    /// How many partitions the log has.
    #[serde(skip)]
    pub(crate) of: u32,
}

pub(crate) fn event(partition: u32, number: u64) -> Event {
    Event { partition, number, id: None, of: PARTITIONS }
}

/// An event for a log of [`MANY`] partitions.
pub(crate) fn one_of_many(partition: u32, number: u64) -> Event {
    Event { of: MANY, ..event(partition, number) }
}

fn key_of(partition: u32, of: u32) -> String {
    let mut keys = (0..).map(|nth| format!("key {nth}"));
    keys.find(|key| partition_of(key, of) == PartitionId(partition)).unwrap()
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        static KEYS: [OnceLock<Vec<String>>; 2] = [const { OnceLock::new() }; 2];
        let keys = &KEYS[usize::from(self.of == MANY)];
        let keys = keys.get_or_init(|| (0..self.of).map(|partition| key_of(partition, self.of)).collect());
        Some(&keys[self.partition as usize])
    }

    fn event_id(&self) -> Option<EventId> {
        self.id.map(EventId::from_u128)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Confirmed(u64),
    /// It never arrives, which is not known.
    Lost,
    /// It arrives, which is not known.
    ReplyLost,
    /// The same, after so many milliseconds.
    ReplyLostAfter(u64),
    /// It certainly does not arrive; known after so many milliseconds.
    Cut(u64),
    Refused,
    /// The same, after so many milliseconds.
    RefusedAfter(u64),
    /// It arrives at once; the answer takes so many milliseconds.
    AnswerAfter(u64),
    /// The first half of it arrives, which is not known, after so many milliseconds.
    HalfLostAfter(u64),
    /// It never arrives, which is not known; known after so many milliseconds.
    LostAfter(u64),
    /// It arrives after so many milliseconds, which is not known, and opens the gate.
    ReplyLostAtGate(u64),
    /// It lies in the connection for so many milliseconds, also when it is given up, and arrives then.
    Lies(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum FetchFate {
    Empty,
    Fault,
    Unavailable,
    /// Hangs for so many milliseconds, and times out.
    TimesOut(u64),
    /// Answered after so many milliseconds.
    After(u64),
    /// Answered when the gate is opened, and so many microseconds after, in real time.
    Gate(u64),
}

#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) incarnation: u64,
    pub(crate) records: VecDeque<StoredMessage>,
    pub(crate) fates: VecDeque<Fate>,
    pub(crate) fetches: VecDeque<FetchFate>,
    /// What becomes of fetches that have no fate of their own.
    pub(crate) every_fetch: Option<FetchFate>,
    pub(crate) sends: usize,
    /// What becomes of requests that have no fate of their own.
    pub(crate) every_send: Option<Fate>,
    /// What becomes of fetches that are not for a landmark.
    pub(crate) stretch: Option<FetchFate>,
    pub(crate) fetched: usize,
}

/// Messages as a log keeps them, from this offset on.
pub(crate) fn stored(messages: &[Message], base: u64) -> impl Iterator<Item = StoredMessage> {
    messages.iter().zip(base..).map(|(message, offset)| StoredMessage {
        offset: Offset(offset),
        id: message.id,
        timestamp: Timestamp(offset),
        headers: message.headers.clone(),
        payload: message.payload.clone(),
    })
}

impl Partition {
    pub(crate) fn append(&mut self, messages: &[Message]) -> Offset {
        let base = self.high;
        self.records.extend(stored(messages, base));
        self.high += messages.len() as u64;
        Offset(base)
    }
}

pub(crate) struct State {
    pub(crate) partitions: Vec<Partition>,
    /// At most so many records in an answer.
    pub(crate) most: usize,
    pub(crate) connects: usize,
    pub(crate) records_read: usize,
    /// Nothing is answered.
    pub(crate) down: bool,
    /// Connections cannot be made; those that there are are good.
    pub(crate) refuses_connections: bool,
    /// So many connections more can be made.
    pub(crate) connects_left: usize,
    /// A connection is lost as soon as it is looked at.
    pub(crate) flaps: bool,
    /// The answer to a question for the watermarks takes so long: it is what they were when it was asked.
    pub(crate) watermarks_take: Duration,
    /// Closing a connection takes so long.
    pub(crate) closes_take: Duration,
    pub(crate) tells_incarnation: bool,
    /// So many questions for the watermarks fail, for a reason of their own.
    pub(crate) fails_watermarks: usize,
    /// The transport says that there are so many.
    pub(crate) partitions_said: u32,
}

pub(crate) struct Server {
    pub(crate) connections: usize,
    pub(crate) says_where: bool,
    pub(crate) state: Mutex<State>,
    pub(crate) gate: Notify,
    /// How many requests lie in connections.
    lying: watch::Sender<usize>,
    /// The connection for questions, if there is one, which is used by one at a time.
    pub(crate) questions: Option<tokio::sync::Mutex<()>>,
}

pub(crate) fn message(event: &Event, id: u128) -> Message {
    Message {
        id: EventId::from_u128(id),
        headers: Default::default(),
        payload: serde_json::to_vec(event).unwrap().into(),
    }
}

impl Server {
    pub(crate) fn new(says_where: bool, connections: usize) -> Arc<Self> {
        Self::of(PARTITIONS, says_where, connections)
    }

    pub(crate) fn of(partitions: u32, says_where: bool, connections: usize) -> Arc<Self> {
        let state = State {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            most: usize::MAX,
            connects: 0,
            records_read: 0,
            down: false,
            refuses_connections: false,
            connects_left: usize::MAX,
            flaps: false,
            watermarks_take: Duration::ZERO,
            closes_take: Duration::ZERO,
            tells_incarnation: false,
            fails_watermarks: 0,
            partitions_said: partitions,
        };
        let (gate, lying, questions) = (Notify::new(), watch::Sender::new(0), None);
        Arc::new(Self { connections, says_where, state: Mutex::new(state), gate, lying, questions })
    }

    /// Questions go one after the other over one connection.
    pub(crate) fn with_one_connection_for_questions(connections: usize) -> Arc<Self> {
        let mut server = Arc::into_inner(Self::new(true, connections)).unwrap();
        server.questions = Some(tokio::sync::Mutex::new(()));
        Arc::new(server)
    }

    pub(crate) async fn open(self: &Arc<Self>, config: ProducerConfig) -> TransportLog<Event, Scripted> {
        let transport = Arc::new(Scripted(self.clone()));
        let log = LogBuilder::new(Arc::new(JsonCodec)).config(config).open(transport).await.unwrap();
        sleep(MS).await;
        log
    }

    pub(crate) fn with<T>(&self, partition: u32, change: impl FnOnce(&mut Partition) -> T) -> T {
        change(&mut self.state.lock().partitions[partition as usize])
    }

    pub(crate) fn others(&self, partition: u32, count: u64) {
        let messages: Vec<_> =
            (0..count).map(|n| message(&event(partition, OTHERS + n), 1 << 100 | u128::from(n))).collect();
        self.with(partition, |partition| partition.append(&messages));
    }

    pub(crate) fn fate(&self, partition: u32, fate: Fate) {
        self.with(partition, |partition| partition.fates.push_back(fate));
    }

    pub(crate) fn fetch_fate(&self, partition: u32, fate: FetchFate) {
        self.with(partition, |partition| partition.fetches.push_back(fate));
    }

    pub(crate) fn trim(&self, partition: u32, low: u64) {
        self.with(partition, |partition| {
            while partition.records.front().is_some_and(|record| record.offset.0 < low) {
                partition.records.pop_front();
            }
            partition.low = partition.low.max(low.min(partition.high));
        });
    }

    pub(crate) fn begin_again(&self, partition: u32) {
        self.with(partition, |partition| {
            partition.records.clear();
            (partition.low, partition.high) = (0, 0);
            partition.incarnation += 1;
        });
    }

    pub(crate) fn numbers(&self, partition: u32) -> Vec<u64> {
        let number =
            |record: &StoredMessage| serde_json::from_slice::<Event>(&record.payload).unwrap().number;
        self.with(partition, |partition| {
            partition.records.iter().map(number).filter(|&number| number < OTHERS).collect()
        })
    }
}

pub(crate) struct Scripted(pub(crate) Arc<Server>);
pub(crate) struct Connection(pub(crate) Arc<Server>);

fn away() -> Error {
    Error::Unavailable(None)
}

impl Transport for Scripted {
    type Producer = Connection;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(self.0.state.lock().partitions_said);
        properties.connections = self.0.connections;
        properties
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let mut state = self.0.state.lock();
        state.connects += 1;
        if state.down || state.refuses_connections || state.connects_left == 0 {
            return Err(away());
        }
        state.connects_left -= 1;
        Ok(Connection(self.0.clone()))
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Err(away())
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        // A deadline of its own, as the documentation says, which is short where one waits for another.
        let deadline = if self.0.questions.is_some() { 5 * SECOND } else { HOUR };
        let answer = async {
            let _turn = match &self.0.questions {
                Some(questions) => Some(questions.lock().await),
                None => None,
            };
            self.answer().await
        };
        timeout(deadline, answer).await.unwrap_or(Err(Error::Timeout(deadline)))
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        Ok(vec![Offset::ZERO; times.len()])
    }

    async fn committed(
        &self,
        _: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        Ok(partitions.iter().map(|_| Ok(None)).collect())
    }

    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

impl Scripted {
    async fn answer(&self) -> Result<Watermarks, Error> {
        let marks = |partition: &Partition| PartitionWatermarks {
            low: Offset(partition.low),
            high: Offset(partition.high),
        };
        let (watermarks, takes) = {
            let mut state = self.0.state.lock();
            if state.down {
                return Err(away());
            }
            if state.fails_watermarks > 0 {
                state.fails_watermarks -= 1;
                let error = "busy".into();
                return Err(Error::Backend { retryable: true, may_have_taken_effect: false, error });
            }
            (Watermarks::new(state.partitions.iter().map(marks).collect()), state.watermarks_take)
        };
        sleep(takes).await;
        Ok(watermarks)
    }
}

impl ProducerConnection for Connection {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        let fate = self.0.with(partition.0, |partition| {
            partition.sends += 1;
            partition.fates.pop_front().or(partition.every_send).unwrap_or(Fate::Confirmed(0))
        });
        let append = || self.0.with(partition.0, |partition| partition.append(messages));
        let lost = |may_have_taken_effect| SendError::Lost { error: away(), may_have_taken_effect };
        if self.0.state.lock().down {
            return Err(lost(false));
        }
        match fate {
            Fate::Confirmed(takes) => {
                if takes > 0 {
                    sleep(Duration::from_millis(takes)).await;
                }
                let base = append();
                Ok(self.0.says_where.then_some(base))
            }
            Fate::Lies(takes) => {
                let (server, messages) = (self.0.clone(), messages.to_vec());
                server.lying.send_modify(|count| *count += 1);
                let arrives = tokio::spawn(async move {
                    sleep(Duration::from_millis(takes)).await;
                    let base = server.with(partition.0, |partition| partition.append(&messages));
                    server.lying.send_modify(|count| *count -= 1);
                    base
                });
                let base = arrives.await.unwrap();
                Ok(self.0.says_where.then_some(base))
            }
            Fate::Lost => Err(lost(true)),
            Fate::ReplyLost => {
                append();
                Err(lost(true))
            }
            Fate::ReplyLostAfter(takes) => {
                sleep(Duration::from_millis(takes)).await;
                append();
                Err(lost(true))
            }
            Fate::Cut(takes) => {
                sleep(Duration::from_millis(takes)).await;
                Err(lost(false))
            }
            Fate::AnswerAfter(takes) => {
                let base = append();
                sleep(Duration::from_millis(takes)).await;
                Ok(self.0.says_where.then_some(base))
            }
            Fate::HalfLostAfter(takes) => {
                sleep(Duration::from_millis(takes)).await;
                self.0.with(partition.0, |partition| partition.append(&messages[..messages.len() / 2]));
                Err(lost(true))
            }
            Fate::LostAfter(takes) => {
                sleep(Duration::from_millis(takes)).await;
                Err(lost(true))
            }
            Fate::RefusedAfter(takes) => {
                sleep(Duration::from_millis(takes)).await;
                Err(SendError::Refused(Error::invalid("event", "is not liked")))
            }
            Fate::Refused => Err(SendError::Refused(Error::invalid("event", "is not liked"))),
            Fate::ReplyLostAtGate(takes) => {
                sleep(Duration::from_millis(takes)).await;
                append();
                self.0.gate.notify_waiters();
                Err(lost(true))
            }
        }
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let fate = self.0.with(request.partition.0, |partition| {
            partition.fetched += 1;
            let stretch = partition.stretch.filter(|_| request.max_records > 1);
            partition.fetches.pop_front().or(stretch).or(partition.every_fetch)
        });
        match fate {
            Some(FetchFate::Empty) => return Ok(FetchResponse::default()),
            Some(FetchFate::Fault) => {
                let error = "a fault of this partition".into();
                return Err(Error::Backend { retryable: true, may_have_taken_effect: false, error });
            }
            Some(FetchFate::Unavailable) => return Err(away()),
            Some(FetchFate::TimesOut(takes)) => {
                sleep(Duration::from_millis(takes)).await;
                return Err(Error::Timeout(Duration::from_millis(takes)));
            }
            Some(FetchFate::After(takes)) => sleep(Duration::from_millis(takes)).await,
            Some(FetchFate::Gate(micros)) => {
                self.0.gate.notified().await;
                let opened = std::time::Instant::now();
                while opened.elapsed() < Duration::from_micros(micros) {
                    tokio::task::yield_now().await;
                }
            }
            None => {}
        }
        let mut state = self.0.state.lock();
        if state.down {
            return Err(away());
        }
        let (most, tells) = (state.most, state.tells_incarnation);
        let partition = &state.partitions[request.partition.0 as usize];
        let is_other = |after: event_log_core::engine::Landmark| {
            after.offset.0 >= partition.high
                || partition
                    .records
                    .iter()
                    .any(|record| record.offset == after.offset && record.id != after.id)
        };
        let truncated = request.after.is_some_and(is_other);
        let records: Vec<_> = partition
            .records
            .iter()
            .filter(|record| record.offset >= request.from)
            .take(request.max_records.min(most))
            .cloned()
            .collect();
        let answer = FetchResponse {
            low: Some(Offset(partition.low)),
            high: Some(Offset(partition.high)),
            truncated,
            incarnation: tells.then_some(partition.incarnation),
            scanned_to: None,
            records,
        };
        state.records_read += answer.records.len();
        Ok(answer)
    }

    async fn lost(&mut self) -> Error {
        loop {
            sleep(50 * MS).await;
            let is_lost = {
                let state = self.0.state.lock();
                state.down || state.flaps
            };
            if is_lost {
                return away();
            }
        }
    }

    async fn close(self) {
        let takes = self.0.state.lock().closes_take;
        sleep(takes).await;
        self.0.lying.subscribe().wait_for(|&count| count == 0).await.unwrap();
    }
}

/// Events go one by one.
pub(crate) fn alone() -> ProducerConfig {
    let mut config = ProducerConfig::default();
    config.request_events = 1;
    config
}

/// Keeps partition 1 busy, so that the queue is never idle, until it is aborted.
pub(crate) fn busy(log: &TransportLog<Event, Scripted>, server: &Arc<Server>) -> tokio::task::JoinHandle<()> {
    let (log, server) = (log.clone(), server.clone());
    tokio::spawn(async move {
        let mut tickets = VecDeque::new();
        for number in 0.. {
            server.fate(1, Fate::Confirmed(100));
            tickets.push_back(log.submit(event(1, number)).unwrap());
            if tickets.len() > 3 {
                tickets.pop_front().unwrap().await.unwrap();
            }
        }
    })
}

/// Reconnects at times that do not depend on chance.
pub(crate) fn steady() -> ProducerConfig {
    let mut config = ProducerConfig::default();
    config.reconnect = ReconnectPolicy::new(SECOND, 5 * SECOND);
    config.reconnect.jitter_percent = 0;
    config
}
