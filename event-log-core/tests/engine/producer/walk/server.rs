//! A log that does as the documentation of `Transport` says, and as badly as that allows.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use event_log_core::engine::{
    FetchRequest, FetchResponse, Landmark, Message, ProducerConnection, SendError, StoredMessage, Transport,
    TransportProperties,
};
use event_log_core::{
    Error, EventId, Offset, PartitionId, PartitionWatermarks, Partitionable, Timestamp, Watermarks,
    partition_of,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::chance::Chance;
use crate::no_member::NoMember;

pub(crate) const PARTITIONS: u32 = 3;

/// The numbers of events of other producers begin here.
pub(crate) const OTHERS: u64 = 1_000_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) partition: u32,
    pub(crate) number: u64,
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
            .into_iter()
            .find(|key| partition_of(key, PARTITIONS) == PartitionId(self.partition))
    }
}

/// What a server does throughout a walk.
#[derive(Clone, Copy)]
pub(crate) struct Temper {
    pub(crate) trims: bool,
    pub(crate) refuses: bool,
    pub(crate) begins_again: bool,
    /// Partitions cannot be read for a while.
    pub(crate) breaks: bool,
    /// A request that was given up may arrive until its connection is closed.
    arrives_late: bool,
    says_where: bool,
    says_high: bool,
    reads_ahead: bool,
    connections: usize,
}

#[derive(Default)]
pub(crate) struct Partition {
    low: u64,
    /// All that was appended since it began again.
    pub(crate) records: Vec<StoredMessage>,
    /// What was there before.
    pub(crate) former: Vec<Vec<StoredMessage>>,
    /// Fetches of it fail, or hang.
    fails: bool,
    hangs: bool,
}

pub(crate) struct State {
    chance: Chance,
    pub(crate) partitions: Vec<Partition>,
    is_hostile: bool,
    is_down: bool,
    in_flight: HashSet<PartitionId>,
    /// Changes when every connection is cut.
    link: u64,
}

pub(crate) struct Server {
    pub(crate) temper: Temper,
    pub(crate) state: Mutex<State>,
}

fn away() -> Error {
    Error::Unavailable(None)
}

fn append(partition: &mut Partition, messages: &[Message]) -> Offset {
    let base = partition.records.len() as u64;
    partition.records.extend(crate::served::stored(messages, base));
    Offset(base)
}

fn number(message: &Message) -> u64 {
    serde_json::from_slice::<Event>(&message.payload).unwrap().number
}

impl Server {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let trims = chance.next(4) == 0;
        let temper = Temper {
            trims,
            refuses: chance.next(3) == 0,
            begins_again: !trims && chance.next(3) == 0,
            breaks: chance.next(3) == 0,
            arrives_late: chance.next(2) == 0,
            says_where: chance.next(4) > 0,
            says_high: chance.next(2) == 0,
            reads_ahead: chance.next(4) > 0,
            connections: chance.of(&[1, 2, 4]),
        };
        let state = State {
            chance: Chance(chance.next(u64::MAX)),
            partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(),
            is_hostile: true,
            is_down: false,
            in_flight: HashSet::new(),
            link: 0,
        };
        Self { temper, state: Mutex::new(state) }
    }

    /// What is done to it from outside, or nothing for a while.
    pub(crate) async fn step(&self, chance: &mut Chance) {
        let Temper { trims, begins_again, breaks, .. } = self.temper;
        let partition = chance.partition();
        let what = chance.next(7);
        if what < 3 {
            let mut state = self.state.lock();
            let state = &mut *state;
            let there = &mut state.partitions[partition as usize];
            match what {
                0 => state.is_down = chance.next(3) == 0,
                1 => {
                    let message = |number: u64| Message {
                        id: EventId::from_u128(u128::from(number) + (1 << 100)),
                        headers: Default::default(),
                        payload: serde_json::to_vec(&Event { partition, number }).unwrap().into(),
                    };
                    let messages: Vec<_> =
                        (0..chance.of(&[1, 50])).map(|nth| message(OTHERS + nth)).collect();
                    append(there, &messages);
                }
                _ if trims => {
                    let kept = chance.of(&[0, 2, 10]);
                    there.low = there.low.max((there.records.len() as u64).saturating_sub(kept));
                }
                _ if begins_again => {
                    // With all connections, as a server does that is started again.
                    state.link += 1;
                    there.former.push(std::mem::take(&mut there.records));
                    there.low = 0;
                }
                _ if breaks => {
                    let (fails, value) = (chance.next(2) == 0, chance.next(2) == 0);
                    if fails { there.fails = value } else { there.hangs = value }
                }
                _ => {}
            }
            return;
        }
        sleep(Duration::from_millis(chance.of(&[0, 1, 10, 100, 1_000, 1_000, 5_000, 61_000]))).await;
    }

    pub(crate) fn calm(&self) {
        let mut state = self.state.lock();
        (state.is_hostile, state.is_down) = (false, false);
        for partition in &mut state.partitions {
            (partition.fails, partition.hangs) = (false, false);
        }
    }

    async fn slow(&self, choices: &[u64]) {
        let wait = {
            let mut state = self.state.lock();
            if state.is_hostile { state.chance.of(choices) } else { 0 }
        };
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
    }

    fn fails(&self, one_in: u64) -> bool {
        let mut state = self.state.lock();
        state.is_down || state.is_hostile && state.chance.next(one_in) == 0
    }
}

pub(crate) struct Scripted(pub(crate) Arc<Server>);

