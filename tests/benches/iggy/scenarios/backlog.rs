//! How fast a backlog is consumed, decoded.
//!
//! One topic is filled once. In each round each contender opens a reader that has not read anything, and reads
//! everything, from when it has joined until it has the last event. That it has every event once is its audit; decoding
//! is serde_json's for all.

use std::time::Duration;

use async_trait::async_trait;
use event_log_core::{
    EventBatch, EventConsumer as _, EventConsumerExt as _, EventLog as _, EventLogExt as _,
};
use event_log_iggy::Durability;
use futures::StreamExt as _;
use iggy::prelude::{AutoCommit, IggyConsumer, PollingStrategy};

use super::appends::{CPU, RATE, rates};
use crate::Failure;
use crate::bench::{Bench, bounded, progress};
use crate::contenders::raw::RAW;
use crate::contest::{Contest, Goal, OURS, Row, Sample, turns};
use crate::event::{Event, PARTITIONS};
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::{TOPIC, Topic, sdk_client};

const STREAM: &str = "event-log, stream";
const CONSUMER: &str = "IggyConsumer";
const CONSUMER_TUNED: &str = "IggyConsumer, tuned";

/// No reader waits longer for an event than this.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(bench: &Bench, name: String) -> Result<Contest, Failure> {
    let mut readers: Vec<Box<dyn Reader>> = vec![
        Box::new(Ours),
        Box::new(OursAsStream),
        Box::new(RawReader { name: RAW, at_once: 1_000 }),
        Box::new(RawReader { name: "raw, 10,000 a request", at_once: 10_000 }),
        Box::new(Consumer { is_tuned: false }),
        Box::new(Consumer { is_tuned: true }),
    ];
    readers.retain(|one| bench.args.wants_contender(one.name()));
    let title = format!("Consuming a backlog of {} events, decoded", bench.settings.backlog);
    let mut contest = Contest::new(name, title, RATE);
    contest.rows = readers.iter().map(|one| Row::new(one.name(), one.what())).collect();
    let topic = filled(bench).await?;
    let rounds = bench.settings.rounds;
    for turn in turns(rounds, readers.len()) {
        progress(&contest.name, turn, rounds * readers.len());
        let reader = &readers[turn.contender];
        let group = format!("reader-{}", turn.number);
        let mut watch = bench.stopwatch();
        let read = bounded(reader.read(bench, &topic, &group, &mut watch)).await;
        let sample = match read {
            Ok(()) => Sample::new(turn.round, rates(&watch, bench.settings.backlog), Ok(())),
            Err(error) => Sample::failed(turn.round, &error),
        };
        contest.rows[turn.contender].samples.push(sample);
    }
    bench.remove(&topic).await?;
    let consumers = [CONSUMER, CONSUMER_TUNED];
    contest.goals = vec![
        Goal::at_least(0.90, RATE, "raw + serde", &[RAW]),
        Goal::at_least(1.5, RATE, "the best IggyConsumer", &consumers),
        Goal::at_least(0.90, RATE, "raw + serde", &[RAW]).of(STREAM),
        Goal::at_most(1.2, CPU, "raw + serde", &[RAW]),
    ];
    Ok(contest)
}

/// A topic with the whole backlog, as this library appends it: its ids are not those of a counter, and a partition's
/// share of a batch has one append time.
async fn filled(bench: &Bench) -> Result<Topic, Failure> {
    let topic = bench.topic(Durability::Replicated).await?;
    let log = bench.open(&topic).await?;
    let step = 1_000;
    for start in (0..bench.settings.backlog).step_by(step) {
        let end = (start + step as u64).min(bench.settings.backlog);
        drop(log.append_batch((start..end).map(|number| bench.events.event(number)).collect()).await?);
    }
    log.close(Duration::from_secs(10)).await.map_err(|_| "events were left over")?;
    Ok(topic)
}

/// Somebody who reads the whole backlog.
#[async_trait]
trait Reader: Send + Sync {
    fn name(&self) -> &'static str;

    fn what(&self) -> String;

    async fn read(
        &self,
        bench: &Bench,
        topic: &Topic,
        group: &str,
        watch: &mut Stopwatch,
    ) -> Result<(), Failure>;
}

/// What a reader has read so far: each event once, and nothing else.
struct Seen {
    numbers: Numbers,
    wanted: u64,
}

impl Seen {
    const fn new(bench: &Bench) -> Self {
        Self { numbers: Numbers::NONE, wanted: bench.settings.backlog }
    }

    fn add(&mut self, event: &Event) -> Result<(), Failure> {
        let number = event.number;
        if number >= self.wanted || !self.numbers.insert(number) {
            return Err(format!("failed audit: event {number} was read twice, or never appended").into());
        }
        Ok(())
    }

