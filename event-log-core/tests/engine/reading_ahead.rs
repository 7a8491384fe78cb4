//! A server for attacks: as many partitions as one likes, real groups, incarnations, retention, and latencies of every call.
//! It reads ahead, as a transport does whose fetches take a round trip.
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use event_log_core::engine::{
    Assignment, Assignments, CommitMode, Connect, FetchRequest, FetchResponse, GroupMember, KnownEnd,
    LogBuilder, Message, ProducerConnection, SendError, StoredMessage, Transport, TransportLog,
    TransportProperties,
};
use event_log_core::{
    CommitErrorKind, Error, EventId, Headers, Offset, PartitionId, PartitionWatermarks, RawCodec, RawEvent,
    Timestamp, Watermarks,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Part {
    pub(crate) records: VecDeque<StoredMessage>,
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) incarnation: u64,
    pub(crate) place: Option<Offset>,
    pub(crate) owner: Option<u64>,
    pub(crate) last_instance: Option<u128>,
    pub(crate) epoch: u64,
    /// What a fetch takes.
    pub(crate) fetch_takes: Duration,
    pub(crate) fetch_fails: bool,
    /// A fetch has the server close the connection.
    pub(crate) fetch_loses: bool,
    pub(crate) place_fails: bool,
    /// When the records were appended, by offset, in real time of the test.
    pub(crate) since: VecDeque<Instant>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) parts: Vec<Part>,
    pub(crate) members: Vec<(u64, u128)>,
    pub(crate) next_member: u64,
    pub(crate) last_epoch: u64,
    pub(crate) generation: u64,
    pub(crate) up: bool,
    pub(crate) link: u64,
    pub(crate) clock: u64,
    pub(crate) ask_takes: Duration,
    pub(crate) wait_takes: Duration,
    pub(crate) commit_takes: Duration,
    pub(crate) join_takes: Duration,
    /// What a question for the places of the group takes, and one for the watermarks; and that they fail, for all partitions.
    pub(crate) places_take: Duration,
    pub(crate) marks_take: Duration,
    pub(crate) places_fail: bool,
    pub(crate) marks_fail: bool,
    /// `wait` returns at once, without news where there are none.
    pub(crate) wait_is_early: bool,
    /// Fetches of a partition by one member that are under way, and the most that ever were.
    pub(crate) under_way: std::collections::BTreeMap<(u64, u32), (u32, u32)>,
    /// What `wait` says besides, when it is there: it may say too much.
    pub(crate) rumours: Vec<PartitionId>,
    /// Tells high watermarks in answers to fetches.
    pub(crate) tells_high: bool,
    pub(crate) tells_incarnation: bool,
    pub(crate) most: usize,
    pub(crate) random: u64,
    /// The next commit is stored, and its connection is lost before the answer.
    pub(crate) commit_reply_lost: bool,
    pub(crate) tells_scanned: bool,
    /// How many calls there have been.
    pub(crate) calls: std::collections::BTreeMap<&'static str, u64>,
    /// The most records that a fetch has asked for.
    pub(crate) most_asked: usize,
    /// Calls go wrong and take their time at random.
    pub(crate) chaos: bool,
    /// A fetch looks through so many offsets at most.
    pub(crate) page: u64,
    pub(crate) reads_ahead: bool,
    /// Bytes of answers that are in memory, and the most that ever were.
    pub(crate) alive: Arc<(AtomicU64, AtomicU64)>,
}

/// A payload that is counted while it is in memory.
struct Counted(Bytes, Arc<(AtomicU64, AtomicU64)>);

impl Counted {
    fn new(payload: Bytes, alive: &Arc<(AtomicU64, AtomicU64)>) -> Self {
        let bytes = payload.len() as u64;
        alive.1.fetch_max(alive.0.fetch_add(bytes, Relaxed) + bytes, Relaxed);
        Self(payload, Arc::clone(alive))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.0.fetch_sub(self.0.len() as u64, Relaxed);
    }
}

pub(crate) struct Server(pub(crate) Mutex<State>);

fn fault() -> Error {
    Error::Backend { retryable: true, may_have_taken_effect: true, error: "a fault".into() }
}

impl State {
    pub(crate) fn rebalance(&mut self) {
        let members = self.members.clone();
        for (nth, part) in self.parts.iter_mut().enumerate() {
            let owner = (!members.is_empty()).then(|| members[nth % members.len()]);
            part.owner = owner.map(|(id, _)| id);
            if let Some((_, instance)) = owner {
                if part.last_instance.replace(instance) != Some(instance) {
                    self.last_epoch += 1;
                    part.epoch = self.last_epoch;
                }
            }
        }
        self.generation += 1;
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }
}

