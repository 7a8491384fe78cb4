//! One run: who works, what strikes, and how it ends.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use event_log_core::conformance::Probe;
use event_log_core::{Error, EventLog, LogState, PartitionId, limits};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::consume::{self, Member};
use super::history::{History, Recorder, Saw, Settings, Stored, Told};
use super::produce;
use super::schedule::{Fault, Kind, Schedule};
use super::site::MemorySite;

pub(super) type Log = Arc<dyn EventLog<Probe>>;

/// Producers, each with keys of its own.
pub(super) const PRODUCERS: u64 = 8;
/// Handles that they share: each stands for a process.
pub(super) const HANDLES: usize = 2;
/// The groups, and the members of each.
pub(super) const GROUPS: [(&str, usize); 3] = [("live", 1), ("assessment", 1), ("notifications", 3)];

/// After how many events a request is no longer held back. With what is open at that time, it is less than the window in
/// which consumers tell a second copy: contract a8 promises no more.
const LATE_EVENTS: u64 = limits::DEDUP_WINDOW_RECORDS as u64 / 4;

/// How long anything may take that must end, once nothing disturbs any more.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Where a run takes place: a log, and somebody who can break it.
#[async_trait]
pub trait Site: Send + Sync + 'static {
    /// What can be done to it.
    fn kinds(&self) -> Vec<Kind>;

    /// A handle on the log; with a seed of its own, where that decides anything.
    async fn open(&self, seed: u64) -> Result<Arc<dyn EventLog<Probe>>, Error>;

    /// A fault begins.
    async fn begin(&self, fault: &Fault);

    /// A fault that lasts ends.
    async fn end(&self, fault: &Fault);

    /// Whatever was switched on is off from here on, and the log can be reached.
    async fn calm(&self);

    /// What is in the log, by partition, looked at past the library and the faults.
    async fn contents(&self) -> Vec<Vec<Stored>>;
}

/// How far a run has come, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Events that were offered.
    pub offered: AtomicU64,
    /// Faults that have begun.
    pub struck: AtomicU64,
}

/// What everybody in a run shares.
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) recorder: Recorder,
    pub(super) site: Arc<dyn Site>,
    progress: Arc<Progress>,
    /// How many events have been offered, and whom to tell.
    offered: (AtomicU64, Notify),
    /// The handles that producers use now, with their numbers.
    handles: Vec<Mutex<(u64, Log)>>,
    next_handle: AtomicU64,
    next_consumer: AtomicU64,
    /// Set when consumers are to go.
    pub(super) enough: watch::Sender<bool>,
    /// Set when producers are to end, although they have more.
    is_enough_offered: AtomicBool,
}

/// Carries a run out on the in-memory log, on one thread and a paused clock: the settings decide every byte of the
/// history.
///
/// # Panics
///
/// When there is no runtime.
#[must_use]
pub fn run_in_memory(settings: &Settings, progress: &Arc<Progress>) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(async { run(Arc::new(MemorySite::new(settings)), settings, progress).await })
}

/// Carries a run out.
///
/// # Panics
///
/// When the log cannot be opened, or a task of the run panics.
pub async fn run(site: Arc<dyn Site>, settings: &Settings, progress: &Arc<Progress>) -> History {
    let schedule = Schedule::new(settings, &site.kinds());
    let mut chance = fastrand::Rng::with_seed(settings.seed);
    let world = Arc::new(World::open(site, settings, progress).await);

    let mut consumers = Vec::new();
    for (group, members) in GROUPS {
        for _ in 0..members {
            consumers.push(tokio::spawn(consume::live(Arc::clone(&world), group, chance.fork())));
        }
    }
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|nth| {
            let numbers = settings.events * nth / PRODUCERS..settings.events * (nth + 1) / PRODUCERS;
            let slot = usize::try_from(nth).unwrap_or(0) % HANDLES;
            tokio::spawn(produce::produce(Arc::clone(&world), slot, nth, numbers, chance.fork()))
        })
        .collect();
    strike(&world, schedule).await;
    // Producers wait for outcomes, which may need the calm.
    world.site.calm().await;
    join(producers).await;
    world.settle().await;
    world.enough.send_replace(true);
    join(consumers).await;
    world.recorder.saw(Saw::Calm);
    for (group, _) in GROUPS {
        consume::read_dry(&world, group).await;
    }
    for (partition, records) in (0..).map(PartitionId).zip(world.site.contents().await) {
        world.recorder.saw(Saw::Holds { partition, records });
    }
    world.close().await;
    world.recorder.clone().finish(settings.clone())
}

/// Waits for tasks that end by themselves.
pub(super) async fn join(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        if let Err(error) = task.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Lets the faults strike. Those of the server come one at a time, and so do the others; one of each may go together.
pub(super) async fn strike(world: &Arc<World>, schedule: Schedule) {
    let mut lasting: [Option<JoinHandle<()>>; 2] = [None, None];
    for strike in schedule.strikes {
        if let Some(pause) = strike.pause {
            tokio::time::sleep(pause).await;
        }
        let reached = world.until_offered(strike.after);
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            world.recorder.saw(Saw::Stuck { what: format!("{} events are not offered", strike.after) });
        }
        let fault = strike.fault;
        let before = &mut lasting[usize::from(is_of_server(fault.kind))];
        join(before.take().into_iter().collect()).await;
        world.progress.struck.fetch_add(1, Ordering::Relaxed);
        world.recorder.saw(Saw::Struck { fault });
        match fault.kind {
            Kind::CrashHandle => world.crash(fault.which).await,
            _ => world.site.begin(&fault).await,
        }
        if fault.lasts_ms > 0 {
            let world = Arc::clone(world);
            *before = Some(tokio::spawn(async move {
                world.until_over(&fault).await;
                world.site.end(&fault).await;
                world.recorder.saw(Saw::Healed { fault });
            }));
        }
    }
    join(lasting.into_iter().flatten().collect()).await;
}

