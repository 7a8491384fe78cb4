//! Random walks of a producer over partitions that have *characters*: each does the same, good or bad, again and again for a long
//! time. One that always loses its connection, always is slow, always refuses, cannot be read, or trims, beside one that is
//! healthy. What is expected is written from CONTRACT.md alone: beside all that was promised of each event, that a healthy
//! partition goes on beside the others, that everything ends once all are healthy, and that no processor is kept busy.
//!
//! `SEED` is the first seed, and `SEEDS` how many there are.

mod calls;
mod judge;
mod nature;
mod server;
mod transport;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use event_log_core::engine::LogBuilder;
use event_log_core::{
    AppendErrorKind, EventLog as _, JsonCodec, LogState, Outcome, Overflow, PartitionId, Partitionable,
    ProducerConfig, ReconnectPolicy, partition_of,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use self::calls::{Caller, Calls, callers};
use self::judge::{Walk, judge, slowest};
use self::nature::{Character, Fetches, Fortune, Sends, Temper};
use self::server::Server;
use self::transport::Scripted;
use crate::chance::Chance;

const PARTITIONS: u32 = 3;
/// The numbers of events of other producers begin here.
const OTHERS: u64 = 1_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    partition: u32,
    number: u64,
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
            .into_iter()
            .find(|key| partition_of(key, PARTITIONS) == PartitionId(self.partition))
    }
}

fn config(chance: &mut Chance) -> ProducerConfig {
    let mut config = ProducerConfig::default();
    config.buffer_events = chance.of(&[4, 50, 100_000, 100_000, 100_000]);
    config.request_events = chance.of(&[1, 3, 1_024, 1_024, 1_024]);
    let block = Overflow::Block { deadline: Duration::from_millis(chance.of(&[0, 500, 20_000])) };
    config.overflow = chance.of(&[Overflow::DropOldest, Overflow::Reject, block]);
    let expiries = [None, None, None, Some(Duration::from_secs(8)), Some(Duration::from_millis(400))];
    config.expiry = chance.of(&expiries);
    let most = Duration::from_secs(chance.of(&[1, 5, 30]));
    config.reconnect = ReconnectPolicy::new(Duration::from_millis(chance.of(&[50, 1_000])), most);
    config
}

/// What the partitions are like in a phase: the first ones throughout the walk.
fn characters(chance: &mut Chance, known: &[Character]) -> Vec<Character> {
    let more = known.len()..PARTITIONS as usize;
    known.iter().copied().chain(more.map(|_| Character::any(chance))).collect()
}

#[derive(Default)]
struct Report {
    seed: u64,
    slowest: Duration,
    /// Of the bound.
    percent: u128,
    after_calm: Duration,
    most_fruitless: u64,
    most_connects: u64,
    events: usize,
    shown: String,
}

/// For how long a healthy partition may wait for the others that there are: for the connection, where there is one for all, or for
/// a new one, and for one turn of each of the others.
fn bound(temper: &Temper, config: &ProducerConfig, phases: &[Vec<Character>]) -> Duration {
    let slow = |character: &Character| {
        let sends = match character.sends {
            Sends::Answered(after) | Sends::AnsweredLate(after) => after,
            Sends::Lost { after, .. } | Sends::Refused { after, .. } => after,
        };
        let fetches = match character.fetches {
            Fetches::Answered(after) | Fetches::AnsweredLate(after) | Fetches::Fault(after) => after,
            Fetches::Lost { after, .. } | Fetches::TimesOut(after) => after,
            Fetches::Empty => 0,
        };
        sends + fetches
    };
    let turn = phases.iter().map(|phase| phase.iter().map(slow).sum::<u64>()).max().unwrap_or_default();
    // A request that is slow is given up at first, each time that another one loses its connection.
    let own = phases.iter().map(|phase| slow(&phase[0]).max(slow(&phase[1]))).max().unwrap_or_default();
    let own = if own > 1_000 { 10 * own.min(6_000) } else { 0 };
    let (Ok(another) | Err(another)) = temper.another;
    let connect = temper.connects_after + temper.marks_after + another;
    // One turn of each of the others, once more where the first has come too late for it, and attempts that fail: where each nth
    // does, those that bring a turn may be among them again and again.
    let fails = u32::from(temper.connect_fails > 0) + u32::from(temper.marks_fail > 0);
    let turns = Duration::from_millis(own + 2 * turn + 4 * connect);
    turns + (2 + 2 * fails) * config.reconnect.max + Duration::from_secs(10)
}

