//! Carries a program out and writes down what it sees. It judges nothing.

mod consume;
mod end;
mod produce;

use std::sync::Arc;
use std::time::Duration;

use event_log_core::conformance::Probe;
use event_log_core::engine::{Clock, TokioClock};
use event_log_core::{EventLog, PartitionId, ProducerConfig, Ticket, Timestamp};
use event_log_memory::{Faults, MemoryBroker, MemoryLog, Retention};

use self::consume::Member;
use self::produce::Running;
use super::history::{Arming, History, Marks, Observation, What};
use super::op::{Event, GROUPS, Op, Program, SLOTS, Settings};

const TOPIC: &str = "model";

/// Longer than anything may take that must end. On the paused clock it costs nothing.
const PATIENCE: Duration = Duration::from_secs(600);

/// Carries `program` out on a broker and a runtime of its own, with the clock paused.
///
/// # Panics
///
/// When a log cannot be opened, which no program gives a reason for.
#[must_use]
pub fn run(program: &Program) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(async {
        let mut world = World::new(&program.settings).await;
        for op in &program.ops {
            world.step(op).await;
        }
        world.end().await;
        world.history
    })
}

struct World {
    clock: TokioClock,
    broker: MemoryBroker,
    faults: Faults,
    log: MemoryLog<Probe>,
    /// The number of `log`.
    handle: usize,
    /// How many events have been made.
    events: usize,
    tickets: Vec<(usize, Ticket<Probe>)>,
    /// Appends that were left to the side.
    running: Vec<Running>,
    consumers: usize,
    members: [[Option<Member>; SLOTS]; GROUPS],
    history: History,
}

impl World {
    async fn new(settings: &Settings) -> Self {
        let clock = TokioClock::starting_at(Timestamp(1_700_000_000_000_000));
        let broker = MemoryBroker::with_clock(Arc::new(clock));
        let log = open(&broker, settings, 0).await;
        let Some(faults) = broker.faults(TOPIC) else { panic!("the topic was opened") };
        let history = History { settings: settings.clone(), observed: Vec::new() };
        let mut world = Self {
            clock,
            broker,
            faults,
            log,
            handle: 0,
            events: 0,
            tickets: Vec::new(),
            running: Vec::new(),
            consumers: 0,
            members: Default::default(),
            history,
        };
        world.saw(What::Opened { handle: 0 });
        world
    }

    /// A new handle in place of the one that has ended.
    async fn reopen(&mut self) {
        self.handle += 1;
        self.log = open(&self.broker, &self.history.settings, self.handle as u64).await;
        self.saw(What::Opened { handle: self.handle });
    }

    fn saw(&mut self, what: What) {
        self.history.observed.push(Observation { at: self.clock.now(), what });
    }

    async fn step(&mut self, op: &Op) {
        match op {
            Op::Submit(..) | Op::Forget(..) | Op::Append(..) | Op::Abandon(..) | Op::Batch(..) => {
                self.produce(op).await;
            }
            Op::Settle => self.settle().await,
            Op::Advance(millis) => {
                tokio::time::sleep(Duration::from_millis(*millis)).await;
                self.settle().await;
            }
            Op::Flush(millis) => self.flush(Duration::from_millis(*millis)).await,
            Op::Close(millis) => self.close(Duration::from_millis(*millis)).await,
            Op::Crash => self.crash().await,
            Op::Join(..)
            | Op::Leave(..)
            | Op::Poll(..)
            | Op::Glance(..)
            | Op::Commit(..)
            | Op::Seek(..)
            | Op::DeleteGroup(..) => self.consume(op).await,
            fault => self.break_something(fault),
        }
        self.look().await;
    }

    /// Notes what can be seen at any time.
    async fn look(&mut self) {
        self.collect();
        let state = self.log.state().current();
        self.saw(What::State {
            handle: self.handle,
            connection: state.connection,
            buffered: state.buffered,
            dropped: state.dropped,
        });
        for group in 0..GROUPS {
            if let Ok(lag) = self.log.lag(&name(group)).await {
                let partitions = lag
                    .iter()
                    .map(|(_, lag)| (lag.committed, lag.watermarks.low, lag.watermarks.high, lag.offsets()))
                    .collect();
                self.saw(What::Lag { group, partitions });
            }
        }
    }