const fn is_of_server(kind: Kind) -> bool {
    matches!(kind, Kind::KillServer | Kind::EndServer | Kind::PauseServer | Kind::MoveServer | Kind::FillDisk)
}

impl World {
    async fn open(site: Arc<dyn Site>, settings: &Settings, progress: &Arc<Progress>) -> Self {
        let mut world = Self {
            settings: settings.clone(),
            recorder: Recorder::new(),
            site,
            progress: Arc::clone(progress),
            offered: (AtomicU64::new(0), Notify::new()),
            handles: Vec::new(),
            next_handle: AtomicU64::new(0),
            next_consumer: AtomicU64::new(0),
            enough: watch::Sender::new(false),
            is_enough_offered: AtomicBool::new(false),
        };
        for _ in 0..HANDLES {
            let handle = world.open_handle().await;
            world.handles.push(Mutex::new(handle));
        }
        world
    }

    /// For a run that would fill the memory with what it sees.
    pub(super) async fn open_without_history(
        site: Arc<dyn Site>,
        settings: &Settings,
        progress: &Arc<Progress>,
    ) -> Self {
        let mut world = Self::open(site, settings, progress).await;
        world.recorder = Recorder::forgetful();
        world
    }

    /// Producers end.
    pub(super) fn enough_is_offered(&self) {
        self.is_enough_offered.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_enough_offered(&self) -> bool {
        self.is_enough_offered.load(Ordering::Relaxed)
    }

    async fn open_handle(&self) -> (u64, Log) {
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        let log = self.site.open(self.settings.seed.wrapping_add(handle)).await;
        self.recorder.saw(Saw::Opened { handle });
        (handle, log.unwrap_or_else(|error| panic!("a log opens: {error}")))
    }

    /// The handle in a slot, and its number.
    pub(super) fn handle(&self, slot: usize) -> (u64, Log) {
        self.handles[slot].lock().clone()
    }

    /// Drops a handle and opens another one in its place. Whoever is in the middle of a call still has the old one.
    async fn crash(&self, which: u64) {
        let slot = usize::try_from(which).unwrap_or(0) % HANDLES;
        let fresh = self.open_handle().await;
        let (handle, log) = std::mem::replace(&mut *self.handles[slot].lock(), fresh);
        self.tell(handle, &log);
        self.recorder.saw(Saw::Crashed { handle });
    }

    /// Waits until it is time for a fault to end.
    async fn until_over(&self, fault: &Fault) {
        let late = match fault.kind {
            Kind::HoldRequests => self.offered.0.load(Ordering::SeqCst) + LATE_EVENTS,
            _ => u64::MAX,
        };
        let _either = tokio::time::timeout(fault.lasts(), self.until_offered(late)).await;
    }

    fn tell(&self, handle: u64, log: &Log) {
        let told = Told::from(&log.state().current());
        self.recorder.saw(Saw::Told { handle, told });
    }

    pub(super) fn next_consumer(&self) -> u64 {
        self.next_consumer.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn offered(&self) {
        self.progress.offered.fetch_add(1, Ordering::Relaxed);
        self.offered.0.fetch_add(1, Ordering::SeqCst);
        self.offered.1.notify_waiters();
    }

    /// Completes when so many events have been offered. Who waits is woken in order, which a `watch` would not do.
    async fn until_offered(&self, count: u64) {
        loop {
            let mut more = pin!(self.offered.1.notified());
            more.as_mut().enable();
            if self.offered.0.load(Ordering::SeqCst) >= count {
                return;
            }
            more.await;
        }
    }

    /// Completes when consumers are to go.
    pub(super) fn enough(&self) -> watch::Receiver<bool> {
        self.enough.subscribe()
    }

    /// Every log is connected, and has sent all it had.
    pub(super) async fn settle(&self) {
        for slot in 0..HANDLES {
            let (handle, log) = self.handle(slot);
            let mut state = log.state();
            let settled = async {
                let connected = state.wait_for(LogState::is_connected).await.is_connected();
                connected && log.flush().await.is_ok()
            };
            if !tokio::time::timeout(PATIENCE, settled).await.unwrap_or(false) {
                self.recorder.saw(Saw::Stuck { what: format!("flushing handle {handle}") });
            }
        }
    }

    pub(super) async fn close(&self) {
        for slot in 0..HANDLES {
            let (handle, log) = self.handle(slot);
            let left = log.close(PATIENCE).await;
            if let Err(left) = left {
                self.recorder.saw(Saw::Stuck { what: format!("handle {handle}: {left}") });
            }
            self.tell(handle, &log);
        }
    }

    /// A handle to open consumers with.
    pub(super) fn any_handle(&self) -> Log {
        self.handle(0).1
    }

    /// Where every partition ends.
    pub(super) async fn is_at_the_end(&self, member: &Member) -> bool {
        let Ok(marks) = self.any_handle().watermarks().await else { return false };
        marks.iter().all(|(partition, marks)| {
            member.consumer.position().get(partition).is_some_and(|next| next >= marks.high)
        })
    }
}

impl From<&LogState> for Told {
    fn from(state: &LogState) -> Self {
        Self {
            reconnects: state.reconnects,
            dropped: state.dropped,
            found: state.recovered.found,
            sent_again: state.recovered.sent_again,
            unknown: state.recovered.unknown,
        }
    }
}
