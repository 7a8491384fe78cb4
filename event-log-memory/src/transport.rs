//! The topic as the engine's [`Transport`]: a connection that a fault can cut.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_log_core::engine::{
    Assignments, CommitMode, FetchRequest, FetchResponse, GroupMember, KnownEnd, Message, ProducerConnection,
    SendError, Transport, TransportProperties,
};
use event_log_core::{CommitErrorKind, Error, Offset, PartitionId, Timestamp, Watermarks};
use tokio::time::Instant;

use crate::fault_state::{Fate, FetchFate};
use crate::groups::{Group, MemberId};
use crate::topic::Topic;

/// Reaches a topic of a [`MemoryBroker`](crate::MemoryBroker). Opaque: it is only named as a part of
/// [`MemoryLog`](crate::MemoryLog).
#[derive(Debug)]
pub struct MemoryTransport {
    topic: Arc<Topic>,
}

impl MemoryTransport {
    pub(crate) const fn new(topic: Arc<Topic>) -> Self {
        Self { topic }
    }

    fn connection(&self) -> Result<Connection, Error> {
        let now = self.topic.faults.link.get();
        if !now.up {
            return Err(disconnected());
        }
        Ok(Connection { topic: Arc::clone(&self.topic), epoch: now.epoch, dead: false })
    }
}

fn disconnected() -> Error {
    Error::Unavailable(Some(Box::new(io::Error::from(io::ErrorKind::ConnectionReset))))
}

fn injected() -> Error {
    let error = Box::new(io::Error::other("an injected fault"));
    Error::Backend { retryable: true, may_have_taken_effect: false, error }
}

/// A connection, good until a fault cuts it.
#[derive(Debug)]
struct Connection {
    topic: Arc<Topic>,
    epoch: u64,
    /// Cut alone, without the others.
    dead: bool,
}

impl Connection {
    fn check(&self) -> Result<&Topic, Error> {
        let link = self.topic.faults.link.get();
        if self.dead || !link.up || link.epoch != self.epoch { Err(disconnected()) } else { Ok(&self.topic) }
    }

    fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let topic = self.check()?;
        match topic.faults.fetch(request.partition) {
            FetchFate::Answered => Ok(topic.fetch(request)),
            FetchFate::Empty => {
                let answer = topic.fetch(FetchRequest { max_records: 0, ..request });
                // It looks like the end, and is not.
                Ok(FetchResponse { records: Vec::new(), scanned_to: None, ..answer })
            }
            FetchFate::Failed => Err(injected()),
        }
    }

    /// Completes when the connection has been cut.
    async fn cut(&self) {
        let epoch = self.epoch;
        if !self.dead {
            self.topic.faults.link.wait_for(|link| !link.up || link.epoch != epoch).await;
        }
    }
}

impl Transport for MemoryTransport {
    type Producer = MemoryProducerConnection;
    type Member = MemoryMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(self.topic.partitions());
        (properties.keeps_payloads, properties.reads_ahead) = (true, false);
        properties.topic = Some(self.topic.name());
        properties
    }

    async fn connect(&self) -> Result<MemoryProducerConnection, Error> {
        let slow = self.topic.faults.slow_connects();
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        Ok(MemoryProducerConnection { connection: self.connection()? })
    }

    async fn join(&self, group: &str, instance: u128) -> Result<MemoryMember, Error> {
        let connection = self.connection()?;
        let (group, id) = self.topic.groups.join(group, self.topic.partitions(), instance);
        self.topic.arrivals.changed();
        Ok(MemoryMember { connection, group, id, left: AtomicBool::new(false) })
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        Ok(self.connection()?.check()?.watermarks())
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        let connection = self.connection()?;
        let topic = connection.check()?;
        Ok(times.iter().map(|&(partition, timestamp)| topic.offset_at(partition, timestamp)).collect())
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        let connection = self.connection()?;
        let committed = connection.check()?.groups.get(group).map(|group| group.committed());
        let of = |partition: &PartitionId| committed.as_ref()?.get(partition.0 as usize).copied().flatten();
        Ok(partitions.iter().map(|partition| Ok(of(partition))).collect())
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        if self.connection()?.check()?.groups.delete(group) {
            Ok(())
        } else {
            Err(Error::invalid("group", "still has members"))
        }
    }

    fn try_append<I>(&self, partition: PartitionId, now: Timestamp, messages: I) -> Result<Offset, I>
    where
        I: ExactSizeIterator<Item = Message>,
    {
        // The engine's clock is the broker's.
        self.topic.append_if_clean(partition, now, messages)
    }
}

