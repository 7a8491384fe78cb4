//! The same work at full rate for a long time, without a history: does anything grow?
//!
//! A history would itself. What a soak shows is what the process uses, second by second, while a fault strikes every
//! few seconds; what is right and what is wrong is for [`run`](super::run) to show.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::consume;
use super::history::{Entry, Settings};
use super::produce;
use super::run::{GROUPS, HANDLES, PRODUCERS, Progress, Site, World, join, strike};
use super::schedule::Schedule;

/// What the process uses at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Seconds from the beginning.
    pub second: f64,
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Open files, sockets among them.
    pub files: u64,
    /// Tasks of the runtime.
    pub tasks: u64,
    /// Events offered so far.
    pub offered: u64,
    /// Faults so far.
    pub struck: u64,
}

impl Sample {
    fn now(began: Instant, progress: &Progress) -> Self {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        Self {
            second: began.elapsed().as_secs_f64(),
            memory: procfs_memory(),
            files: std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            tasks: tasks as u64,
            offered: progress.offered.load(Ordering::Relaxed),
            struck: progress.struck.load(Ordering::Relaxed),
        }
    }
}

/// The resident memory of this process. 0 where there is no `/proc`.
fn procfs_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Works for so long, with a fault at every interval, and hands out a sample every second. Returns what was seen that must
/// not happen whatever the order of things: what got stuck, and errors that were not worth another try.
///
/// # Panics
///
/// When the log cannot be opened, or a task of the run panics.
pub async fn soak(
    site: Arc<dyn Site>,
    settings: &Settings,
    length: Duration,
    interval: Duration,
    mut sampled: impl FnMut(Sample),
) -> Vec<Entry> {
    let progress = Arc::new(Progress::default());
    let faults = length.as_secs().checked_div(interval.as_secs()).unwrap_or(0);
    let settings = Settings { faults: u32::try_from(faults).unwrap_or(u32::MAX), ..settings.clone() };
    let schedule = Schedule::every(interval, &settings, &site.kinds());
    let mut chance = fastrand::Rng::with_seed(settings.seed);
    let world = Arc::new(World::open_without_history(site, &settings, &progress).await);
    let began = Instant::now();

    let mut consumers = Vec::new();
    for (group, members) in GROUPS {
        for _ in 0..members {
            consumers.push(tokio::spawn(consume::live(Arc::clone(&world), group, chance.fork())));
        }
    }
    let share = u64::MAX / PRODUCERS;
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|nth| {
            let slot = usize::try_from(nth).unwrap_or(0) % HANDLES;
            let numbers = nth * share..(nth + 1) * share;
            tokio::spawn(produce::produce(Arc::clone(&world), slot, nth, numbers, chance.fork()))
        })
        .collect();
    let striking = tokio::spawn({
        let world = Arc::clone(&world);
        async move { strike(&world, schedule).await }
    });
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    while began.elapsed() < length {
        every_second.tick().await;
        sampled(Sample::now(began, &progress));
    }
    world.enough_is_offered();
    join(vec![striking]).await;
    world.site.calm().await;
    join(producers).await;
    world.settle().await;
    world.enough.send_replace(true);
    join(consumers).await;
    world.close().await;
    world.recorder.clone().finish(settings).entries
}
