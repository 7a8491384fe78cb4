//! A request that is given up goes on below, as in the SDK of Iggy: nothing ends it, and closing its connection waits for it.

use std::sync::Arc;
use std::time::Duration;

use event_log_core::engine::{
    FetchRequest, FetchResponse, LogBuilder, Message, ProducerConnection, SendError, StoredMessage,
    Transport, TransportLog, TransportProperties,
};
use event_log_core::{
    Error, EventLog as _, JsonCodec, Offset, PartitionId, PartitionWatermarks, Timestamp, Watermarks,
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::no_member::NoMember;
use crate::served::{Event, HOUR, MS, PARTITIONS, SECOND, event, steady};

/// How long the first request for partition 0 lies in the connection before it is sent.
const LIES: Duration = Duration::from_secs(5);

struct Wire {
    partitions: Mutex<Vec<Vec<StoredMessage>>>,
    /// Requests that are not waited for any more, and that are under way all the same.
    given_up: watch::Sender<usize>,
    /// Connections that a request for partition 1 still loses.
    loses: Mutex<usize>,
    /// How many requests for partition 0 there were.
    sends: Mutex<usize>,
}

impl Wire {
    fn append(&self, partition: PartitionId, messages: &[Message]) -> Offset {
        let there = &mut self.partitions.lock()[partition.0 as usize];
        let base = there.len() as u64;
        there.extend(messages.iter().zip(base..).map(|(message, offset)| StoredMessage {
            offset: Offset(offset),
            id: message.id,
            timestamp: Timestamp(0),
            headers: message.headers.clone(),
            payload: message.payload.clone(),
        }));
        Offset(base)
    }
}

fn number(record: &StoredMessage) -> u64 {
    serde_json::from_slice::<Event>(&record.payload).unwrap().number
}

struct Log(Arc<Wire>);
struct Connection(Arc<Wire>);

/// Says that a request is given up, unless it was answered.
struct GivesUp(Arc<Wire>, Option<Arc<Mutex<bool>>>);

impl Drop for GivesUp {
    fn drop(&mut self) {
        if let Some(is_over) = self.1.take().filter(|is_over| !*is_over.lock()) {
            *is_over.lock() = true;
            self.0.given_up.send_modify(|count| *count += 1);
        }
    }
}

impl Transport for Log {
    type Producer = Connection;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(PARTITIONS);
        properties.connections = 2;
        properties
    }

    async fn connect(&self) -> Result<Connection, Error> {
        Ok(Connection(Arc::clone(&self.0)))
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Err(Error::Unavailable(None))
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        let high = |there: &Vec<_>| PartitionWatermarks { low: Offset(0), high: Offset(there.len() as u64) };
        Ok(Watermarks::new(self.0.partitions.lock().iter().map(high).collect()))
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
        if partition == PartitionId(1) {
            sleep(100 * MS).await;
            let loses = &mut *self.0.loses.lock();
            if *loses > 0 {
                *loses -= 1;
                return Err(SendError::Lost {
                    error: Error::Unavailable(None),
                    may_have_taken_effect: false,
                });
            }
        }
        if partition != PartitionId(0) {
            return Ok(Some(self.0.append(partition, messages)));
        }
        let lies = {
            let sends = &mut *self.0.sends.lock();
            *sends += 1;
            if *sends == 1 { LIES } else { Duration::ZERO }
        };
        let (answer, answered) = oneshot::channel();
        let (wire, messages, is_over) = (Arc::clone(&self.0), messages.to_vec(), Arc::new(Mutex::new(false)));
        let gives_up = GivesUp(Arc::clone(&wire), Some(Arc::clone(&is_over)));
        tokio::spawn(async move {
            sleep(lies).await;
            let base = wire.append(partition, &messages);
            if std::mem::replace(&mut *is_over.lock(), true) {
                wire.given_up.send_modify(|count| *count -= 1);
            }
            let _ = answer.send(base);
        });
        let base = answered.await.ok();
        drop(gives_up);
        Ok(base)
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let there = &self.0.partitions.lock()[request.partition.0 as usize];
        let records: Vec<_> = there.iter().skip(request.from.0 as usize).cloned().collect();
        let (low, high) = (Some(Offset(0)), Some(Offset(there.len() as u64)));
        Ok(FetchResponse { records, low, high, ..FetchResponse::default() })
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }

    async fn close(self) {
        let _ = self.0.given_up.subscribe().wait_for(|&count| count == 0).await;
    }
}

async fn open(loses: usize, expiry: Option<Duration>) -> (Arc<Wire>, TransportLog<Event, Log>) {
    let wire = Arc::new(Wire {
        partitions: Mutex::new(vec![Vec::new(); PARTITIONS as usize]),
        given_up: watch::Sender::new(0),
        loses: Mutex::new(loses),
        sends: Mutex::new(0),
    });
    let mut config = steady();
    (config.reconnect.initial, config.expiry) = (500 * MS, expiry);
    let log = LogBuilder::new(Arc::new(JsonCodec)).config(config);
    let log = log.open(Arc::new(Log(Arc::clone(&wire)))).await.unwrap();
    sleep(MS).await;
    (wire, log)
}

/// How many copies of one event of partition 0 there are, and how many requests.
async fn copies(loses: usize) -> (usize, usize) {
    let (wire, log) = open(loses, None).await;
    let slow = log.submit(event(0, 0)).unwrap();
    let bad = log.submit(event(1, 0)).unwrap();
    timeout(HOUR, slow).await.unwrap().unwrap();
    timeout(HOUR, bad).await.unwrap().unwrap();
    sleep(60 * SECOND).await;
    let sends = *wire.sends.lock();
    (wire.partitions.lock()[0].len(), sends)
}

#[tokio::test(start_paused = true)]
async fn a8_a_request_that_is_given_up_beside_a_good_connection_is_over_before_it_is_read_back() {
    assert_eq!(copies(1).await.0, 1);
}

#[tokio::test(start_paused = true)]
async fn control_a8_a_slow_request_is_there_once() {
    assert_eq!(copies(0).await, (1, 1));
}

/// The first event has expired when its request is given up, and arrives after the second one was submitted.
#[tokio::test(start_paused = true)]
async fn a2_an_event_is_behind_one_that_has_expired_and_arrives_late() {
    let (wire, log) = open(1, Some(3 * SECOND)).await;
    let slow = log.submit(event(0, 0)).unwrap();
    let bad = log.submit(event(1, 0)).unwrap();
    let slow = timeout(4 * SECOND, slow).await.unwrap().unwrap_err();
    assert!(slow.may_have_taken_effect(), "{slow:?}");
    timeout(HOUR, log.submit(event(0, 1)).unwrap()).await.unwrap().unwrap();
    drop(bad);
    let numbers: Vec<_> = wire.partitions.lock()[0].iter().map(number).collect();
    assert_eq!(numbers, [0, 1]);
}