    async fn marks(&self) -> Marks {
        let marks = self.log.watermarks().await.ok()?;
        Some(marks.iter().map(|(_, marks)| (marks.low, marks.high)).collect())
    }

    /// Lets the tasks of the log do what they can do without time passing.
    async fn settle(&mut self) {
        for _ in 0..8 {
            tokio::task::yield_now().await;
            self.collect();
        }
    }

    fn break_something(&mut self, fault: &Op) {
        let partitions = self.history.settings.partitions;
        let here = |partition: u32| PartitionId(partition % partitions);
        let faults = &self.faults;
        let mut arming = None;
        match *fault {
            Op::Disconnect => return self.link(Faults::disconnect, false, true),
            Op::Reconnect => return self.link(Faults::reconnect, true, false),
            Op::Interrupt => return self.link(Faults::interrupt, true, true),
            Op::LoseReplies(count) => {
                faults.lose_replies(count);
                arming = Some(Arming::Requests(count));
            }
            Op::LoseRequests(count) => {
                faults.lose_requests(count);
                arming = Some(Arming::Requests(count));
            }
            Op::HoldRequests(count) => {
                faults.hold_requests(count);
                arming = Some(Arming::Requests(count));
            }
            Op::DeliverHeld => {
                let count = faults.deliver_held_requests();
                return self.saw(What::Delivered(count));
            }
            Op::SlowAppends(millis) => {
                faults.slow_appends(Duration::from_millis(millis));
                arming = Some(Arming::Slow);
            }
            Op::SkipOffsets(partition, count) => faults.skip_offsets(here(partition), count),
            Op::EmptyFetches(count) => {
                faults.empty_fetches(count);
                arming = Some(Arming::EmptyFetches(count));
            }
            Op::FailFetches(partition, count) => {
                faults.fail_fetches(here(partition), count);
                arming = Some(Arming::FailFetches(here(partition), count));
            }
            Op::FailCommits(partition, count) => {
                faults.fail_commits(here(partition), count);
                arming = Some(Arming::FailCommits(here(partition), count));
            }
            Op::Purge if self.history.settings.retention.is_some() => {
                faults.purge();
                return self.saw(What::Purged);
            }
            Op::Foreign(partition) => {
                if let Some(position) = faults.append_foreign(here(partition), "foreign".as_bytes()) {
                    return self.saw(What::Foreign(position));
                }
            }
            _ => {}
        }
        if let Some(arming) = arming {
            self.saw(What::Armed(arming));
        }
    }

    fn link(&mut self, switch: impl FnOnce(&Faults), up: bool, cut: bool) {
        switch(&self.faults);
        if cut {
            for member in self.members.iter_mut().flatten().flatten() {
                member.was_cut = true;
            }
        }
        self.saw(What::Link { up, cut });
    }
}

fn name(group: usize) -> String {
    format!("group-{group}")
}

fn key(event: &Event) -> Option<String> {
    event.key.map(|key| format!("key-{key}"))
}

async fn open(broker: &MemoryBroker, settings: &Settings, handle: u64) -> MemoryLog<Probe> {
    let mut config = ProducerConfig::default();
    config.buffer_events = settings.buffer;
    config.request_events = settings.request;
    config.overflow = settings.overflow;
    config.expiry = settings.expiry;
    let retention = settings.retention.map_or(Retention::FOREVER, Retention::records);
    let log = event_log_memory::builder()
        .broker(broker)
        .topic(TOPIC)
        .partitions(settings.partitions)
        .retention(retention)
        .config(config)
        // Handles with one seed would make the same ids.
        .seed(settings.seed.wrapping_add(handle.wrapping_mul(0x5851_f42d_4c95_7f2d)))
        .open()
        .await;
    log.unwrap_or_else(|error| panic!("a log opens: {error}"))
}