impl Server {
    pub(crate) fn new(partitions: usize) -> Arc<Self> {
        let state = State {
            parts: (0..partitions).map(|_| Part::default()).collect(),
            up: true,
            tells_high: true,
            tells_incarnation: true,
            tells_scanned: true,
            most: usize::MAX,
            page: u64::MAX,
            reads_ahead: true,
            random: 0x9e37_79b9_7f4a_7c15,
            ..State::default()
        };
        Arc::new(Self(Mutex::new(state)))
    }

    pub(crate) async fn open(self: &Arc<Self>) -> TransportLog<RawEvent, Reach> {
        LogBuilder::new(Arc::new(RawCodec)).open(Arc::new(Reach(Arc::clone(self)))).await.unwrap()
    }

    /// Appends a record with this id and this text.
    pub(crate) fn append_as(&self, partition: usize, id: u128, text: &str) -> Offset {
        let mut state = self.0.lock();
        state.clock += 1;
        let timestamp = Timestamp(state.clock);
        let part = &mut state.parts[partition];
        let offset = Offset(part.high);
        part.high += 1;
        part.records.push_back(StoredMessage {
            offset,
            id: EventId::from_u128(id),
            timestamp,
            headers: Headers::new(),
            payload: Bytes::copy_from_slice(text.as_bytes()),
        });
        part.since.push_back(Instant::now());
        offset
    }

    pub(crate) fn append(&self, partition: usize, number: u64) -> Offset {
        self.append_as(partition, u128::from(number) << 8 | 1, &number.to_string())
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock())
    }

    fn called(&self, name: &'static str) {
        *self.0.lock().calls.entry(name).or_default() += 1;
    }

    pub(crate) fn evict_all(&self) {
        let mut state = self.0.lock();
        state.link += 1;
        state.members.clear();
        state.rebalance();
    }

    async fn takes(&self, what: impl FnOnce(&State) -> Duration) {
        let mut takes = what(&self.0.lock());
        {
            let mut state = self.0.lock();
            if state.chaos {
                takes += match state.below(40) {
                    0 => MS * state.below(2_500) as u32,
                    1..15 => MS * state.below(120) as u32,
                    _ => Duration::ZERO,
                };
            }
        }
        if !takes.is_zero() {
            sleep(takes).await;
        }
    }

    fn answer(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let nth = request.partition.0 as usize;
        let is_short = self.goes_wrong(4);
        let mut state = self.0.lock();
        state.most_asked = state.most_asked.max(request.max_records);
        if state.parts[nth].fetch_fails {
            return Err(fault());
        }
        let most = state.most.min(if is_short { 1 + state.below(5) as usize } else { usize::MAX });
        let (tells_high, tells_incarnation) = (state.tells_high, state.tells_incarnation);
        let tells_scanned = state.tells_scanned;
        let part = &state.parts[nth];
        let there = part.records.partition_point(|record| record.offset < request.from);
        let mut bytes = 0;
        let fits = |record: &&StoredMessage| {
            let is_first = bytes == 0;
            bytes += record.bytes();
            is_first || bytes <= request.max_bytes
        };
        let page_end = Offset(request.from.0.saturating_add(state.page).min(part.high).max(request.from.0));
        let found = part.records.range(there..).take(request.max_records.min(most));
        let found = found.take_while(|record| record.offset < page_end).take_while(fits).cloned();
        let records: Vec<_> = found
            .map(|record| StoredMessage {
                payload: Bytes::from_owner(Counted::new(record.payload.clone(), &state.alive)),
                ..record
            })
            .collect();
        let next = part.records.get(there + records.len());
        let scanned_to = next.map_or(page_end, |next| next.offset.min(page_end));
        let truncated = request.after.is_some_and(|after| {
            part.records.iter().any(|record| record.offset == after.offset && record.id != after.id)
        });
        Ok(FetchResponse {
            records,
            scanned_to: tells_scanned.then_some(scanned_to),
            low: Some(Offset(part.low)),
            high: tells_high.then_some(Offset(part.high)),
            truncated,
            incarnation: tells_incarnation.then_some(part.incarnation),
        })
    }

    fn goes_wrong(&self, odds: u64) -> bool {
        let mut state = self.0.lock();
        state.chaos && state.below(odds) == 0
    }
}

pub(crate) struct Reach(pub(crate) Arc<Server>);

pub(crate) struct Member {
    server: Arc<Server>,
    id: u64,
    link: u64,
    left: AtomicBool,
    dead: AtomicBool,
}

