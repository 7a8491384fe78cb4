//! A log with switches: what no backend does on demand, one partition or one question at a time.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use event_log_core::engine::{
    Assignment, Assignments, CommitMode, FetchRequest, FetchResponse, GroupMember, KnownEnd, LogBuilder,
    Message, ProducerConnection, SendError, StoredMessage, Transport, TransportLog, TransportProperties,
};
use event_log_core::{
    CommitErrorKind, Error, EventLogExt as _, JsonCodec, Offset, PartitionId, PartitionWatermarks,
    Partitionable, Timestamp, Watermarks, partition_of,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(crate) const PARTITIONS: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    key: String,
    pub(crate) number: u64,
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.key)
    }
}

/// An event of this partition.
pub(crate) fn event(partition: u32, number: u64) -> Event {
    let mut keys = (0..).map(|n: u32| format!("k{n}"));
    let key = keys.find(|key| partition_of(key, PARTITIONS) == PartitionId(partition)).expect("there is one");
    Event { key, number }
}

/// What the log has, and its switches. Times are in milliseconds.
#[derive(Default)]
pub(crate) struct Server {
    partitions: Mutex<[Vec<StoredMessage>; PARTITIONS as usize]>,
    places: Mutex<[Option<Offset>; PARTITIONS as usize]>,
    /// What a fetch of partition 0 by a consumer takes.
    pub(crate) fetch_takes: AtomicU64,
    /// The group's place in partition 1 cannot be asked for.
    pub(crate) committed_of_1_fails: AtomicBool,
    /// The epoch of partition 1: with another one it has been away and come back.
    pub(crate) epoch_of_1: AtomicU64,
    /// The epoch of partition 0.
    pub(crate) epoch_of_0: AtomicU64,
    /// Offsets behind the last record that no record has.
    pub(crate) trailing_gap: AtomicU64,
    /// Stores what is committed, and never answers.
    pub(crate) commit_hangs: AtomicBool,
    /// The start of partition 1 cannot be stored.
    pub(crate) initialise_of_1_fails: AtomicBool,
    /// Every connection is cut, and none can be made.
    pub(crate) down: AtomicBool,
    /// What a question for the group's place takes.
    pub(crate) committed_takes: AtomicU64,
    /// What a question for the partitions of a member takes.
    pub(crate) assignments_take: AtomicU64,
    /// What joining takes.
    pub(crate) join_takes: AtomicU64,
    /// How many fetches of partition 0 consumers have begun.
    pub(crate) fetches: AtomicU64,
    /// No place can be asked for, and asking again does not help.
    pub(crate) committed_is_refused: AtomicBool,
    /// Partition 1 belongs to another member.
    pub(crate) without_1: AtomicBool,
    /// Waiting ends at once, as it may.
    pub(crate) wait_is_early: AtomicBool,
    /// Fetches of both partitions fail.
    pub(crate) fetches_fail: AtomicBool,
}

impl Server {
    pub(crate) async fn open(self: &Arc<Self>) -> TransportLog<Event, Scripted> {
        LogBuilder::new(Arc::new(JsonCodec))
            .open(Arc::new(Scripted(Arc::clone(self))))
            .await
            .expect("it opens")
    }

    /// Opens a log and appends so many events to each partition.
    pub(crate) async fn with_events(self: &Arc<Self>, count: u64) -> TransportLog<Event, Scripted> {
        let log = self.open().await;
        for number in 0..count {
            for partition in 0..PARTITIONS {
                log.append_acked(event(partition, number)).await.expect("it is appended");
            }
        }
        log
    }

    /// Something that cannot be decoded.
    pub(crate) fn poison(&self, partition: usize) {
        let mut partitions = self.partitions.lock();
        let records = &mut partitions[partition];
        let offset = records.len() as u64;
        records.push(StoredMessage {
            offset: Offset(offset),
            id: event_log_core::EventId::from_u128((8 << 76) | u128::from(offset)),
            timestamp: Timestamp(offset),
            headers: event_log_core::Headers::new(),
            payload: bytes::Bytes::from_static(b"garbage"),
        });
    }
    /// As an operator does who deletes the group while it has no member.
    pub(crate) fn forget_group(&self) {
        *self.places.lock() = [None; PARTITIONS as usize];
    }

    fn generation(&self) -> u64 {
        2 * self.epoch_of_1.load(Relaxed) + u64::from(self.without_1.load(Relaxed))
    }

    fn high(&self, partition: PartitionId) -> Offset {
        let records = self.partitions.lock()[partition.0 as usize].len() as u64;
        Offset(records + self.trailing_gap.load(Relaxed))
    }

    fn watermarks(&self) -> Watermarks {
        let marks =
            |partition| PartitionWatermarks { low: Offset::ZERO, high: self.high(PartitionId(partition)) };
        Watermarks::new((0..PARTITIONS).map(marks).collect())
    }

    fn fetch(&self, request: FetchRequest) -> FetchResponse {
        let FetchRequest { partition, from, max_records, .. } = request;
        let partitions = self.partitions.lock();
        let all = &partitions[partition.0 as usize];
        let records: Vec<_> =
            all.iter().filter(|record| record.offset >= from).take(max_records).cloned().collect();
        let is_last = records.last().map(|record| record.offset) == all.last().map(|record| record.offset);
        drop(partitions);
        let high = self.high(partition);
        let scanned_to = (records.is_empty() || is_last).then_some(high);
        FetchResponse {
            records,
            scanned_to,
            low: Some(Offset::ZERO),
            high: Some(high),
            ..FetchResponse::default()
        }
    }
}

