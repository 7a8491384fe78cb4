//! What an event keeps in memory that waits for a partition which stands still.

use std::sync::Arc;
use std::time::Duration;

use crate::no_member::NoMember;
use event_log_core::engine::{
    FetchRequest, FetchResponse, LogBuilder, Message, ProducerConnection, SendError, Transport, TransportLog,
    TransportProperties,
};
use event_log_core::{
    Error, EventLog as _, JsonCodec, Offset, Overflow, PartitionId, PartitionWatermarks, Partitionable,
    ProducerConfig, Timestamp, Watermarks, partition_of,
};
use serde::Serialize;
use tokio::time::{sleep, timeout};

const PARTITIONS: u32 = 2;

/// Requests of partition 0 are never answered, the others at once.
struct StandsStill;

impl Transport for StandsStill {
    type Producer = StandsStill;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(PARTITIONS);
        properties.connections = 2;
        properties
    }

    async fn connect(&self) -> Result<StandsStill, Error> {
        Ok(StandsStill)
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Ok(NoMember)
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        let nothing = PartitionWatermarks { low: Offset::ZERO, high: Offset::ZERO };
        Ok(Watermarks::new(vec![nothing; PARTITIONS as usize]))
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

impl ProducerConnection for StandsStill {
    async fn send(&mut self, partition: PartitionId, _: &[Message]) -> Result<Option<Offset>, SendError> {
        if partition == PartitionId(0) {
            std::future::pending::<()>().await;
        }
        Ok(None)
    }

    async fn fetch(&self, _: FetchRequest) -> Result<FetchResponse, Error> {
        Ok(FetchResponse::default())
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }

    async fn close(self) {}
}

#[derive(Serialize)]
struct Text(&'static str, String);

impl Partitionable for Text {
    fn partition_key(&self) -> Option<&str> {
        Some(self.0)
    }
}

fn key_of(partition: u32) -> &'static str {
    let mut keys = ["a", "b", "c", "d", "e"].into_iter();
    keys.find(|key| partition_of(key, PARTITIONS) == PartitionId(partition)).unwrap()
}

/// The bytes kept when the long events of a hundred pairs are in the log, and the short ones of partition 0 are not.
fn kept(in_batches: bool) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let opening = LogBuilder::new(Arc::new(JsonCodec)).open(Arc::new(StandsStill));
    let log: TransportLog<Text, StandsStill> = runtime.block_on(opening).unwrap();
    let counted = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..100 {
                let long = Text(key_of(1), "x".repeat(100_000));
                let short = Text(key_of(0), String::new());
                if in_batches {
                    drop(timeout(Duration::from_millis(2), log.append_batch(vec![long, short])).await);
                } else {
                    drop(log.submit(short).unwrap());
                    log.submit(long).unwrap().await.unwrap();
                }
            }
            while log.state().current().buffered > 100 {
                sleep(Duration::from_millis(1)).await;
            }
        });
    });
    assert_eq!(log.state().current().buffered, 100, "the short ones");
    counted.bytes_current
}

#[test]
fn l8_short_events_of_batches_keep_no_more_memory_than_their_own() {
    let (single, batch) = (kept(false), kept(true));
    assert!(
        batch <= single + 1_000_000,
        "a hundred short events: {single} bytes, and {batch} when they came in batches"
    );
}

#[derive(Serialize)]
struct Held {
    #[serde(skip)]
    _held: Arc<()>,
}

impl Partitionable for Held {
    fn partition_key(&self) -> Option<&str> {
        Some(key_of(0))
    }
}

/// An `append` that waits for space, and is given up.
#[tokio::test(start_paused = true)]
async fn l8_an_append_that_is_dropped_takes_its_event_with_it() {
    let mut config = ProducerConfig::default();
    (config.buffer_events, config.overflow) = (1, Overflow::Block { deadline: Duration::from_secs(3_600) });
    let builder = LogBuilder::new(Arc::new(JsonCodec)).config(config);
    let log: TransportLog<Held, StandsStill> = builder.open(Arc::new(StandsStill)).await.unwrap();
    let held = Arc::new(());
    let event = || Held { _held: Arc::clone(&held) };
    let _in_flight = log.submit(event()).unwrap();
    sleep(Duration::from_secs(1)).await;
    let _queued = log.submit(event()).unwrap();
    assert!(timeout(Duration::from_secs(1), log.append(event())).await.is_err(), "there is no space");
    assert_eq!(Arc::strong_count(&held), 3, "the one that was given up is kept");
}