impl Member {
    fn check(&self) -> Result<(), Error> {
        let state = self.server.0.lock();
        if state.up && state.link == self.link && !self.dead.load(Relaxed) {
            Ok(())
        } else {
            Err(Error::Unavailable(None))
        }
    }

    fn go(&self) {
        if !self.left.swap(true, Relaxed) {
            let mut state = self.server.0.lock();
            let before = state.members.len();
            state.members.retain(|&(id, _)| id != self.id);
            if state.members.len() != before {
                state.rebalance();
            }
        }
    }
}

/// Counts a fetch while it is under way.
struct UnderWay(Arc<Server>, (u64, u32));

impl UnderWay {
    fn new(server: &Arc<Server>, of: (u64, u32)) -> Self {
        server.change(|state| {
            let (count, most) = state.under_way.entry(of).or_default();
            *count += 1;
            *most = (*most).max(*count);
        });
        Self(Arc::clone(server), of)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.change(|state| state.under_way.entry(self.1).or_default().0 -= 1);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.go();
    }
}

impl Reach {
    async fn ask(&self) -> Result<(), Error> {
        self.0.takes(|state| state.ask_takes).await;
        if !self.0.0.lock().up {
            return Err(Error::Unavailable(None));
        }
        if self.0.goes_wrong(40) { Err(fault()) } else { Ok(()) }
    }
}

pub(crate) struct Producer(Arc<Server>);

impl ProducerConnection for Producer {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        self.0.takes(|state| state.ask_takes).await;
        let lost = || SendError::Lost { error: Error::Unavailable(None), may_have_taken_effect: true };
        if self.0.goes_wrong(6) {
            return Err(lost());
        }
        let mut first = None;
        for message in messages {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            let offset = self.0.append_as(partition.0 as usize, message.id.as_u128(), &text);
            first.get_or_insert(offset);
        }
        if self.0.goes_wrong(6) {
            return Err(lost());
        }
        Ok(first)
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.0.answer(request)
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }
}

impl Transport for Reach {
    type Producer = Producer;
    type Member = Member;

    fn properties(&self) -> TransportProperties {
        let state = self.0.0.lock();
        let mut properties = TransportProperties::new(state.parts.len() as u32);
        properties.reads_ahead = state.reads_ahead;
        properties
    }

    async fn connect(&self, _: Connect) -> Result<Producer, Error> {
        Ok(Producer(Arc::clone(&self.0)))
    }

    async fn join(&self, _: &str, instance: u128) -> Result<Member, Error> {
        self.0.called("join");
        self.0.takes(|state| state.join_takes).await;
        let mut state = self.0.0.lock();
        if !state.up {
            return Err(Error::Unavailable(None));
        }
        let id = state.next_member;
        state.next_member += 1;
        state.members.push((id, instance));
        state.rebalance();
        let link = state.link;
        drop(state);
        Ok(Member {
            server: Arc::clone(&self.0),
            id,
            link,
            left: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        })
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.0.called("watermarks");
        self.0.takes(|state| state.marks_take).await;
        self.ask().await?;
        if self.0.0.lock().marks_fail {
            return Err(fault());
        }
        let of = |part: &Part| PartitionWatermarks { low: Offset(part.low), high: Offset(part.high) };
        Ok(Watermarks::new(self.0.0.lock().parts.iter().map(of).collect()))
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        self.0.called("offsets_at");
        self.ask().await?;
        let state = self.0.0.lock();
        let of = |&(partition, timestamp): &(PartitionId, Timestamp)| {
            let part = &state.parts[partition.0 as usize];
            let found = part.records.iter().find(|record| record.timestamp >= timestamp);
            found.map_or(Offset(part.high), |record| record.offset)
        };
        Ok(times.iter().map(of).collect())
    }

    async fn committed(&self, _: &str) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        self.0.called("committed");
        self.0.takes(|state| state.places_take).await;
        self.ask().await?;
        let state = self.0.0.lock();
        if state.places_fail {
            return Err(fault());
        }
        Ok(state
            .parts
            .iter()
            .map(|part| if part.place_fails { Err(fault()) } else { Ok(part.place) })
            .collect())
    }

    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        let mut state = self.0.0.lock();
        if !state.members.is_empty() {
            return Err(Error::InvalidArgument { name: "group", problem: "has members".into() });
        }
        // With it goes which member had what: the next one begins a new epoch.
        state.parts.iter_mut().for_each(|part| (part.place, part.last_instance) = (None, None));
        Ok(())
    }
}