    fn add_all(&mut self, batch: EventBatch<Event>) -> Result<(), Failure> {
        batch.into_iter().try_for_each(|record| self.add(&record.event.map_err(|bad| bad.error)?))
    }

    const fn is_all(&self) -> bool {
        self.numbers.len() == self.wanted
    }
}

struct Ours;

#[async_trait]
impl Reader for Ours {
    fn name(&self) -> &'static str {
        OURS
    }

    fn what(&self) -> String {
        "poll(1,024)".to_owned()
    }

    async fn read(
        &self,
        bench: &Bench,
        topic: &Topic,
        group: &str,
        watch: &mut Stopwatch,
    ) -> Result<(), Failure> {
        let log = bench.open(topic).await?;
        let mut consumer = log.consumer(group).await?;
        let mut seen = Seen::new(bench);
        watch.start();
        while !seen.is_all() {
            let batch = consumer.poll(1_024, PATIENCE).await?;
            if batch.is_empty() {
                return Err("failed audit: events are missing".into());
            }
            seen.add_all(batch)?;
        }
        watch.stop();
        Ok(())
    }
}

struct OursAsStream;

#[async_trait]
impl Reader for OursAsStream {
    fn name(&self) -> &'static str {
        STREAM
    }

    fn what(&self) -> String {
        "stream(1,024)".to_owned()
    }

    async fn read(
        &self,
        bench: &Bench,
        topic: &Topic,
        group: &str,
        watch: &mut Stopwatch,
    ) -> Result<(), Failure> {
        let log = bench.open(topic).await?;
        let mut consumer = log.consumer(group).await?;
        let mut stream = consumer.stream(1_024);
        let mut seen = Seen::new(bench);
        watch.start();
        while !seen.is_all() {
            let batch = stream.next().await.ok_or("the stream has ended")??;
            seen.add_all(batch)?;
        }
        watch.stop();
        Ok(())
    }
}

/// The raw client: one request after the other, to the partitions in turn.
struct RawReader {
    name: &'static str,
    at_once: u32,
}

#[async_trait]
impl Reader for RawReader {
    fn name(&self) -> &'static str {
        self.name
    }

    fn what(&self) -> String {
        format!("poll_messages, {} a request, partition by partition, and serde_json", self.at_once)
    }

    async fn read(
        &self,
        bench: &Bench,
        topic: &Topic,
        _: &str,
        watch: &mut Stopwatch,
    ) -> Result<(), Failure> {
        let mut next = [0; PARTITIONS as usize];
        let mut seen = Seen::new(bench);
        watch.start();
        while !seen.is_all() {
            let before = seen.numbers.len();
            for partition in 0..PARTITIONS {
                let from = &mut next[partition as usize];
                let polled = bench.raw.poll(topic, partition, *from, self.at_once).await?;
                for message in &polled.messages {
                    seen.add(&serde_json::from_slice(&message.payload)?)?;
                }
                *from = polled.messages.last().map_or(*from, |last| last.header.offset + 1);
            }
            if seen.numbers.len() == before {
                return Err("failed audit: events are missing".into());
            }
        }
        watch.stop();
        Ok(())
    }
}

/// The SDK's consumer, the only member of a group.
struct Consumer {
    is_tuned: bool,
}

#[async_trait]
impl Reader for Consumer {
    fn name(&self) -> &'static str {
        if self.is_tuned { CONSUMER_TUNED } else { CONSUMER }
    }

    fn what(&self) -> String {
        let how = if self.is_tuned { "nodelay, no commits" } else { "defaults: commits what it polls" };
        format!("IggyConsumer as the only member of a group, {how}, and serde_json")
    }

    async fn read(
        &self,
        bench: &Bench,
        topic: &Topic,
        group: &str,
        watch: &mut Stopwatch,
    ) -> Result<(), Failure> {
        let client = sdk_client(&bench.server.endpoint(), self.is_tuned).await?;
        let mut builder = client.consumer_group(group, &topic.name, TOPIC)?;
        if self.is_tuned {
            builder = builder.auto_commit(AutoCommit::Disabled).polling_strategy(PollingStrategy::offset(0));
        }
        let mut consumer: IggyConsumer = builder.build();
        consumer.init().await?;
        let mut seen = Seen::new(bench);
        watch.start();
        while !seen.is_all() {
            let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
            let received =
                next.map_err(|_| "failed audit: events are missing")?.ok_or("the consumer has ended")??;
            seen.add(&serde_json::from_slice(&received.message.payload)?)?;
        }
        watch.stop();
        consumer.shutdown().await?;
        Ok(())
    }
}
