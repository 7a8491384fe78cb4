//! What is timed: from [`Stopwatch::start`] to [`Stopwatch::stop`], the time and the processor time of this process and
//! of the server.

use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Measures one round of one contender.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    window: Duration,
    server: Option<u32>,
    /// Says when it starts and stops.
    marks: bool,
    started: Option<Mark>,
    spent: Option<Spent>,
}

/// What a round took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) time: Duration,
    /// Processor time of this process, all threads.
    pub(crate) cpu: Duration,
    /// Processor time of the server; zero where the system does not tell.
    pub(crate) server_cpu: Duration,
}

/// When to begin nothing new. Cheap to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    cpu: Duration,
    server_cpu: Duration,
}

impl Deadline {
    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

impl Stopwatch {
    pub(crate) const fn new(window: Duration, server: Option<u32>, marks: bool) -> Self {
        Self { window, server, marks, started: None, spent: None }
    }

    /// How long a contender goes on.
    pub(crate) const fn window(&self) -> Duration {
        self.window
    }

    /// The clock runs from now on.
    pub(crate) fn start(&mut self) -> Deadline {
        let mark = Mark::now(self.server);
        self.say("start");
        self.started = Some(mark);
        Deadline(mark.at + self.window)
    }

    /// Everything is confirmed, or delivered.
    pub(crate) fn stop(&mut self) {
        let now = Instant::now();
        self.say("stop");
        self.spent = self.started.map(|start| {
            let end = Mark::now(self.server);
            Spent {
                time: now - start.at,
                cpu: end.cpu.saturating_sub(start.cpu),
                server_cpu: end.server_cpu.saturating_sub(start.server_cpu),
            }
        });
    }

    fn say(&self, what: &str) {
        if self.marks {
            let time = clock_gettime(ClockId::Monotonic);
            eprintln!("mark {what} {}.{:09}", time.tv_sec, time.tv_nsec);
        }
    }

    pub(crate) const fn spent(&self) -> Option<Spent> {
        self.spent
    }
}

impl Mark {
    fn now(server: Option<u32>) -> Self {
        let server_cpu = server.map(cpu_of).unwrap_or_default();
        let cpu = own_cpu();
        Self { at: Instant::now(), cpu, server_cpu }
    }
}

/// The processor time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The processor time of another process so far, as Linux counts it: in nanoseconds, by thread.
pub(crate) fn cpu_of(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let each = threads.into_iter().flatten().flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(each.sum())
}