impl GroupMember for Member {
    async fn assignments(&self, known: Option<u64>) -> Result<Option<Assignments>, Error> {
        self.server.called("assignments");
        self.server.takes(|state| state.ask_takes).await;
        self.check()?;
        let state = self.server.0.lock();
        if known == Some(state.generation) {
            return Ok(None);
        }
        let ours = state.parts.iter().enumerate().filter(|(_, part)| part.owner == Some(self.id));
        let ours =
            ours.map(|(nth, part)| Assignment { partition: PartitionId(nth as u32), epoch: part.epoch });
        Ok(Some(Assignments { generation: state.generation, partitions: ours.collect() }))
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        self.server.called("fetch");
        let nth = request.partition.0 as usize;
        let _under_way = UnderWay::new(&self.server, (self.id, request.partition.0));
        self.server.takes(|state| state.parts[nth].fetch_takes).await;
        if self.server.0.lock().parts[nth].fetch_loses {
            self.dead.store(true, Relaxed);
        }
        self.check()?;
        if self.server.goes_wrong(25) {
            return Err(fault());
        }
        self.server.answer(request)
    }

    async fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        mode: CommitMode,
    ) -> Vec<Result<(), CommitErrorKind>> {
        self.server.takes(|state| state.commit_takes).await;
        let mut answers = Vec::new();
        for &(partition, next) in places {
            if let Err(error) = self.check() {
                answers.push(Err(CommitErrorKind::Failed(error)));
                continue;
            }
            if self.server.goes_wrong(25) {
                answers.push(Err(CommitErrorKind::Failed(fault())));
                continue;
            }
            let mut state = self.server.0.lock();
            let part = &mut state.parts[partition.0 as usize];
            match mode {
                CommitMode::Replace if part.owner != Some(self.id) => {
                    answers.push(Err(CommitErrorKind::Revoked));
                    continue;
                }
                CommitMode::Replace => part.place = Some(next),
                CommitMode::Initialise => _ = part.place.get_or_insert(next),
            }
            if mode == CommitMode::Replace && std::mem::take(&mut state.commit_reply_lost) {
                state.link += 1;
                answers.push(Err(CommitErrorKind::Failed(Error::Unavailable(None))));
                continue;
            }
            drop(state);
            answers.push(if self.server.goes_wrong(25) {
                Err(CommitErrorKind::Failed(fault()))
            } else {
                Ok(())
            });
        }
        answers
    }

    async fn wait(&self, ends: &[KnownEnd], known: Option<u64>, deadline: Instant) -> Vec<PartitionId> {
        self.server.called("wait");
        self.server.takes(|state| state.wait_takes).await;
        loop {
            {
                let mut state = self.server.0.lock();
                let news = ends.iter().filter(|end| {
                    let part = &state.parts[end.partition.0 as usize];
                    part.high != end.end.0 || end.incarnation.is_some_and(|known| known != part.incarnation)
                });
                let mut news: Vec<_> = news.map(|end| end.partition).collect();
                let is_other = self.dead.load(Relaxed)
                    || known != Some(state.generation)
                    || !state.up
                    || state.link != self.link;
                let rumours = std::mem::take(&mut state.rumours);
                news.extend(rumours.into_iter().filter(|one| ends.iter().any(|end| end.partition == *one)));
                if !news.is_empty() || is_other || state.wait_is_early || Instant::now() >= deadline {
                    return news;
                }
            }
            sleep_until(deadline.min(Instant::now() + 5 * MS)).await;
        }
    }

    async fn leave(&self) -> Result<(), Error> {
        let is_there = self.check();
        self.go();
        is_there
    }
}

/// A log to which nothing can be appended: every request is lost before it arrives.
pub(crate) struct Away;

pub(crate) struct NoProducer;

impl ProducerConnection for NoProducer {
    async fn send(&mut self, _: PartitionId, _: &[Message]) -> Result<Option<Offset>, SendError> {
        Err(SendError::Lost { error: Error::Unavailable(None), may_have_taken_effect: false })
    }

    async fn fetch(&self, _: FetchRequest) -> Result<FetchResponse, Error> {
        Err(Error::Unavailable(None))
    }

    async fn lost(&mut self) -> Error {
        std::future::pending().await
    }
}

impl Transport for Away {
    type Producer = NoProducer;
    type Member = Member;

    fn properties(&self) -> TransportProperties {
        TransportProperties::new(1)
    }

    async fn connect(&self, _: Connect) -> Result<NoProducer, Error> {
        Ok(NoProducer)
    }

    async fn join(&self, _: &str, _: u128) -> Result<Member, Error> {
        Err(Error::Unavailable(None))
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        Err(Error::Unavailable(None))
    }

    async fn offsets_at(&self, _: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        Err(Error::Unavailable(None))
    }

    async fn committed(&self, _: &str) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        Err(Error::Unavailable(None))
    }

    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        Err(Error::Unavailable(None))
    }
}