async fn run(seed: u64) -> Report {
    let mut chance = Chance(seed);
    let temper = Temper::any(&mut chance);
    let config = config(&mut chance);
    let healthy: Vec<_> = (0..chance.of(&[1, 1, 2])).map(|_| Character::healthy(&mut chance)).collect();
    let phases: Vec<_> = (0..chance.of(&[1, 2, 3])).map(|_| characters(&mut chance, &healthy)).collect();
    let server = Server::new(&mut chance, temper);
    let become_all = |phase: &[Character]| {
        (0..).zip(phase).for_each(|(partition, &character)| server.becomes(partition, character));
    };
    become_all(&phases[0]);
    let builder = LogBuilder::new(Arc::new(JsonCodec)).config(config.clone()).seed(seed).handle(0);
    let log = builder.open(Arc::new(Scripted(Arc::clone(&server)))).await.unwrap();
    let calls = Calls::new(log.clone());
    let (mut tasks, mut all) = (Vec::new(), Vec::new());
    for partition in 0..PARTITIONS {
        for (nth, caller) in (0..).zip(callers(&mut chance, partition < healthy.len() as u32)) {
            all.push((partition, caller));
            let submits = if matches!(caller, Caller::Burst(..)) { Calls::SUBMITS } else { 0 };
            let number = submits + 10 * partition + nth;
            tasks.push(tokio::spawn(calls.clone().run(number, caller, partition, chance.next(u64::MAX))));
        }
    }
    let shown = format!("{temper:#?} {config:?} {phases:#?} {all:?}");
    for phase in &phases {
        become_all(phase);
        let moment = Duration::from_millis(chance.of(&[1_000, 5_000, 30_000]));
        for _ in 0..20 {
            server.moment(&mut chance);
            sleep(moment).await;
        }
    }
    let is_gentle = !chance.once_in(3);
    let after_calm = Instant::now();
    let mut took = Duration::ZERO;
    if is_gentle {
        server.calm();
        calls.is_done.store(true, Relaxed);
        for task in &mut tasks {
            timeout(HOUR, task).await.expect("everything ends once all are healthy").unwrap();
        }
        timeout(HOUR, log.flush()).await.expect("a flush ends").unwrap();
        took = after_calm.elapsed();
        assert_eq!(log.state().current().buffered, 0);
    }
    let deadline = Duration::from_millis(chance.of(&[0, 10, 5_000, 60_000]));
    let closing = Instant::now();
    let left = timeout(HOUR, log.close(deadline)).await.expect("l3: closing ends");
    assert!(closing.elapsed() <= deadline + Duration::from_millis(2), "l3: {:?}", closing.elapsed());
    let state: LogState = log.state().current();
    assert!(state.is_closed() && state.buffered == 0, "{state:?}");
    calls.is_done.store(true, Relaxed);
    if let Err(left) = left {
        calls.leave_over(left);
    }
    if !is_gentle {
        for task in &mut tasks {
            timeout(HOUR, task).await.expect("a call of a closed log ends").unwrap();
        }
    }
    let is_kept = |at: usize| phases.iter().all(|phase| phase[at].fortune == Fortune::Kept);
    let is_certain = |at: usize| at < healthy.len() && !temper.falls_together;
    let walk = Walk {
        expiry: config.expiry,
        is_kept: (0..PARTITIONS as usize).map(is_kept).collect(),
        is_certain: (0..PARTITIONS as usize).map(is_certain).collect(),
        has_space: config.buffer_events >= 100_000,
        is_gentle,
    };
    // What was given up may still arrive.
    sleep(HOUR).await;
    let book = calls.book.lock();
    judge(&book, &server, &walk);
    let is_healthy: Vec<_> = (0..PARTITIONS as usize).map(|at| at < healthy.len()).collect();
    let (slowest, number) = slowest(&book, &is_healthy);
    // Where the callers of others fill the queue, or take all connections with them, a healthy partition has to wait for them, as
    // its events have for one another where few fit into a request.
    let is_bound = !temper.falls_together && !temper.has_outages;
    let most = bound(&temper, &config, &phases);
    let mut percent = 0;
    if walk.has_space && is_bound && config.request_events >= 1_024 {
        percent = slowest.as_millis() * 100 / most.as_millis();
        assert!(slowest <= most, "a7: {number} of a healthy partition took {slowest:?} of {most:?}\n{shown}");
    }
    let dropped = |outcome: &Outcome<Event>| {
        outcome.as_ref().is_err_and(|error| matches!(error.kind(), AppendErrorKind::Dropped))
    };
    let dropped =
        book.noted.iter().filter_map(|noted| noted.outcome.as_ref()).filter(|one| dropped(one)).count();
    assert!(state.dropped >= dropped as u64, "a5: {} of {dropped} are counted", state.dropped);
    assert!(took <= Duration::from_secs(300), "a4: {took:?} after all were healthy\n{shown}");
    let called = &server.state.lock().calls;
    let (most_fruitless, most_connects) = (called.most_fruitless, called.most_first_connects);
    assert!(most_fruitless <= 400, "l9: {most_fruitless} calls within a second brought nothing\n{shown}");
    assert!(most_connects <= 50, "a7: {most_connects} connections were made within a second\n{shown}");
    Report {
        seed,
        slowest,
        percent,
        after_calm: took,
        most_fruitless,
        most_connects,
        events: book.noted.len(),
        shown,
    }
}