/// The transport to the server.
pub(crate) struct Scripted(Arc<Server>);

/// A connection of a producer, or a member of a group.
pub(crate) struct Connection(Arc<Server>);

async fn takes(milliseconds: &AtomicU64) {
    let milliseconds = milliseconds.load(Relaxed);
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

impl Transport for Scripted {
    type Producer = Connection;
    type Member = Connection;

    fn properties(&self) -> TransportProperties {
        TransportProperties::new(PARTITIONS)
    }

    async fn connect(&self) -> Result<Connection, Error> {
        Ok(Connection(Arc::clone(&self.0)))
    }

    async fn join(&self, _: &str, _: u128) -> Result<Connection, Error> {
        takes(&self.0.join_takes).await;
        if self.0.down.load(Relaxed) {
            return Err(Error::Unavailable(None));
        }
        Ok(Connection(Arc::clone(&self.0)))
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        Ok(self.0.watermarks())
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        Ok(vec![Offset::ZERO; times.len()])
    }

    async fn committed(
        &self,
        _: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        takes(&self.0.committed_takes).await;
        if self.0.committed_is_refused.load(Relaxed) {
            let error = "permission denied".into();
            return Err(Error::Backend { retryable: false, may_have_taken_effect: false, error });
        }
        let [of_0, of_1] = *self.0.places.lock();
        let failed = || Error::Backend {
            retryable: true,
            may_have_taken_effect: false,
            error: "the disk of partition 1 fails".into(),
        };
        let of = |partition: &PartitionId| match partition.0 {
            0 => Ok(of_0),
            _ if self.0.committed_of_1_fails.load(Relaxed) => Err(failed()),
            _ => Ok(of_1),
        };
        Ok(partitions.iter().map(of).collect())
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
        let mut partitions = self.0.partitions.lock();
        let records = &mut partitions[partition.0 as usize];
        let base = Offset(records.len() as u64);
        records.extend(crate::served::stored(messages, base.0));
        Ok(Some(base))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        Ok(self.0.fetch(request))
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }

    async fn close(self) {}
}

impl GroupMember for Connection {
    async fn assignments(&self, known: Option<u64>) -> Result<Option<Assignments>, Error> {
        takes(&self.0.assignments_take).await;
        if self.0.down.load(Relaxed) {
            return Err(Error::Unavailable(None));
        }
        let epoch = self.0.epoch_of_1.load(Relaxed);
        let generation = self.0.generation();
        if known == Some(generation) {
            return Ok(None);
        }
        let of = |partition, epoch| Assignment { partition: PartitionId(partition), epoch };
        let mut partitions = vec![of(0, self.0.epoch_of_0.load(Relaxed)), of(1, epoch)];
        partitions.truncate(if self.0.without_1.load(Relaxed) { 1 } else { 2 });
        Ok(Some(Assignments { generation, partitions }))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        if request.partition == PartitionId(0) {
            self.0.fetches.fetch_add(1, Relaxed);
            takes(&self.0.fetch_takes).await;
        }
        if self.0.fetches_fail.load(Relaxed) {
            return Err(Error::Backend {
                retryable: true,
                may_have_taken_effect: false,
                error: "the disk fails".into(),
            });
        }
        Ok(self.0.fetch(request))
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        mode: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        self.store(places, mode);
        if mode == CommitMode::Replace && self.0.commit_hangs.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        let failed = || {
            let error = "the disk of partition 1 fails".into();
            CommitErrorKind::Failed(Error::Backend { retryable: true, may_have_taken_effect: false, error })
        };
        let fails = |partition| {
            partition == PartitionId(1)
                && mode == CommitMode::Initialise
                && self.0.initialise_of_1_fails.load(Relaxed)
        };
        places.iter().map(|&(partition, _)| if fails(partition) { Err(failed()) } else { Ok(()) }).collect()
    }

    async fn wait(&self, ends: &[KnownEnd], known: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        loop {
            let news = ends.iter().filter(|known| self.0.high(known.partition) != known.end);
            let news: Vec<_> = news.map(|known| known.partition).collect();
            let is_other = known.is_some_and(|known| known != self.0.generation());
            let is_other = is_other || self.0.down.load(Relaxed);
            if !news.is_empty()
                || is_other
                || Instant::now() >= deadline
                || self.0.wait_is_early.load(Relaxed)
            {
                return news;
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + Duration::from_millis(10))).await;
        }
    }

    async fn leave(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Connection {
    fn store(&self, places: &[(PartitionId, Offset)], mode: CommitMode) {
        let fails = mode == CommitMode::Initialise && self.0.initialise_of_1_fails.load(Relaxed);
        let mut stored = self.0.places.lock();
        let places = places.iter().filter(|(partition, _)| !fails || *partition != PartitionId(1));
        for &(partition, offset) in places {
            let place = &mut stored[partition.0 as usize];
            if mode == CommitMode::Replace || place.is_none() {
                *place = Some(offset);
            }
        }
    }
}
