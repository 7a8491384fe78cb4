//! What the cases share: the event they append, and short words for what they do all the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

use super::{Harness, Spec};
use crate::consumer::{ConsumerOptions, EventConsumer};
use crate::event::{EventId, Partitionable};
use crate::ext::EventLogExt;
use crate::headers::Headers;
use crate::log::EventLog;
use crate::partitioner::partition_of;
use crate::position::PartitionId;
use crate::receipt::AppendAck;
use crate::record::{EventBatch, Record};
use crate::state::LogState;

/// The event of the suite: a key, a number to recognise it by, and a few bad habits to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The partition key.
    pub key: Option<String>,
    /// Recognises the event.
    pub number: u64,
    /// Makes the event as long as a case wants it.
    pub padding: String,
    /// The event's own id, if it brings one.
    pub id: Option<EventId>,
    /// What travels beside it.
    pub headers: Headers,
    /// What is wrong with it.
    pub defect: Option<Defect>,
}

/// What can be wrong with a [`Probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It cannot be encoded.
    Unencodable,
    /// Encoding it panics.
    PanicsInEncoding,
    /// Encoding it succeeds, and decoding that panics.
    PanicsInDecoding,
    /// It has a number that JSON has not.
    NotANumber,
    /// It is encoded as something that is not a [`Probe`].
    DecodeError,
}

impl Probe {
    /// An event with this key.
    #[must_use]
    pub fn new(key: &str, number: u64) -> Self {
        Self { key: Some(key.to_owned()), ..Self::keyless(number) }
    }

    /// An event without a key.
    #[must_use]
    pub fn keyless(number: u64) -> Self {
        Self { key: None, number, padding: String::new(), id: None, headers: Headers::new(), defect: None }
    }

    /// The same event with a defect.
    #[must_use]
    pub fn with_defect(mut self, defect: Defect) -> Self {
        self.defect = Some(defect);
        self
    }

    /// The same event with an id of its own.
    #[must_use]
    pub fn with_id(mut self, id: u128) -> Self {
        self.id = Some(EventId::from_u128(id));
        self
    }

    /// The same event with this header beside it.
    ///
    /// # Panics
    ///
    /// When no log could carry it.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.insert(name, value.to_vec()).expect("the header is legal");
        self
    }

    /// The same event, longer by this many bytes.
    #[must_use]
    pub fn padded(mut self, bytes: usize) -> Self {
        self.padding = "x".repeat(bytes);
        self
    }
}

impl Partitionable for Probe {
    fn partition_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn event_id(&self) -> Option<EventId> {
        self.id
    }

    fn headers(&self) -> Headers {
        self.headers.clone()
    }
}

/// The padding of an event whose decoding panics.
const BOOBY_TRAP: &str = "this probe panics as it is decoded";

/// What a probe looks like in the log.
#[derive(Serialize, Deserialize)]
struct Encoded {
    key: Option<String>,
    number: u64,
    padding: String,
    id: Option<EventId>,
}

impl Serialize for Probe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.defect {
            Some(Defect::Unencodable) => Err(ser::Error::custom("this probe cannot be encoded")),
            Some(Defect::PanicsInEncoding) => panic!("this probe panics as it is encoded"),
            Some(Defect::PanicsInDecoding) => {
                let Self { key, number, id, .. } = self.clone();
                Encoded { key, number, padding: BOOBY_TRAP.to_owned(), id }.serialize(serializer)
            }
            Some(Defect::NotANumber) => serializer.serialize_f64(f64::NAN),
            Some(Defect::DecodeError) => serializer.serialize_str("not a probe"),
            None => {
                let Self { key, number, padding, id, .. } = self.clone();
                Encoded { key, number, padding, id }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Encoded { key, number, padding, id } = Encoded::deserialize(deserializer)?;
        assert!(padding != BOOBY_TRAP, "this probe panics as it is decoded");
        Ok(Self { key, number, padding, id, headers: Headers::new(), defect: None })
    }
}

pub(super) type Log = Arc<dyn EventLog<Probe>>;
pub(super) type Reader = Box<dyn EventConsumer<Probe>>;

/// Long enough that whatever is there has come; on a paused clock it costs nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A log with the defaults.
pub(super) async fn open(harness: &dyn Harness) -> Log {
    open_with(harness, &Spec::default()).await
}

