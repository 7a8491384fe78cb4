//! Latency under a load that does not wait for answers.
//!
//! Events are due at fixed times, at 50 % and at 80 % of the rate that this library reaches when 1,024 tasks append as
//! fast as they can, measured just before. The latency of an event is counted from when it was *due* until it is
//! confirmed, so that a contender that falls behind cannot hide it (coordinated omission). Both do the same: whatever is
//! due is handed over at once, grouped by partition, at most 1,024 events a request. Both are warm: the raw client has its
//! connection for long, and a log opens its further ones when it is busy for the first time, which happens before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log_core::limits::REQUEST_EVENTS;
use event_log_core::{EventLog as _, SubmitErrorKind, Ticket};
use event_log_iggy::{Durability, IggyLog};
use hdrhistogram::Histogram;
use tokio::sync::{mpsc, watch};

use super::appends::{RATE, rates};
use super::lone::{P99, quantiles};
use crate::Failure;
use crate::bench::{Bench, bounded, called, progress};
use crate::contenders::raw::RAW;
use crate::contenders::{Appends, Producer as _};
use crate::contest::{Contest, OURS, Row, Sample, turns};
use crate::event::{Event, PARTITIONS};
use crate::numbers::Numbers;
use crate::stats::{figure, histogram, median, record};
use crate::topic::Topic;

const SHARES: [u32; 2] = [50, 80];

/// How long a schedule is, in windows.
const WINDOWS: u32 = 2;

pub(super) async fn run(bench: &Bench, name: &str, durability: Durability) -> Result<Vec<Contest>, Failure> {
    let best = best_rate(bench, durability).await?;
    let mut contests = Vec::new();
    for share in SHARES {
        let rate = best * f64::from(share) / 100.0;
        let title = format!("{} events/s, {share} % of the best, {} topic", figure(rate), called(durability));
        let contest = Contest::new(format!("{name}-{share}"), title, P99);
        contests.push(at_rate(bench, contest, durability, rate).await?);
    }
    Ok(contests)
}

/// The rate that this library reaches now: the median of three short rounds.
async fn best_rate(bench: &Bench, durability: Durability) -> Result<f64, Failure> {
    let mut best = Vec::new();
    for _ in 0..3 {
        let topic = bench.topic(durability).await?;
        let mut watch = bench.stopwatch();
        let confirmed = bounded(Appends.produce(bench, &topic, &mut watch)).await?;
        best.extend(rates(&watch, confirmed.len()).into_iter().find(|(name, _)| *name == RATE));
        bench.remove(&topic).await?;
    }
    let best: Vec<_> = best.into_iter().map(|(_, rate)| rate).collect();
    median(&best).ok_or_else(|| "no rate".into())
}

async fn at_rate(
    bench: &Bench,
    mut contest: Contest,
    durability: Durability,
    rate: f64,
) -> Result<Contest, Failure> {
    contest.rows = vec![
        Row::new(OURS, "submit when it is due, until the ticket resolves"),
        Row::new(RAW, "whatever is due, grouped by hand, at most 1,024 a request, encoded beforehand"),
    ];
    // Rounds are longer here, and quantiles need many events more than many rounds.
    let rounds = bench.settings.rounds.div_ceil(2);
    for turn in turns(rounds, 2) {
        progress(&contest.name, turn, 2 * rounds);
        let row = &mut contest.rows[turn.contender];
        let schedule = Schedule::new(rate, bench.settings.window * WINDOWS);
        let sample = bounded(round(bench, durability, schedule, turn.contender == 0, turn.round, row)).await;
        let sample = sample.unwrap_or_else(|error| Sample::failed(turn.round, &error));
        contest.rows[turn.contender].samples.push(sample);
    }
    Ok(contest)
}

async fn round(
    bench: &Bench,
    durability: Durability,
    schedule: Schedule,
    is_ours: bool,
    round: usize,
    row: &mut Row,
) -> Result<Sample, Failure> {
    let topic = bench.topic(durability).await?;
    let mut appended: Numbers = (0..schedule.events).collect();
    let latencies = if is_ours {
        let log = bench.open(&topic).await?;
        warm_up(bench, &log, &mut appended).await?;
        let latencies = ours(bench, &log, schedule).await?;
        log.close(Duration::from_secs(5)).await.map_err(|_| "events were left over")?;
        latencies
    } else {
        raw(bench, &topic, schedule).await?
    };
    let audit = bench.audit(&topic, &appended, true).await;
    row.latencies.get_or_insert_with(histogram).add(&latencies).expect("they have the same digits");
    Ok(Sample::new(round, quantiles(&latencies), audit))
}

/// Long enough for a few connections to be opened under load, one after the other.
const WARM_UP: Duration = Duration::from_millis(500);

/// Appends something to all partitions at a time, until everything is open.
async fn warm_up(bench: &Bench, log: &IggyLog<Event>, appended: &mut Numbers) -> Result<(), Failure> {
    let start = Instant::now();
    while start.elapsed() < WARM_UP {
        let numbers = appended.len()..appended.len() + 512;
        let receipts = log.append_batch(numbers.clone().map(|n| bench.events.event(n)).collect()).await?;
        if receipts.iter().any(|receipt| receipt.is_buffered()) {
            return Err("the connection was lost".into());
        }
        for number in numbers {
            appended.insert(number);
        }
    }
    Ok(())
}

