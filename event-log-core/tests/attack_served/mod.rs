//! A log of two partitions whose answers a test decides; it does as the documentation of `Transport` says.
#![allow(dead_code, unused_imports, reason = "each file uses its own part")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use event_log_core::engine::{
    Assignments, CommitMode, Connect, FetchRequest, FetchResponse, GroupMember, KnownEnd, LogBuilder,
    Message, ProducerConnection, SendError, StoredMessage, Transport, TransportLog, TransportProperties,
};
use event_log_core::{
    AppendErrorKind, CommitErrorKind, Error, EventId, EventLog as _, EventLogExt as _, JsonCodec, Offset,
    PartitionId, PartitionWatermarks, Partitionable, ProducerConfig, Timestamp, Watermarks, partition_of,
};
use futures::FutureExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

pub(crate) const PARTITIONS: u32 = 2;
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) partition: u32,
    pub(crate) number: u64,
    pub(crate) id: Option<u128>,
}

pub(crate) fn event(partition: u32, number: u64) -> Event {
    Event { partition, number, id: None }
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        let mut keys = ["a", "b", "c", "d", "e"].into_iter();
        keys.find(|key| partition_of(key, PARTITIONS) == PartitionId(self.partition))
    }

    fn event_id(&self) -> Option<EventId> {
        self.id.map(EventId::from_u128)
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// Answered after so many milliseconds.
    Confirmed(u64),
    /// It never arrives, and nobody knows.
    Lost,
    /// It arrives, and nobody knows.
    ReplyLost,
    /// It certainly does not arrive; known after so many milliseconds.
    Cut(u64),
    Refused,
}

#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) low: u64,
    pub(crate) records: VecDeque<StoredMessage>,
    pub(crate) fates: VecDeque<Fate>,
    pub(crate) asked: usize,
    /// Fetches fail.
    pub(crate) fails: bool,
}

impl Partition {
    pub(crate) fn high(&self) -> u64 {
        self.low + self.records.len() as u64
    }

    pub(crate) fn append(&mut self, messages: &[Message]) -> Offset {
        let base = self.high();
        for message in messages {
            let offset = Offset(self.high());
            self.records.push_back(StoredMessage {
                offset,
                id: message.id,
                timestamp: Timestamp(offset.0),
                headers: message.headers.clone(),
                payload: message.payload.clone(),
            });
        }
        Offset(base)
    }

    /// Retention.
    pub(crate) fn trim(&mut self, low: u64) {
        while self.low < low && self.records.pop_front().is_some() {
            self.low += 1;
        }
    }
}

pub(crate) struct Server {
    pub(crate) partitions: Mutex<Vec<Partition>>,
    pub(crate) says_where: bool,
    pub(crate) connections: usize,
    /// The answer to a question for the watermarks takes so long: it is what they were when it was asked.
    pub(crate) watermarks_take: Mutex<Duration>,
    pub(crate) records_read: Mutex<usize>,
    pub(crate) connects: Mutex<usize>,
    /// How often the watermarks were asked for.
    pub(crate) marks: Mutex<usize>,
    /// Connections cannot be made.
    pub(crate) down: Mutex<bool>,
    /// A connection is lost as soon as somebody looks.
    pub(crate) flaps: Mutex<bool>,
    /// What a fetch of partition 0 takes.
    pub(crate) fetch_takes: Mutex<Duration>,
}

impl Server {
    pub(crate) fn new(says_where: bool, connections: usize) -> Arc<Self> {
        Arc::new(Self {
            partitions: Mutex::new((0..PARTITIONS).map(|_| Partition::default()).collect()),
            says_where,
            connections,
            watermarks_take: Mutex::new(Duration::ZERO),
            records_read: Mutex::new(0),
            connects: Mutex::new(0),
            marks: Mutex::new(0),
            down: Mutex::new(false),
            flaps: Mutex::new(false),
            fetch_takes: Mutex::new(Duration::ZERO),
        })
    }

    pub(crate) async fn open(self: &Arc<Self>, config: ProducerConfig) -> TransportLog<Event, Scripted> {
        let transport = Arc::new(Scripted(self.clone()));
        let log = LogBuilder::new(Arc::new(JsonCodec)).config(config).open(transport).await.unwrap();
        // The writer has begun.
        sleep(Duration::from_millis(1)).await;
        log
    }

