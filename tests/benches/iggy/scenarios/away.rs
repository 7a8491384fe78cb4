//! A burst while the server is away: how fast `submit` is until the buffer is full, and while it drops the oldest.
//!
//! On a server of its own, which is killed. Afterwards the server comes back, and the audit wants what the buffer held
//! in the log, each event once, and nothing that was dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log_core::EventLog as _;
use event_log_iggy::{Durability, IggyLog};
use event_log_tests::iggy::{mend_and_start, own_server};

use crate::Failure;
use crate::bench::{Bench, bounded};
use crate::contest::{Contest, Goal, OURS, Row, Sample};
use crate::event::Event;
use crate::numbers::Numbers;
use crate::topic::{Raw, Topic};

const FILLING: &str = "filling, submits/s";
const DROPPING: &str = "dropping, submits/s";

const TWO_THREADS: &str = "event-log, 2 threads";
const SMALL: &str = "event-log, buffer of 10,000";

/// What a round is like.
struct Burst {
    name: &'static str,
    threads: usize,
    buffer: usize,
    /// Events that are dropped afterwards.
    more: usize,
}

pub(super) async fn run(bench: &Bench, name: String) -> Result<Contest, Failure> {
    let buffer = bench.settings.buffer;
    let bursts = [
        Burst { name: OURS, threads: 1, buffer, more: buffer },
        Burst { name: TWO_THREADS, threads: 2, buffer, more: buffer },
        Burst { name: SMALL, threads: 1, buffer: 10_000, more: buffer },
    ];
    let mut contest = Contest::new(name, "A burst while the server is away", FILLING);
    contest.rows = bursts
        .iter()
        .map(|burst| {
            let Burst { threads, buffer, more, .. } = burst;
            Row::new(
                burst.name,
                format!("submit by {threads} thread(s) until {buffer} are buffered, then {more} more"),
            )
        })
        .collect();
    for round in 0..bench.settings.rounds {
        for (burst, row) in bursts.iter().zip(&mut contest.rows) {
            let sample = bounded(one(bench, burst, round)).await;
            row.samples.push(sample.unwrap_or_else(|error| Sample::failed(round, &error)));
        }
    }
    let goal = |quantity, contender| Goal::at_least(1e6, quantity, "", &[]).of(contender);
    contest.goals = vec![
        goal(FILLING, OURS),
        goal(DROPPING, OURS),
        goal(FILLING, TWO_THREADS),
        goal(DROPPING, TWO_THREADS),
        goal(DROPPING, SMALL),
    ];
    Ok(contest)
}

async fn one(bench: &Bench, burst: &Burst, round: usize) -> Result<Sample, Failure> {
    let server = own_server().await.ok_or("there is no server")?;
    let raw = Raw::connect(&server).await?;
    let topic = raw.create(Durability::Replicated).await?;
    let mut config = bench.config(&topic);
    config.endpoint = server.endpoint();
    config.producer.buffer_events = burst.buffer;
    config.producer.buffer_bytes = 1 << 30;
    config.producer.reconnect.max = config.producer.reconnect.initial;
    let log: IggyLog<Event> = event_log_iggy::builder(config).open().await?;
    server.kill().await?;
    let mut state = log.state();
    state.wait_for(|state| !state.is_connected()).await;

    let total = burst.buffer + burst.more;
    let events: Vec<Event> = (0..total as u64).map(|number| bench.events.event(number)).collect();
    let mut events = events.into_iter();
    let filling = submit(&log, events.by_ref().take(burst.buffer).collect(), burst.threads).await?;
    let buffered = log.state().current().buffered;
    let dropping = submit(&log, events.collect(), burst.threads).await?;
    let dropped = log.state().current().dropped;
    if buffered != burst.buffer || dropped != burst.more as u64 {
        return Err(format!("failed audit: {buffered} were buffered, and {dropped} dropped").into());
    }

    // It may have been killed while it made the files of the topic, which it does not survive by itself.
    mend_and_start(&server).await?;
    log.flush().await?;
    log.close(Duration::from_secs(5)).await.map_err(|_| "events were left over")?;
    // Its connection is gone with the server.
    let raw = Raw::connect(&server).await?;
    let kept: Numbers = if burst.threads == 1 {
        (burst.more as u64..total as u64).collect()
    } else {
        // Which ones were dropped depends on how the threads took turns; in one log there is one order.
        in_the_log(&raw, &topic).await?
    };
    let mut audit = crate::audit::audit(&raw, &topic, &bench.events, &kept, true).await;
    if kept.len() != burst.buffer as u64 {
        audit = Err(format!("{} of {} buffered events are in the log", kept.len(), burst.buffer).into());
    }
    server.stop().await?;
    Ok(Sample::new(round, [(FILLING, filling), (DROPPING, dropping)], audit))
}

/// Submits the events from so many threads, and returns how many a second. The tickets are dropped: nobody waits.
async fn submit(log: &IggyLog<Event>, events: Vec<Event>, threads: usize) -> Result<f64, Failure> {
    let count = events.len();
    let mut shares: Vec<Vec<Event>> = (0..threads).map(|_| Vec::with_capacity(count / threads + 1)).collect();
    for (nth, event) in events.into_iter().enumerate() {
        shares[nth % threads].push(event);
    }
    let log = Arc::new(log.clone());
    let start = Instant::now();
    let tasks = shares.into_iter().map(|events| {
        let log = Arc::clone(&log);
        tokio::task::spawn_blocking(move || {
            for event in events {
                drop(log.submit(event).map_err(|rejected| rejected.kind.to_string())?);
            }
            Ok::<_, String>(())
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        task.await??;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Every event in the topic. That none is there twice is for the audit.
async fn in_the_log(raw: &Raw, topic: &Topic) -> Result<Numbers, Failure> {
    let mut found = Numbers::default();
    for partition in 0..crate::event::PARTITIONS {
        let mut next = 0;
        loop {
            let polled = raw.poll(topic, partition, next, 10_000).await?;
            let Some(last) = polled.messages.last() else { break };
            next = last.header.offset + 1;
            for message in &polled.messages {
                found.insert(crate::event::number_of(&message.payload).ok_or("a message that is no event")?);
            }
        }
    }
    Ok(found)
}
