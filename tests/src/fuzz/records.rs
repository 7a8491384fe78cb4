//! Arbitrary bytes as messages of a log, and what a consumer makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event_log_core::conformance::Probe;
use event_log_core::engine::TokioClock;
use event_log_core::{
    Codec, ConsumerOptions, Cursor, DeadLetter, Error, EventConsumer, EventLog, Headers, JsonCodec, Notice,
    PartitionId, Partitionable, PoisonPolicy, Position, RawCodec, Record, SeekPosition, Timestamp,
};
use event_log_memory::MemoryBroker;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vibes_events::StoredOrBare;

use super::{parts, run_paused};

const PARTITIONS: u32 = 2;
/// More would only make a run longer.
const MESSAGES: usize = 40;
const GROUP: &str = "readers";

/// Puts the parts of an input into a log, as a foreign producer could, and reads them with a real consumer. The first byte
/// chooses what the consumer takes them for, what it does with what it cannot decode, and how much it asks for at once.
///
/// Every message is read exactly once, in its place, as the event that the codec makes of it; or, if it makes none,
/// as the policy says, with its bytes. Nothing behind it is lost, and all of it can be committed.
///
/// # Panics
///
/// If that does not hold.
pub fn records(data: &[u8]) {
    let (&choice, messages) = data.split_first().unwrap_or((&0, &[]));
    let messages: Vec<_> = parts(messages).take(MESSAGES).map(Bytes::copy_from_slice).collect();
    let policy = [Policy::Deliver, Policy::Skip, Policy::Park, Policy::Halt][usize::from(choice % 4)];
    let at_once = [1, 3, 100][usize::from(choice / 16 % 3)];
    run_paused(async {
        let run = Run { messages, policy, at_once };
        match choice / 4 % 4 {
            0 => run.read_as::<Probe>(JsonCodec).await,
            1 => run.read_as::<StoredOrBare>(JsonCodec).await,
            2 => run.read_as::<AnyJson>(JsonCodec).await,
            _ => run.read_as(RawCodec).await,
        }
    });
}

/// An event that can be anything that is JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct AnyJson(serde_json::Value);

