//! The topic as the engine's [`Transport`]: a connection that a fault can cut.

use std::io;
use std::sync::Arc;

use event_log_core::engine::{
    Assignment, FetchResponse, GroupMember, Message, ProducerConnection, SendError, Transport,
};
use event_log_core::{
    CommitErrorKind, Error, Offset, PartitionId, PartitionWatermarks, Timestamp, Watermarks,
};
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

    fn fetch(
        &self,
        partition: PartitionId,
        from: Offset,
        records: usize,
        bytes: usize,
    ) -> Result<FetchResponse, Error> {
        let topic = self.check()?;
        match topic.faults.fetch(partition) {
            FetchFate::Answered => Ok(topic.fetch(partition, from, records, bytes)),
            FetchFate::Empty => {
                let PartitionWatermarks { low, high } = topic.partition_watermarks(partition);
                Ok(FetchResponse { records: Vec::new(), low: Some(low), high: Some(high), truncated: false })
            }
            FetchFate::Failed => Err(injected()),
        }
    }

    /// Completes when the connection has been cut.
    async fn cut(&mut self) {
        let epoch = self.epoch;
        if !self.dead {
            self.topic.faults.link.wait_for(|link| !link.up || link.epoch != epoch).await;
        }
    }
}

impl Transport for MemoryTransport {
    type Producer = MemoryProducerConnection;
    type Member = MemoryMember;

    fn keeps_payloads(&self) -> bool {
        true
    }

    fn partitions(&self) -> u32 {
        self.topic.partitions()
    }

    async fn connect(&self) -> Result<MemoryProducerConnection, Error> {
        Ok(MemoryProducerConnection { connection: self.connection()? })
    }

    async fn join(&self, group: &str, instance: u128) -> Result<MemoryMember, Error> {
        let connection = self.connection()?;
        let (group, id) = self.topic.groups.join(group, self.topic.partitions(), instance);
        self.topic.arrivals.changed();
        let seen = vec![Offset::ZERO; self.topic.partitions() as usize];
        let beginnings = vec![self.topic.beginnings(); seen.len()];
        let (generation, assigned, left) = (None, Vec::new(), false);
        Ok(MemoryMember { connection, group, id, generation, assigned, seen, beginnings, left })
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        Ok(self.connection()?.check()?.watermarks())
    }

    async fn committed(&self, group: &str) -> Result<Vec<Option<Offset>>, Error> {
        let connection = self.connection()?;
        let topic = connection.check()?;
        let committed = topic.groups.get(group).map(|group| group.committed());
        Ok(committed.unwrap_or_else(|| vec![None; topic.partitions() as usize]))
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
        let slow = self.connection.topic.faults.slow_appends();
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        let lost = |may_have_taken_effect| SendError::Lost { error: disconnected(), may_have_taken_effect };
        let topic = self.connection.check().map_err(|_| lost(false))?;
        let fate = topic.faults.request();
        match fate {
            Fate::Confirmed => return Ok(Some(topic.append(partition, messages.iter().cloned()))),
            Fate::ReplyLost => drop(topic.append(partition, messages.iter().cloned())),
            Fate::RequestLost => {}
            Fate::Held => topic.faults.held.lock().push((partition, messages.to_vec())),
        }
        self.connection.dead = true;
        Err(lost(true))
    }

    async fn fetch(
        &mut self,
        partition: PartitionId,
        from: Offset,
        max_records: usize,
    ) -> Result<FetchResponse, Error> {
        self.connection.fetch(partition, from, max_records, usize::MAX)
    }

    async fn watermarks(&mut self) -> Result<Watermarks, Error> {
        Ok(self.connection.check()?.watermarks())
    }

    async fn lost(&mut self) -> Error {
        self.connection.cut().await;
        disconnected()
    }
}

/// A consumer's connection.
#[derive(Debug)]
pub struct MemoryMember {
    connection: Connection,
    group: Arc<Group>,
    id: MemberId,
    /// Of the assignment that was reported last.
    generation: Option<u64>,
    assigned: Vec<PartitionId>,
    /// The high watermark of each partition at its last fetch.
    seen: Vec<Offset>,
    /// How often its offsets had begun again then.
    beginnings: Vec<u64>,
    left: bool,
}

impl MemoryMember {
    fn leave_group(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.group.leave(self.id);
            self.connection.topic.arrivals.changed();
        }
    }

    fn has_changed(&self) -> bool {
        let topic = &self.connection.topic;
        self.connection.check().is_err()
            || self.generation != Some(self.group.generation())
            || self.assigned.iter().any(|&one| {
                self.beginnings[one.0 as usize] != topic.beginnings()
                    || topic.partition_watermarks(one).high != self.seen[one.0 as usize]
            })
    }

    /// The same without any lock, and perhaps a moment late.
    fn may_have_changed(&self) -> bool {
        let topic = &self.connection.topic;
        self.generation != Some(self.group.generation())
            || self.assigned.iter().any(|&one| topic.glance(one) != self.seen[one.0 as usize])
    }
}

impl GroupMember for MemoryMember {
    async fn assignment(&mut self) -> Result<Option<Vec<Assignment>>, Error> {
        self.connection.check()?;
        if self.generation == Some(self.group.generation()) {
            return Ok(None);
        }
        let (generation, assigned) = self.group.assignment(self.id);
        self.generation = Some(generation);
        self.assigned = assigned.iter().map(|one| one.partition).collect();
        Ok(Some(assigned))
    }

    async fn fetch(
        &mut self,
        partition: PartitionId,
        from: Offset,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<FetchResponse, Error> {
        self.connection.topic.faults.answering().await;
        let beginnings = self.connection.topic.beginnings();
        let mut fetched = self.connection.fetch(partition, from, max_records, max_bytes)?;
        let known = std::mem::replace(&mut self.beginnings[partition.0 as usize], beginnings);
        fetched.truncated = known != beginnings;
        self.seen[partition.0 as usize] = fetched.high.unwrap_or_default();
        Ok(fetched)
    }

    async fn watermarks(&mut self, partition: PartitionId) -> Result<PartitionWatermarks, Error> {
        Ok(self.connection.check()?.partition_watermarks(partition))
    }

    async fn offset_at(&mut self, partition: PartitionId, timestamp: Timestamp) -> Result<Offset, Error> {
        Ok(self.connection.check()?.offset_at(partition, timestamp))
    }

    async fn committed(&mut self, partition: PartitionId) -> Result<Option<Offset>, Error> {
        self.connection.check()?;
        Ok(self.group.committed().get(partition.0 as usize).copied().flatten())
    }

    async fn store(&mut self, partition: PartitionId, next: Offset) -> Result<(), CommitErrorKind> {
        let topic = self.connection.check().map_err(CommitErrorKind::Failed)?;
        if topic.faults.commit_fails(partition) {
            return Err(CommitErrorKind::Failed(injected()));
        }
        if self.group.commit(self.id, partition, next) { Ok(()) } else { Err(CommitErrorKind::Revoked) }
    }

    async fn wait(&mut self, deadline: Instant) {
        let topic = Arc::clone(&self.connection.topic);
        topic.arrivals.wait(deadline, || self.may_have_changed(), || self.has_changed()).await;
    }

    async fn leave(mut self) -> Result<(), Error> {
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