/// When which event is due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    every: Duration,
    events: u64,
}

impl Schedule {
    fn new(rate: f64, length: Duration) -> Self {
        let every = Duration::from_secs_f64(1.0 / rate);
        Self { every, events: (length.as_secs_f64() * rate) as u64 }
    }

    fn due(self, start: Instant, number: u64) -> Instant {
        start + self.every.mul_f64(number as f64)
    }

    /// How many are due by now.
    fn due_by(self, start: Instant, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(start).as_secs_f64();
        ((elapsed / self.every.as_secs_f64()) as u64 + 1).min(self.events)
    }
}

/// The shortest pause of the pacer. The runtime's clock has steps of a millisecond, which would make bursts of what is due.
const PAUSE: Duration = Duration::from_micros(100);

/// Calls `due` with how many events are due by now, again and again, from a thread of its own. `due` returns how many it
/// has taken.
async fn pace(
    schedule: Schedule,
    start: Instant,
    mut due: impl FnMut(u64) -> Result<u64, Failure> + Send + 'static,
) -> Result<(), Failure> {
    let pacer = tokio::task::spawn_blocking(move || {
        let mut taken = 0;
        while taken < schedule.events {
            let wait = schedule.due(start, taken).saturating_duration_since(Instant::now());
            std::thread::sleep(wait.max(PAUSE));
            taken = due(schedule.due_by(start, Instant::now()))?;
        }
        Ok(())
    });
    pacer.await?
}

/// Tickets, and when their events were due.
type Submitted = Vec<(Instant, Ticket<Event>)>;

async fn ours(bench: &Bench, log: &IggyLog<Event>, schedule: Schedule) -> Result<Histogram<u64>, Failure> {
    let (inboxes, collectors): (Vec<_>, Vec<_>) = (0..PARTITIONS)
        .map(|_| {
            let (sender, inbox) = mpsc::unbounded_channel();
            (sender, tokio::spawn(collect(inbox)))
        })
        .unzip();
    let (log, events) = (log.clone(), Arc::clone(&bench.events));
    let (start, mut next) = (Instant::now(), 0);
    let submit = move |due| {
        let mut submitted: Vec<Submitted> = inboxes.iter().map(|_| Vec::new()).collect();
        while next < due {
            match log.submit(events.event(next)) {
                Ok(ticket) => {
                    submitted[events.partition(next) as usize].push((schedule.due(start, next), ticket));
                    next += 1;
                }
                // Behind by a whole buffer. It was due all the same, and its latency grows.
                Err(rejected) if matches!(rejected.kind, SubmitErrorKind::Full) => break,
                Err(rejected) => return Err(rejected.kind.to_string().into()),
            }
        }
        for (inbox, submitted) in inboxes.iter().zip(submitted).filter(|(_, some)| !some.is_empty()) {
            inbox.send(submitted).map_err(|_| "a collector has failed")?;
        }
        Ok(next)
    };
    pace(schedule, start, submit).await?;
    let mut latencies = histogram();
    for collector in collectors {
        latencies.add(&collector.await??).expect("they have the same digits");
    }
    Ok(latencies)
}

/// The latencies of one partition, whose tickets resolve in the order in which they were made.
async fn collect(mut inbox: mpsc::UnboundedReceiver<Submitted>) -> Result<Histogram<u64>, Failure> {
    let mut latencies = histogram();
    while let Some(submitted) = inbox.recv().await {
        for (due, ticket) in submitted {
            ticket.await?;
            record(&mut latencies, due.elapsed());
        }
    }
    Ok(latencies)
}

async fn raw(bench: &Bench, topic: &Topic, schedule: Schedule) -> Result<Histogram<u64>, Failure> {
    let mut ready: VecDeque<_> = bench.events.messages(0..schedule.events)?.into();
    let (told, mut due) = watch::channel(0);
    let start = Instant::now();
    let pacer = tokio::spawn(pace(schedule, start, move |due| {
        told.send_replace(due);
        Ok(due)
    }));
    let mut latencies = histogram();
    let mut next = 0;
    while next < schedule.events {
        // The last of them stays true when the pacer has ended.
        let end = due.wait_for(|&due| due > next).await.map_or(schedule.events, |due| *due);
        // About as many as fit into a request for each partition.
        let end = end.min(next + u64::from(PARTITIONS) * REQUEST_EVENTS as u64);
        let mut groups: Vec<(Vec<u64>, Vec<_>)> = (0..PARTITIONS).map(|_| Default::default()).collect();
        for number in next..end {
            let (numbers, messages) = &mut groups[bench.events.partition(number) as usize];
            numbers.push(number);
            messages.extend(ready.pop_front());
        }
        for ((numbers, mut messages), partition) in groups.into_iter().zip(0..) {
            if messages.is_empty() {
                continue;
            }
            bench.raw.send(topic, partition, &mut messages).await?;
            let now = Instant::now();
            for number in numbers {
                let latency = now.saturating_duration_since(schedule.due(start, number));
                record(&mut latencies, latency);
            }
        }
        next = end;
    }
    pacer.await??;
    Ok(latencies)
}