    /// Others append.
    pub(crate) fn others(&self, partition: u32, count: u64) {
        let message = |number: u64| Message {
            id: EventId::from_u128(1 << 100 | u128::from(number)),
            headers: Default::default(),
            payload: serde_json::to_vec(&event(partition, 1_000_000 + number)).unwrap().into(),
        };
        let messages: Vec<_> = (0..count).map(message).collect();
        self.partitions.lock()[partition as usize].append(&messages);
    }

    pub(crate) fn trim(&self, partition: u32, low: u64) {
        self.partitions.lock()[partition as usize].trim(low);
    }

    pub(crate) fn fate(&self, partition: u32, fate: Fate) {
        self.partitions.lock()[partition as usize].fates.push_back(fate);
    }

    pub(crate) fn begin_again(&self, partition: u32) {
        let partition = &mut self.partitions.lock()[partition as usize];
        partition.low = 0;
        partition.records.clear();
    }

    pub(crate) fn numbers(&self, partition: u32) -> Vec<u64> {
        let number =
            |record: &StoredMessage| serde_json::from_slice::<Event>(&record.payload).unwrap().number;
        self.partitions.lock()[partition as usize]
            .records
            .iter()
            .map(number)
            .filter(|&number| number < 1_000_000)
            .collect()
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
        let mut properties = TransportProperties::new(PARTITIONS);
        properties.connections = self.0.connections;
        properties
    }

    async fn connect(&self, _: Connect) -> Result<Connection, Error> {
        *self.0.connects.lock() += 1;
        if *self.0.down.lock() {
            return Err(away());
        }
        Ok(Connection(self.0.clone()))
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Err(away())
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        let marks = |partition: &Partition| PartitionWatermarks {
            low: Offset(partition.low),
            high: Offset(partition.high()),
        };
        let watermarks = Watermarks::new(self.0.partitions.lock().iter().map(marks).collect());
        *self.0.marks.lock() += 1;
        let takes = *self.0.watermarks_take.lock();
        if !takes.is_zero() {
            sleep(takes).await;
        }
        Ok(watermarks)
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

impl ProducerConnection for Connection {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        let fate = {
            let partition = &mut self.0.partitions.lock()[partition.0 as usize];
            partition.asked += 1;
            partition.fates.pop_front().unwrap_or(Fate::Confirmed(0))
        };
        let append = || self.0.partitions.lock()[partition.0 as usize].append(messages);
        let lost = |may_have_taken_effect| SendError::Lost { error: away(), may_have_taken_effect };
        match fate {
            Fate::Confirmed(takes) => {
                if takes > 0 {
                    sleep(Duration::from_millis(takes)).await;
                }
                let base = append();
                Ok(self.0.says_where.then_some(base))
            }
            Fate::Lost => Err(lost(true)),
            Fate::ReplyLost => {
                append();
                Err(lost(true))
            }
            Fate::Cut(takes) => {
                sleep(Duration::from_millis(takes)).await;
                Err(lost(false))
            }
            Fate::Refused => Err(SendError::Refused(Error::invalid("event", "is not liked"))),
        }
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let takes = *self.0.fetch_takes.lock();
        if request.partition.0 == 0 && !takes.is_zero() {
            sleep(takes).await;
        }
        let partitions = self.0.partitions.lock();
        let partition = &partitions[request.partition.0 as usize];
        if partition.fails {
            let error = "the disk of this partition fails".into();
            return Err(Error::Backend { retryable: true, may_have_taken_effect: false, error });
        }
        let records: Vec<_> = partition
            .records
            .iter()
            .filter(|record| record.offset >= request.from)
            .take(request.max_records)
            .cloned()
            .collect();
        *self.0.records_read.lock() += records.len();
        let (low, high) = (Some(Offset(partition.low)), Some(Offset(partition.high())));
        Ok(FetchResponse { records, low, high, ..FetchResponse::default() })
    }

    async fn lost(&mut self) -> Error {
        if *self.0.flaps.lock() {
            return away();
        }
        std::future::pending().await
    }
}

pub(crate) struct NoMember;

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