impl Partitionable for AnyJson {
    fn partition_key(&self) -> Option<&str> {
        self.0.as_str()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Deliver,
    Skip,
    Park,
    Halt,
}

struct Run {
    messages: Vec<Bytes>,
    policy: Policy,
    at_once: usize,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Delivered as an event, which is encoded like this.
    Event(Vec<u8>),
    /// Delivered as bytes.
    HandedOver(Bytes),
    Skipped,
    Parked,
    Halted,
}

impl Run {
    async fn read_as<E>(self, codec: impl Codec<E> + Copy + 'static)
    where
        E: Partitionable + Serialize + DeserializeOwned + Send + 'static,
    {
        let clock = Arc::new(TokioClock::starting_at(Timestamp(1)));
        let broker = MemoryBroker::with_clock(clock);
        let log =
            event_log_memory::builder::<E>().broker(&broker).partitions(PARTITIONS).codec(codec).seed(1);
        let log = log.open().await.expect("the log opens");
        let letters = event_log_memory::builder::<DeadLetter>().broker(&broker).topic("letters").seed(2);
        let letters = Arc::new(letters.open().await.expect("the log opens"));
        let faults = broker.faults("events").expect("the log has opened the topic");
        let mut stored = BTreeMap::new();
        for (message, partition) in self.messages.iter().zip((0..PARTITIONS).cycle()) {
            let at = faults.append_foreign(PartitionId(partition), message.clone());
            stored.insert(at.expect("there is such a partition"), message.clone());
        }
        let expected = stored.iter().map(|(&at, message)| (at, self.fate(&codec, message))).collect();

        let poison = match self.policy {
            Policy::Deliver => PoisonPolicy::Deliver,
            Policy::Skip => PoisonPolicy::Skip,
            Policy::Park => PoisonPolicy::Park(letters.clone()),
            Policy::Halt => PoisonPolicy::Halt,
        };
        let options = ConsumerOptions::default().poison(poison);
        let mut reader = log.consumer_with(GROUP, options).await.expect("a consumer opens");
        let fates = self.read(&codec, &mut *reader).await;
        assert_eq!(fates, expected, "{:?}", self.policy);
        self.check_letters(&*letters, &stored, &fates).await;

        let read = reader.position().clone();
        reader.commit(&read).await.expect("what was delivered can be committed");
        let passed_on_its_own = fates.values().all(|fate| *fate != Fate::Halted);
        let lag = log.lag(GROUP).await.expect("the lag is known").total();
        // After a seek only what was delivered behind it can be committed.
        assert!(lag == 0 || !passed_on_its_own, "{lag} of {} are left", stored.len());
    }

    fn fate<E: Serialize + DeserializeOwned>(&self, codec: &impl Codec<E>, message: &Bytes) -> Fate {
        match (codec.decode(message, &Headers::new()), self.policy) {
            (Ok(event), _) => Fate::Event(encode(codec, &event)),
            (Err(_), Policy::Deliver) => Fate::HandedOver(message.clone()),
            (Err(_), Policy::Skip) => Fate::Skipped,
            (Err(_), Policy::Park) => Fate::Parked,
            (Err(_), Policy::Halt) => Fate::Halted,
        }
    }

    /// Reads everything, past whatever it halts at.
    async fn read<E: Serialize + Partitionable>(
        &self,
        codec: &impl Codec<E>,
        reader: &mut dyn EventConsumer<E>,
    ) -> BTreeMap<Position, Fate> {
        let mut fates = BTreeMap::new();
        let mut ids = BTreeSet::new();
        loop {
            let batch = match reader.poll(self.at_once, Duration::ZERO).await {
                Ok(batch) => batch,
                Err(Error::Poisoned { position, error }) => {
                    assert!(!error.to_string().is_empty());
                    tell(&mut fates, position, Fate::Halted);
                    let mut behind = Cursor::new();
                    behind.advance_past(position);
                    reader.seek(SeekPosition::Cursor(behind)).await.expect("it can be passed");
                    continue;
                }
                Err(error) => panic!("{error:?}"),
            };
            assert!(batch.len() <= self.at_once);
            assert_eq!(batch.cursor(), reader.position());
            if batch.is_empty() && batch.notices.is_empty() {
                return fates;
            }
            for notice in &batch.notices {
                match notice {
                    Notice::Skipped { position, .. } => tell(&mut fates, *position, Fate::Skipped),
                    Notice::Parked { position, .. } => tell(&mut fates, *position, Fate::Parked),
                    other => panic!("{other:?}"),
                }
            }
            let mut last = Cursor::new();
            for record in batch {
                let Position { partition, offset } = record.position;
                assert!(last.get(partition).is_none_or(|next| next <= offset), "out of order");
                last.advance_past(record.position);
                assert!(ids.insert(record.id), "two records have one id");
                tell(&mut fates, record.position, delivered(codec, record));
            }
        }
    }

    /// What was parked is in its letters, and nothing else is.
    async fn check_letters(
        &self,
        log: &dyn EventLog<DeadLetter>,
        stored: &BTreeMap<Position, Bytes>,
        fates: &BTreeMap<Position, Fate>,
    ) {
        let mut reader =
            log.consumer_with(GROUP, ConsumerOptions::default()).await.expect("a consumer opens");
        let mut letters = BTreeMap::new();
        loop {
            let batch = reader.poll(MESSAGES, Duration::ZERO).await.expect("letters can be read");
            if batch.is_empty() {
                break;
            }
            for letter in batch.into_events() {
                assert!(!letter.reason.is_empty());
                letters.insert(letter.position, letter.payload);
            }
        }
        let parked = fates.iter().filter(|(_, fate)| **fate == Fate::Parked);
        assert_eq!(letters, parked.map(|(at, _)| (*at, stored[at].clone())).collect());
    }
}

fn tell(fates: &mut BTreeMap<Position, Fate>, at: Position, fate: Fate) {
    if let Some(before) = fates.insert(at, fate) {
        panic!("the record at {at} came twice, first as {before:?}");
    }
}

fn delivered<E: Serialize + Partitionable>(codec: &impl Codec<E>, record: Record<E>) -> Fate {
    let key = record.key().map(str::to_owned);
    match record.event {
        Ok(event) => {
            assert_eq!(key.as_deref(), event.partition_key());
            Fate::Event(encode(codec, &event))
        }
        Err(undecodable) => {
            assert!(key.is_none() && !undecodable.error.to_string().is_empty());
            Fate::HandedOver(undecodable.payload)
        }
    }
}

/// What can be decoded can be encoded.
fn encode<E>(codec: &impl Codec<E>, event: &E) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec.encode(event, &mut bytes).unwrap_or_else(|error| panic!("{error}"));
    bytes
}