/// The producer's connection.
#[derive(Debug)]
pub struct MemoryProducerConnection {
    connection: Connection,
}

impl ProducerConnection for MemoryProducerConnection {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        let lost = |may_have_taken_effect| SendError::Lost { error: disconnected(), may_have_taken_effect };
        let slow = self.connection.topic.faults.slow_appends();
        if !slow.is_zero() && tokio::time::timeout(slow, self.connection.cut()).await.is_ok() {
            return Err(lost(false));
        }
        let topic = self.connection.check().map_err(|_| lost(false))?;
        let append = || {
            let is_connected = || self.connection.check().is_ok();
            topic.append_over(partition, is_connected, messages.iter().cloned()).ok_or_else(|| lost(false))
        };
        match topic.faults.request() {
            Fate::Confirmed => return append().map(Some),
            Fate::ReplyLost => drop(append()?),
            Fate::RequestLost => {}
            Fate::Held => topic.faults.held.lock().push((partition, messages.to_vec())),
        }
        self.connection.dead = true;
        Err(lost(true))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.connection.fetch(request)
    }

    async fn lost(&mut self) -> Error {
        self.connection.cut().await;
        disconnected()
    }

    async fn close(self) {}
}

/// A consumer's connection.
#[derive(Debug)]
pub struct MemoryMember {
    connection: Connection,
    group: Arc<Group>,
    id: MemberId,
    left: AtomicBool,
}

impl MemoryMember {
    fn leave_group(&self) {
        if !self.left.swap(true, Ordering::AcqRel) {
            self.group.leave(self.id);
            self.connection.topic.arrivals.changed();
        }
    }

    fn has_changed(&self, ends: &[KnownEnd], known: Option<u64>) -> bool {
        self.connection.check().is_err()
            || known != Some(self.group.generation())
            || ends.iter().any(|end| self.is_elsewhere(end))
    }

    /// Whether a partition ends elsewhere than its reader knows.
    fn is_elsewhere(&self, known: &KnownEnd) -> bool {
        let now = self.connection.topic.end(known.partition);
        now.end != known.end || known.incarnation.is_some_and(|known| now.incarnation != Some(known))
    }

    /// The same without any lock, and perhaps a moment late.
    fn may_have_changed(&self, ends: &[KnownEnd], known: Option<u64>) -> bool {
        let topic = &self.connection.topic;
        known != Some(self.group.generation())
            || ends.iter().any(|known| topic.glance(known.partition) != known.end)
    }
}

const fn or_revoked(stored: bool) -> Result<(), CommitErrorKind> {
    if stored { Ok(()) } else { Err(CommitErrorKind::Revoked) }
}

impl GroupMember for MemoryMember {
    async fn assignments(&self, known: Option<u64>) -> Result<Option<Assignments>, Error> {
        self.connection.check()?;
        if known == Some(self.group.generation()) {
            return Ok(None);
        }
        let assignments = self.group.assignments(self.id);
        // A member that was cut off has no partitions: that says nothing about the group.
        self.connection.check()?;
        Ok(Some(assignments))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let faults = &self.connection.topic.faults;
        let slow = faults.slow_fetches();
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        faults.answering().await;
        self.connection.fetch(request)
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        mode: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        if mode == CommitMode::Initialise {
            return match self.connection.check() {
                Ok(_) => self.group.initialise(places).into_iter().map(or_revoked).collect(),
                Err(_) => places.iter().map(|_| Err(CommitErrorKind::Failed(disconnected()))).collect(),
            };
        }
        let commit = |&(partition, next): &(PartitionId, Offset)| {
            let topic = self.connection.check().map_err(CommitErrorKind::Failed)?;
            if topic.faults.commit_fails(partition) {
                return Err(CommitErrorKind::Failed(injected()));
            }
            if self.group.commit(self.id, partition, next) {
                return Ok(());
            }
            // A member that was cut off has no partitions, and may have them again when it has joined again.
            self.connection.check().map_err(CommitErrorKind::Failed)?;
            Err(CommitErrorKind::Revoked)
        };
        places.iter().map(commit).collect()
    }

    async fn wait(&self, ends: &[KnownEnd], known: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        let topic = &self.connection.topic;
        let glance = || self.may_have_changed(ends, known);
        topic.arrivals.wait(deadline, glance, || self.has_changed(ends, known)).await;
        ends.iter().filter(|end| self.is_elsewhere(end)).map(|end| end.partition).collect()
    }

    async fn leave(&self) -> Result<(), Error> {
        let connected = self.connection.check().map(drop);
        self.leave_group();
        connected
    }
}

impl Drop for MemoryMember {
    fn drop(&mut self) {
        self.leave_group();
    }
}