/// In this one a healthy partition starves where a request waits anew for where its partition ends each time that it was given up.
const FOUND: [u64; 1] = [30_514];

#[test]
fn every_promise_to_producers_holds_beside_partitions_of_bad_character() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (first, count) = (number("SEED", 0), number("SEEDS", 30));
    let (mut failed, mut reports) = (Vec::new(), Vec::new());
    for seed in (first..first + count).chain(FOUND) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed)))) {
            Ok(report) => reports.push(report),
            Err(_) => {
                eprintln!("^ seed {seed}");
                failed.push(seed);
            }
        }
    }
    if std::env::var("SHOW").is_ok() {
        show(&mut reports);
    }
    assert!(failed.is_empty(), "{} seeds failed: {:?}", failed.len(), &failed[..failed.len().min(50)]);
}

/// The extremes, by which the bounds are chosen.
fn show(reports: &mut [Report]) {
    let events: usize = reports.iter().map(|report| report.events).sum();
    eprintln!("{events} events");
    let line = |report: &Report| {
        let Report { seed, slowest, percent, after_calm, most_fruitless, most_connects, .. } = report;
        eprintln!("{seed}: {slowest:?}, {percent} %, {after_calm:?}, {most_fruitless}, {most_connects}");
    };
    let keys: [fn(&Report) -> u128; 4] = [
        |report| report.percent,
        |report| report.after_calm.as_millis(),
        |report| report.most_fruitless.into(),
        |report| report.most_connects.into(),
    ];
    for key in keys {
        reports.sort_by_key(|report| std::cmp::Reverse(key(report)));
        eprintln!("slowest, after all were healthy, fruitless calls and connections within a second");
        reports.iter().take(6).for_each(line);
    }
    if let Some(first) = reports.first().filter(|_| reports.len() == 1) {
        eprintln!("{}", first.shown);
    }
}
