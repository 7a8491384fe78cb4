//! A server for attacks: as many partitions as one likes, real groups, incarnations, retention, and latencies of every call.
//! It reads ahead, as a transport does whose fetches take a round trip.

mod away;
mod reach;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use event_log_core::engine::{FetchRequest, FetchResponse, LogBuilder, StoredMessage, TransportLog};
use event_log_core::{
    Cursor, Error, EventConsumer, EventId, EventLogExt as _, Headers, Offset, PartitionId, Position,
    RawCodec, RawEvent, SeekPosition, Timestamp,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

pub(crate) use self::away::Away;
pub(crate) use self::reach::Reach;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Part {
    pub(crate) records: VecDeque<StoredMessage>,
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) incarnation: u64,
    pub(crate) place: Option<Offset>,
    /// Other members have handled everything before this.
    pub(crate) handled: u64,
    pub(crate) owner: Option<u64>,
    pub(crate) last_instance: Option<u128>,
    pub(crate) epoch: u64,
    /// What a fetch takes.
    pub(crate) fetch_takes: Duration,
    pub(crate) fetch_fails: bool,
    /// So manieth fetches of it are refused; 0 for none.
    pub(crate) refuses_every: u64,
    /// Its answers are on their way for so long, and say what was so when they were made.
    pub(crate) reply_takes: Duration,
    /// It answers with so many records at most; 0 for any number.
    pub(crate) most: usize,
    /// So manieth fetches of it have the server close the connection; 0 for none.
    pub(crate) loses_every: u64,
    pub(crate) fetches: u64,
    /// Storing its place has the server close the connection.
    pub(crate) commit_loses: bool,
    /// Storing its place is refused.
    pub(crate) commit_fails: bool,
    pub(crate) place_fails: bool,
    /// A fetch over a connection of its own takes so long, if it is not the same, and loses that.
    pub(crate) isolated_takes: Option<Duration>,
    pub(crate) isolated_loses: bool,
    /// So manieth commit of its place loses the connection; 0 for none.
    pub(crate) commit_loses_every: u64,
    pub(crate) commits: u64,
    /// How long an answer to a question for news is on its way that is for this one, too.
    pub(crate) news_take: Duration,
    /// What storing its place takes.
    pub(crate) commit_takes: Duration,
    /// So manieth fetches are answered without a record, which proves nothing; 0 for none.
    pub(crate) empty_next: u64,
    /// The next fetch blocks its thread until this is closed.
    pub(crate) blocks: Option<std::sync::mpsc::Receiver<()>>,
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
    /// The credentials are refused.
    pub(crate) join_refused: bool,
    /// Connections that are no member's are not to be had.
    pub(crate) connect_fails: bool,
    pub(crate) connect_takes: Duration,
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
    /// The fetches that were asked for, if that is looked at.
    pub(crate) requests: Option<Vec<FetchRequest>>,
    /// How many of them came last at the same time.
    pub(crate) busy: Option<(Instant, u32)>,
    /// The most records that a fetch has asked for.
    pub(crate) most_asked: usize,
    /// Calls go wrong and take their time at random.
    pub(crate) chaos: bool,
    /// A fetch looks through so many offsets at most.
    pub(crate) page: u64,
    pub(crate) reads_ahead: bool,
    /// Answers take their time on the way back: they say what was so when they were made.
    pub(crate) late_replies: bool,
    pub(crate) assignments_reply: Duration,
    pub(crate) fetch_reply: Duration,
    pub(crate) places_reply: Duration,
    pub(crate) marks_reply: Duration,
    /// An answer to a question for news is on its way for up to so long, one of them longer than another.
    pub(crate) wait_reply: Duration,
    /// The server waits, whether or not its answer is looked at.
    pub(crate) wait_is_remote: bool,
    /// Each membership is a new epoch, as where nothing is remembered of the one before.
    pub(crate) forgets_instances: bool,
    /// A member that was dropped from the group has no connection.
    pub(crate) drop_unknown: bool,
    /// The transport says that there are so many, as there were when it was opened.
    pub(crate) partitions_said: Option<u32>,
    /// The place of the group cannot be asked for: what keeps it is away. Everything else is there.
    pub(crate) places_unavailable: bool,
    /// Bytes of answers that are in memory, and the most that ever were.
    pub(crate) alive: Arc<(AtomicU64, AtomicU64)>,
}

/// What comes of a fetch.
enum Fetched {
    Answer(FetchResponse),
    /// The server closes the connection.
    Loses,
}