pub(crate) struct Connection {
    server: Arc<Server>,
    link: u64,
    /// What was given up, and arrives late.
    late: Mutex<Vec<JoinHandle<()>>>,
}

impl Connection {
    fn is_cut(&self) -> bool {
        self.server.state.lock().link != self.link
    }
}

impl Transport for Scripted {
    type Producer = Connection;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(PARTITIONS);
        let temper = self.0.temper;
        (properties.connections, properties.reads_ahead) = (temper.connections, temper.reads_ahead);
        properties
    }

    async fn connect(&self) -> Result<Connection, Error> {
        self.0.slow(&[0, 0, 5, 3_000]).await;
        if self.0.fails(4) {
            return Err(away());
        }
        let link = self.0.state.lock().link;
        Ok(Connection { server: Arc::clone(&self.0), link, late: Mutex::default() })
    }

    async fn join(&self, _: &str, _: u128) -> Result<NoMember, Error> {
        Err(away())
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.0.slow(&[0, 0, 10, 2_000]).await;
        if self.0.fails(20) {
            return Err(away());
        }
        let marks = |partition: &Partition| PartitionWatermarks {
            low: Offset(partition.low),
            high: Offset(partition.records.len() as u64),
        };
        let answer = Watermarks::new(self.0.state.lock().partitions.iter().map(marks).collect());
        // It takes its time to come back.
        self.0.slow(&[0, 0, 10, 2_000, 6_000]).await;
        Ok(answer)
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

/// A request on its way: at most one of a partition, also when it is given up.
struct OnItsWay<'a> {
    connection: &'a Connection,
    partition: PartitionId,
    /// May arrive late, until the connection is closed.
    messages: Option<Vec<Message>>,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let Connection { server, late, .. } = self.connection;
        let (partition, messages) = (self.partition, self.messages.take());
        let wait = {
            let state = &mut *server.state.lock();
            let is_late = messages.is_some() && state.is_hostile && state.chance.next(2) == 0;
            is_late.then(|| state.chance.of(&[0, 10, 1_000, 10_000]))
        };
        let (Some(messages), Some(wait)) = (messages, wait) else {
            server.state.lock().in_flight.remove(&partition);
            return;
        };
        let server = Arc::clone(server);
        late.lock().push(tokio::spawn(async move {
            sleep(Duration::from_millis(wait)).await;
            let state = &mut *server.state.lock();
            append(&mut state.partitions[partition.0 as usize], &messages);
            state.in_flight.remove(&partition);
        }));
    }
}

impl ProducerConnection for Connection {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        let Self { server, .. } = &*self;
        assert!(server.state.lock().in_flight.insert(partition), "one request of a partition at a time");
        let mut on_its_way = OnItsWay {
            connection: self,
            partition,
            messages: server.temper.arrives_late.then(|| messages.to_vec()),
        };
        server.slow(&[0, 0, 1, 20, 20, 300, 4_000]).await;
        let lost = |may_have_taken_effect| SendError::Lost { error: away(), may_have_taken_effect };
        if self.is_cut() {
            return Err(lost(true));
        }
        on_its_way.messages = None;
        let result = {
            let state = &mut *server.state.lock();
            let fate = if state.is_hostile { state.chance.next(30) } else { 29 };
            let there = &mut state.partitions[partition.0 as usize];
            if state.is_down {
                Err(lost(false))
            } else if server.temper.refuses && messages.iter().any(|message| number(message) % 7 == 0) {
                Err(SendError::Refused(Error::invalid("event", "is not liked")))
            } else {
                match fate {
                    0 => Err(lost(false)),
                    1 => Err(lost(true)),
                    2 => {
                        append(there, messages);
                        Err(lost(true))
                    }
                    3 => {
                        append(there, &messages[..messages.len() / 2]);
                        Err(lost(true))
                    }
                    _ => Ok(server.temper.says_where.then_some(append(there, messages))),
                }
            }
        };
        server.slow(&[0, 0, 1, 20, 300]).await;
        result
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let server = &self.server;
        server.slow(&[0, 0, 1, 200]).await;
        let (fails, hangs) = {
            let partition = &server.state.lock().partitions[request.partition.0 as usize];
            (partition.fails, partition.hangs)
        };
        if hangs {
            sleep(Duration::from_secs(5)).await;
            return Err(Error::Timeout(Duration::from_secs(5)));
        }
        if fails {
            let error = "a fault of this partition".into();
            return Err(Error::Backend { retryable: true, may_have_taken_effect: false, error });
        }
        if server.fails(12) || self.is_cut() {
            return Err(away());
        }
        let state = &mut *server.state.lock();
        let most = state.chance.of(&[0, 1, 2, 1_000, 1_000]).min(request.max_records);
        let partition = &state.partitions[request.partition.0 as usize];
        let from = request.from.0.max(partition.low);
        let records = partition.records.iter().skip(from as usize).take(most).cloned().collect();
        let is_other = |after: Landmark| {
            partition.records.get(after.offset.0 as usize).is_none_or(|record| record.id != after.id)
        };
        let high = server.temper.says_high.then_some(Offset(partition.records.len() as u64));
        let truncated = server.temper.says_high && request.after.is_some_and(is_other);
        let low = Some(Offset(partition.low));
        Ok(FetchResponse { records, low, high, truncated, ..FetchResponse::default() })
    }

    async fn lost(&mut self) -> Error {
        loop {
            sleep(Duration::from_millis(50)).await;
            if self.server.fails(4_000) || self.is_cut() {
                return away();
            }
        }
    }

    async fn close(self) {
        for late in self.late.into_inner() {
            late.await.expect("it arrives");
        }
    }
}
