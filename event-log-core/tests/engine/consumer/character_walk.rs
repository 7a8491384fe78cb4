//! Random walks of a consumer over partitions that have *characters*: each does the same, good or bad, again and again for a long
//! time. One that always loses the connection, always is late, always refuses, or begins again, beside one that is healthy, and a
//! caller with a manner of its own. What is expected is written from CONTRACT.md and DESIGN.md alone: nothing is passed over,
//! repeated or out of order within an epoch, notices are true, what a commit says is stored, a healthy partition goes on beside
//! the others, all is delivered once all are healthy, a poll ends in time, and no processor is kept busy.
//!
//! `SEED` is the first seed, and `SEEDS` how many there are. `LOUD` shows what happens, `SHOW` how near the bounds it came.

mod calls;
mod judge;
mod liveness;
mod nature;
mod traffic;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use event_log_core::engine::TransportLog;
use event_log_core::{Cursor, EventConsumer, EventConsumerExt as _, EventLogExt as _, PartitionId, RawEvent};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout};

use self::calls::Caller;
use self::judge::Book;
use self::liveness::Extremes;
use self::nature::{Chance, Character, Kind, Nature};
use self::traffic::append;
use crate::reading_ahead::{Reach, SECOND, Server};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// How long it may take until all is delivered, once all are healthy: what has failed is read again within a second, and what is
/// under way still takes its time. Where there was no connection to be had it may be twice eight seconds.
const CALM: Duration = Duration::from_secs(20);

/// The same for a place to be stored: the longest wait after commits that have lost the connection.
const COMMITTABLE: Duration = Duration::from_secs(75);

/// Seeds that have found something which no other test does: a log whose end was taken for that of the one before it, and news
/// that were not asked for while there was a fault to tell of in each poll.
const FOUND: [u64; 2] = [1_661, 3_868];