impl Fetched {
    fn answer(self) -> Result<FetchResponse, Error> {
        match self {
            Self::Answer(answer) => Ok(answer),
            Self::Loses => Err(Error::Unavailable(None)),
        }
    }
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
                if part.last_instance.replace(instance) != Some(instance) || self.forgets_instances {
                    self.last_epoch += 1;
                    part.epoch = self.last_epoch;
                }
            }
        }
        self.generation += 1;
    }

    /// One more partition. A group that has started has read nothing of it.
    pub(crate) fn grow(&mut self) {
        let place = self.parts.iter().any(|part| part.place.is_some()).then_some(Offset(0));
        self.parts.push(Part { place, ..Part::default() });
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
        let mut state = self.0.lock();
        *state.calls.entry(name).or_default() += 1;
        let now = Instant::now();
        let count = state.busy.filter(|&(at, _)| at == now).map_or(1, |(_, count)| count + 1);
        state.busy = Some((now, count));
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
            if state.busy.is_some_and(|(_, count)| count > 20_000) {
                // A processor that is kept busy would stop the clock of the test that looks for it.
                takes += MS;
            }
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

    pub(crate) async fn reply(&self, what: impl FnOnce(&State) -> Duration) {
        let mut takes = what(&self.0.lock());
        {
            let mut state = self.0.lock();
            if state.chaos && state.late_replies {
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

    /// One fetch, over whichever connection. That is what `check` is for, when the request has arrived.
    async fn fetch(
        &self,
        request: FetchRequest,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<Fetched, Error> {
        let nth = request.partition.0 as usize;
        self.takes(|state| state.parts[nth].fetch_takes).await;
        check()?;
        let (loses, refuses) = self.change(|state| {
            let part = &mut state.parts[nth];
            part.fetches += 1;
            let is_due = |every| every > 0 && part.fetches % every == 0;
            (is_due(part.loses_every), is_due(part.refuses_every))
        });
        if loses {
            return Ok(Fetched::Loses);
        }
        if refuses || self.goes_wrong(25) {
            return Err(fault());
        }
        let answer = self.answer(request)?;
        self.reply(|state| state.fetch_reply + state.parts[nth].reply_takes).await;
        Ok(Fetched::Answer(answer))
    }

    fn answer(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let nth = request.partition.0 as usize;
        let is_short = self.goes_wrong(4);
        let mut state = self.0.lock();
        state.most_asked = state.most_asked.max(request.max_records);
        state.requests.iter_mut().for_each(|requests| requests.push(request));
        if state.parts[nth].fetch_fails {
            return Err(fault());
        }
        if state.parts[nth].empty_next > 0 {
            state.parts[nth].empty_next -= 1;
            return Ok(FetchResponse::default());
        }
        let most = match state.parts[nth].most {
            0 => state.most,
            most => most.min(state.most),
        };
        let most = most.min(if is_short { 1 + state.below(5) as usize } else { usize::MAX });
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

/// A server on which everything takes little time, joining so long, and a consumer that has read it to its end.
pub(crate) async fn opened(
    partitions: usize,
    join: Duration,
) -> (Arc<Server>, Box<dyn EventConsumer<RawEvent>>) {
    let server = Server::new(partitions);
    server.change(|state| {
        state.join_takes = join;
        (state.ask_takes, state.wait_takes, state.commit_takes) = (MS, MS, MS);
        state.parts.iter_mut().for_each(|part| part.fetch_takes = 5 * MS);
    });
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(100, SECOND).await.unwrap().is_empty());
    (server, consumer)
}

/// Appends to a partition, in the background, for as long as the test goes on.
pub(crate) fn appending(server: &Arc<Server>, partition: usize, first: Duration, every: Duration) {
    let server = Arc::clone(server);
    tokio::spawn(async move {
        sleep(first).await;
        for number in 1_000_000.. {
            server.append(partition, number);
            sleep(every).await;
        }
    });
}

/// Polls until so many records are read. Returns the cursor behind them.
pub(crate) async fn read(consumer: &mut dyn EventConsumer<RawEvent>, count: usize) -> Cursor {
    let mut got = 0;
    let mut cursor = Cursor::new();
    while got < count {
        let batch = consumer.poll(count - got, SECOND).await.unwrap();
        got += batch.len();
        cursor = batch.cursor().clone();
    }
    cursor
}

/// An offset of the first partition.
pub(crate) fn to(offset: u64) -> SeekPosition {
    SeekPosition::Position(Position::new(PartitionId(0), Offset(offset)))
}

/// Where the group stands in the first partition.
pub(crate) fn place(server: &Arc<Server>) -> Option<Offset> {
    server.change(|state| state.parts[0].place)
}
