//! A log that answers a producer when the test says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::no_member::NoMember;
use event_log_core::engine::{
    FetchRequest, FetchResponse, LogBuilder, Message, ProducerConnection, SendError, StoredMessage,
    Transport, TransportLog, TransportProperties,
};
use event_log_core::{
    Error, EventLog as _, JsonCodec, Offset, PartitionId, PartitionWatermarks, Partitionable, ProducerConfig,
    Ticket, Timestamp, Watermarks, partition_of,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub(crate) const PARTITIONS: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) partition: u32,
    pub(crate) number: u64,
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
pub(crate) struct Asked {
    pub(crate) connection: usize,
    pub(crate) partition: u32,
    pub(crate) numbers: Vec<u64>,
    pub(crate) messages: Vec<Message>,
    pub(crate) answer: oneshot::Sender<Result<(), SendError>>,
}

/// A log of which the test answers the requests.
pub(crate) struct Scripted {
    pub(crate) connections: usize,
    asked: mpsc::UnboundedSender<Asked>,
    /// What may be connected: every connection takes one.
    pub(crate) lets_in: Semaphore,
    /// What may be read back: every request takes one.
    pub(crate) reads: Semaphore,
    /// No question is answered where the partitions end.
    pub(crate) is_half_dead: AtomicBool,
    /// The credentials are refused.
    pub(crate) refuses: AtomicBool,
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) connected: usize,
    pub(crate) connecting: usize,
    pub(crate) most_connecting: usize,
    records: HashMap<u32, Vec<StoredMessage>>,
    pub(crate) read_back: Vec<u32>,
    /// How many records were read back.
    pub(crate) records_read: usize,
}

pub(crate) struct Connection {
    number: usize,
    log: Arc<Scripted>,
}

/// A transport has no way to its own `Arc`, which its connections need.
pub(crate) struct Scripting(Arc<Scripted>);

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

    async fn connect(&self) -> Result<Connection, Error> {
        if self.0.connections == 0 {
            return Err(Error::Unavailable(None));
        }
        if self.0.refuses.load(Relaxed) {
            return Err(Error::Unauthorized(None));
        }
        self.let_in().await
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Ok(NoMember)
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        if self.0.is_half_dead.load(Relaxed) {
            return Err(Error::Unavailable(None));
        }
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
        Ok(partitions.iter().map(|_| Ok(None)).collect())
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
    pub(crate) fn append(&self, partition: u32, messages: &[Message]) -> Offset {
        let mut state = self.state.lock();
        let records = state.records.entry(partition).or_default();
        let base = Offset(records.len() as u64);
        records.extend(crate::served::stored(messages, base.0));
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
        // A test that ends has no answer.
        answered.await.unwrap_or(Err(SendError::Refused(Error::Closed)))?;
        Ok(Some(self.log.append(partition, messages)))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let FetchRequest { partition, from, max_records: count, .. } = request;
        self.log.state.lock().read_back.push(partition.0);
        self.log.reads.acquire().await.expect("it is not closed").forget();
        let mut state = self.log.state.lock();
        let records = state.records.get(&partition.0).into_iter().flatten();
        let records: Vec<_> = records.skip(from.0 as usize).take(count).cloned().collect();
        state.records_read += records.len();
        Ok(FetchResponse { records, ..FetchResponse::default() })
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }

    async fn close(self) {}
}

pub(crate) struct Stage {
    pub(crate) log: TransportLog<Numbered, Scripting>,
    pub(crate) scripted: Arc<Scripted>,
    pub(crate) asked: mpsc::UnboundedReceiver<Asked>,
}

impl Stage {
    /// A log with so many connections; with none it is away.
    pub(crate) async fn with(connections: usize, config: ProducerConfig) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let lets_in = Semaphore::new(Semaphore::MAX_PERMITS);
        let reads = Semaphore::new(Semaphore::MAX_PERMITS);
        let state = Mutex::default();
        let (is_half_dead, refuses) = (AtomicBool::default(), AtomicBool::default());
        let scripted = Scripted { connections, asked: sender, lets_in, reads, is_half_dead, refuses, state };
        let scripted = Arc::new(scripted);
        let transport = Arc::new(Scripting(Arc::clone(&scripted)));
        let log =
            LogBuilder::new(Arc::new(JsonCodec)).config(config).open(transport).await.expect("it opens");
        Self { log, scripted, asked }
    }

    pub(crate) fn submit(&self, partition: u32, number: u64) -> Ticket<Numbered> {
        self.log.submit(Numbered { partition, number }).expect("there is space")
    }

    pub(crate) async fn next(&mut self) -> Asked {
        self.asked.recv().await.expect("the log is open")
    }

    /// What is asked once nothing can happen any more without the test: on a paused clock a timer expires only then.
    pub(crate) async fn asked_by_now(&mut self) -> Vec<Asked> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }
}

pub(crate) fn confirm(asked: Asked) {
    asked.answer.send(Ok(())).expect("the log waits for it");
}