pub(super) async fn open_with(harness: &dyn Harness, spec: &Spec) -> Log {
    harness.open(spec).await.expect("the log opens")
}

/// A spec with this many partitions.
pub(super) fn partitions(count: u32) -> Spec {
    Spec { partitions: Some(count), ..Spec::default() }
}

pub(super) async fn reader(log: &Log, group: &str) -> Reader {
    log.consumer(group).await.expect("a consumer opens")
}

pub(super) async fn reader_with(log: &Log, group: &str, options: ConsumerOptions) -> Reader {
    log.consumer_with(group, options).await.expect("a consumer opens")
}

/// Appends an event and returns where it is.
pub(super) async fn append(log: &Log, event: Probe) -> AppendAck {
    log.append_acked(event).await.expect("the event is appended")
}

/// The state of the log, now.
pub(super) fn state_of(log: &Log) -> LogState {
    log.state().current()
}

/// Waits until the state is so.
pub(super) async fn until_state(log: &Log, is_so: impl FnMut(&LogState) -> bool) -> LogState {
    let mut state = log.state();
    let change = tokio::time::timeout(4 * PATIENCE, state.wait_for(is_so));
    change.await.expect("the state changes")
}

/// Waits until the log has noticed that it is away, or that it is back.
pub(super) async fn until_connected(log: &Log, connected: bool) {
    until_state(log, |state| state.is_connected() == connected).await;
}

/// Polls until `count` records have come, and asserts that no more come than that.
pub(super) async fn read(reader: &mut Reader, count: usize) -> Vec<Record<Probe>> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = poll(reader, count - records.len(), PATIENCE).await;
        let is_news = !batch.is_empty() || !batch.notices.is_empty();
        assert!(is_news, "only {} of {count} records came: {records:?}", records.len());
        records.extend(batch);
    }
    records
}

pub(super) async fn poll<E>(
    reader: &mut Box<dyn EventConsumer<E>>,
    max: usize,
    timeout: Duration,
) -> EventBatch<E>
where
    E: DeserializeOwned + Send + 'static,
{
    let batch = reader.poll(max, timeout).await.expect("the poll succeeds");
    assert!(batch.len() <= max, "{} records came, at most {max} were asked for", batch.len());
    batch
}

/// Asserts that nothing more comes.
pub(super) async fn assert_dry(reader: &mut Reader) {
    let batch = poll(reader, 100, Duration::from_millis(50)).await;
    assert!(batch.is_empty(), "nothing more was expected: {batch:?}");
}

/// The numbers of the records, which must all be decodable.
pub(super) fn numbers<'a>(records: impl IntoIterator<Item = &'a Record<Probe>>) -> Vec<u64> {
    records.into_iter().map(|record| record.event.as_ref().expect("a probe").number).collect()
}

/// The numbers of the records per key, in the order in which they came.
pub(super) fn numbers_by_key(records: &[Record<Probe>]) -> BTreeMap<Option<String>, Vec<u64>> {
    let mut by_key = BTreeMap::<_, Vec<u64>>::new();
    for record in records {
        let probe = record.event.as_ref().expect("a probe");
        by_key.entry(probe.key.clone()).or_default().push(probe.number);
    }
    by_key
}

/// Asserts that offsets increase within every partition.
pub(super) fn assert_partition_order(records: &[Record<Probe>]) {
    let mut last = BTreeMap::<PartitionId, _>::new();
    for record in records {
        let before = last.insert(record.position.partition, record.position.offset);
        assert!(before < Some(record.position.offset), "out of order: {records:?}");
    }
}

/// Appends one event after another, each with a key of its own.
pub(super) async fn fill(log: &Log, numbers: std::ops::Range<u64>) {
    for number in numbers {
        append(log, Probe::new(&format!("key-{number}"), number)).await;
    }
}

/// A key of each of the partitions 0 and 1 of two.
pub(super) fn keys_of_two_partitions() -> [String; 2] {
    let key_of = |partition| {
        let mut keys = (0..).map(|number| format!("key-{number}"));
        keys.find(|key| partition_of(key, 2) == PartitionId(partition)).expect("some key goes there")
    };
    [key_of(0), key_of(1)]
}