struct Walk {
    seed: u64,
    chance: Chance,
    server: Arc<Server>,
    /// Kept, so that the log is open.
    _log: TransportLog<RawEvent, Reach>,
    consumer: Box<dyn EventConsumer<RawEvent>>,
    nature: Nature,
    caller: Caller,
    books: Vec<Book>,
    cursors: VecDeque<Cursor>,
    /// A partition has lost connections in this phase, or in one before.
    has_lost: bool,
    /// What a stream gave is looked at after it has ended: where the consumer stood when is not known.
    is_late: bool,
    /// All are healthy again.
    is_ending: bool,
    extremes: Extremes,
    history: VecDeque<String>,
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut kind =
            chance.of(&[Kind::Plain, Kind::Plain, Kind::Shared, Kind::Seeking, Kind::BeginningAgain]);
        if chance.once_in(3) {
            kind = Kind::Forgetting;
        }
        let mut partitions = 1 + chance.below(5) as usize;
        if chance.once_in(4) {
            partitions += 4 + chance.below(10) as usize;
        }
        let server = Server::new(partitions);
        server.change(|state| {
            let tells = chance.below(4);
            (state.tells_high, state.tells_incarnation) = (tells != 1, tells != 2);
            // What begins again has to be shown by something.
            state.tells_incarnation |= !state.tells_high;
            state.tells_scanned = !chance.once_in(3);
            state.forgets_instances = kind == Kind::Forgetting;
            state.wait_is_remote = chance.once_in(3);
        });
        let nature = Nature::healthy(partitions, kind);
        nature.becomes(&server);
        let log = server.open().await;
        let mut consumer = log.consumer("g").await.unwrap();
        // It has read something of each partition, by which it recognises them.
        (0..partitions).for_each(|nth| append(&server, nth));
        let mut got = 0;
        while got < partitions {
            got += consumer.poll(100, SECOND).await.unwrap().len();
        }
        let caller = Caller::any(&mut chance);
        Self {
            seed,
            chance,
            server,
            _log: log,
            consumer,
            nature,
            caller,
            books: (0..partitions).map(|_| Book::new()).collect(),
            cursors: VecDeque::new(),
            has_lost: false,
            is_late: false,
            is_ending: false,
            extremes: Extremes { seed, ..Extremes::default() },
            history: VecDeque::new(),
        }
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        let text = format!("{:?} {}", Instant::now(), text());
        if std::env::var("LOUD").is_ok() {
            eprintln!("{text}");
        }
        self.history.push_back(text);
        if self.history.len() > 60 {
            self.history.pop_front();
        }
    }

    fn fail(&self, what: &str) -> ! {
        let history: Vec<_> = self.history.iter().cloned().collect();
        let (seed, now) = (self.seed, Instant::now());
        panic!(
            "seed {seed}: {what}\n{}\n{now:?} {:?} {:?}\nseed {seed}: {what}",
            history.join("\n"),
            self.caller,
            self.nature
        );
    }

    /// A phase of characters, while events are appended.
    async fn phase(&mut self) {
        self.nature = Nature::any(&mut self.chance, self.books.len(), self.nature.kind);
        self.caller = Caller::any(&mut self.chance);
        self.nature.becomes(&self.server);
        let (nature, caller) = (self.nature.clone(), self.caller);
        self.note(|| format!("{caller:?} {nature:?}"));
        self.has_lost |= nature.characters.iter().any(|one| one.loses()) || nature.cuts.is_some();
        for (book, character) in self.books.iter_mut().zip(&nature.characters) {
            book.may_fail |=
                matches!(character, Character::Refuses(_) | Character::NoPlace | Character::Loses(_));
            book.may_fail |= nature.cuts.is_some();
        }
        self.rested();
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, server) = (Arc::clone(&is_over), Arc::clone(&self.server));
        let going_on = tokio::spawn(async move { nature.goes_on(&server, &over).await });
        let (start, mut turns) = (Instant::now(), 0);
        let long = if self.caller.is_quick() { 100 * SECOND } else { 400 * SECOND };
        while start.elapsed() < long && turns < 6_000 {
            self.call().await;
            turns += 1;
        }
        is_over.store(true, Relaxed);
        going_on.abort();
        drop(going_on.await);
    }

    /// All are healthy, and nothing is appended any more.
    async fn end(&mut self) {
        self.nature = Nature::healthy(self.books.len(), self.nature.kind);
        self.nature.becomes(&self.server);
        self.is_ending = true;
        self.note(|| "the end".to_owned());
        if self.nature.kind == Kind::BeginningAgain {
            // What was fetched of a log before it began again is delivered first.
            let mut quiet = 0;
            while quiet < 3 {
                quiet = if self.poll(1_000, SECOND, HOUR).await { 0 } else { quiet + 1 };
            }
            // A log without incarnations that is as long again as what was read of it looks the same.
            for nth in 0..self.books.len() {
                let read = self.consumer.position().get(PartitionId(nth as u32)).unwrap_or_default();
                append(&self.server, nth);
                while self.server.change(|state| state.parts[nth].high) <= read.0 {
                    append(&self.server, nth);
                }
            }
        }
        let start = Instant::now();
        loop {
            while !self.is_done() {
                if start.elapsed() > CALM {
                    let position = self.consumer.position().clone();
                    let ends: Vec<_> =
                        self.server.change(|state| state.parts.iter().map(|part| part.high).collect());
                    self.fail(&format!(
                        "all have been healthy for so long, and it stands at {position} of {ends:?}"
                    ));
                }
                self.poll(1_000, SECOND, HOUR).await;
            }
            self.extremes.calm = start.elapsed();
            // What is yet to be told of partitions that came, or began again; and that the last connection is lost.
            for _ in 0..5 {
                self.poll(1_000, SECOND, HOUR).await;
            }
            if self.is_done() {
                break;
            }
        }
        let position = self.consumer.position().clone();
        if position.iter().count() < self.books.len() {
            self.fail(&format!("c8: it is alone in its group, and has {position}"));
        }
        // After commits that have lost the connection those that follow may be refused for a minute.
        while let Err(error) = self.consumer.commit(&position).await {
            if start.elapsed() > COMMITTABLE {
                self.fail(&format!("the last commit of {position}: {error:?}"));
            }
            self.poll(1_000, SECOND, HOUR).await;
        }
        for (partition, next) in position.iter() {
            let place = self.server.change(|state| state.parts[partition.0 as usize].place);
            if place != Some(next) {
                self.fail(&format!(
                    "all is committed, and the place of {partition} is {place:?}, not {next}"
                ));
            }
        }
        let caught_up = timeout(10 * SECOND, self.consumer.until_caught_up(100).collect::<Vec<_>>()).await;
        let Ok(batches) = caught_up else { self.fail("c10: catching up does not end") };
        if !batches.is_empty() {
            let before = position.clone();
            let counts: Vec<_> =
                batches.iter().flatten().map(|batch| (batch.len(), format!("{:?}", batch.notices))).collect();
            self.fail(&format!("there is nothing to catch up with behind {before}: {counts:?}"));
        }
        self.server.change(|state| state.calls.clear());
        self.poll(10, 60 * SECOND, HOUR).await;
        let calls: u64 = self.server.change(|state| state.calls.values().sum());
        if calls > 40 {
            self.fail(&format!("c1: a minute in which nothing happens: {calls} calls"));
        }
    }
}

async fn run(seed: u64) -> Extremes {
    let mut walk = Walk::new(seed).await;
    for _ in 0..1 + seed % 3 {
        walk.phase().await;
    }
    walk.end().await;
    walk.extremes
}

#[test]
fn every_promise_to_consumers_holds_beside_partitions_of_bad_character() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (first, count) = (number("SEED", 0), number("SEEDS", 8));
    let known: &[u64] = if count > 1 { &FOUND } else { &[] };
    let (mut failed, mut all) = (Vec::new(), Vec::new());
    for seed in (first..first + count).chain(known.iter().copied()) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed)))) {
            Ok(extremes) => all.push(extremes),
            Err(_) => {
                eprintln!("^ seed {seed}");
                failed.push(seed);
            }
        }
    }
    if std::env::var("SHOW").is_ok() {
        liveness::show(&mut all);
    }
    assert!(failed.is_empty(), "{} seeds failed: {:?}", failed.len(), &failed[..failed.len().min(50)]);
}
