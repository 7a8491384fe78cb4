//! From append to delivery, live: a consumer waits, an event is appended, and the time is taken from before the append
//! until the consumer has the event. The measure is one request of the raw client on the same topic, which is taken in
//! the same rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log_core::{EventConsumer as _, EventLog as _, EventLogExt as _};
use event_log_iggy::{Durability, IggyLog};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::lone::{P50, quantiles};
use crate::Failure;
use crate::bench::{Bench, bounded, called, progress};
use crate::contenders::raw::RAW;
use crate::contest::{Contest, Goal, OURS, Row, Sample, turns};
use crate::event::{Event, number_of};
use crate::numbers::Numbers;
use crate::stats::{histogram, record};
use crate::topic::{TOPIC, Topic, sdk_client};

/// Between two events: longer than one takes, so that the consumer waits for each.
const PACE: Duration = Duration::from_millis(3);

/// No event is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of the consumers, which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A consumer of the handle that appends.
    SameHandle,
    /// A consumer of another handle, as of another process: it has to look.
    OtherHandle,
    /// The SDK's consumer, which asks without a pause, behind the raw client.
    IggyConsumer,
    /// Only a request of the raw client: nothing is delivered.
    RoundTrip,
}

const WAYS: [(Way, &str, &str); 4] = [
    (Way::SameHandle, OURS, "append, and poll by a consumer of the same handle"),
    (Way::OtherHandle, "event-log, other handle", "append, and poll by a consumer of another process"),
    (Way::IggyConsumer, "IggyConsumer", "send_messages, and an IggyConsumer that asks without a pause"),
    (Way::RoundTrip, RAW, "one send_messages: no delivery, the measure"),
];

pub(super) async fn run(bench: &Bench, name: String, durability: Durability) -> Result<Contest, Failure> {
    let title = format!("Append to delivery, live, {} topic", called(durability));
    let mut contest = Contest::new(name, title, P50);
    contest.rows = WAYS.iter().map(|(_, name, what)| Row::new(*name, *what)).collect();
    let rounds = bench.settings.rounds;
    for turn in turns(rounds, WAYS.len()) {
        progress(&contest.name, turn, rounds * WAYS.len());
        let row = &mut contest.rows[turn.contender];
        let sample = bounded(round(bench, durability, WAYS[turn.contender].0, turn.round, row)).await;
        let sample = sample.unwrap_or_else(|error| Sample::failed(turn.round, &error));
        contest.rows[turn.contender].samples.push(sample);
    }
    contest.goals = vec![Goal::at_most(2.5, P50, "one raw round trip", &[RAW])];
    Ok(contest)
}

/// Appends one event, in whichever way.
enum Appender {
    Ours(IggyLog<Event>),
    Raw,
}

impl Appender {
    /// Returns when it began.
    async fn append(&self, bench: &Bench, topic: &Topic, number: u64) -> Result<Instant, Failure> {
        match self {
            Self::Ours(log) => {
                let event = bench.events.event(number);
                let start = Instant::now();
                drop(log.append(event).await?);
                Ok(start)
            }
            Self::Raw => {
                let mut message = [bench.events.message(number)?];
                let start = Instant::now();
                bench.raw.send(topic, bench.events.partition(number), &mut message).await?;
                Ok(start)
            }
        }
    }
}

type Arrivals = mpsc::UnboundedReceiver<(u64, Instant)>;

async fn round(
    bench: &Bench,
    durability: Durability,
    way: Way,
    round: usize,
    row: &mut Row,
) -> Result<Sample, Failure> {
    let topic = bench.topic(durability).await?;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let (appender, reader) = match way {
        Way::SameHandle => {
            let log = bench.open(&topic).await?;
            (Appender::Ours(log.clone()), Some(ours(log, arrived).await?))
        }
        Way::OtherHandle => {
            let reader = ours(bench.open(&topic).await?, arrived).await?;
            (Appender::Ours(bench.open(&topic).await?), Some(reader))
        }
        Way::IggyConsumer => (Appender::Raw, Some(iggy_consumer(bench, &topic, arrived).await?)),
        Way::RoundTrip => (Appender::Raw, None),
    };
    let mut latencies = histogram();
    let mut appended = Numbers::default();
    let samples = (bench.settings.samples / 4).max(50) as u64;
    for number in 0..samples {
        tokio::time::sleep(PACE).await;
        let start = appender.append(bench, &topic, number).await?;
        appended.insert(number);
        let end = if reader.is_some() { arrival(&mut arrivals, number).await? } else { Instant::now() };
        // The first few find new connections and a new topic.
        if number >= 10 {
            record(&mut latencies, end - start);
        }
    }
    if let Some(reader) = reader {
        reader.abort();
    }
    let audit = bench.audit(&topic, &appended, true).await;
    row.latencies.get_or_insert_with(histogram).add(&latencies).expect("they have the same digits");
    Ok(Sample::new(round, quantiles(&latencies), audit))
}

/// When the event arrived. Only one is under way, so that it is the next.
async fn arrival(arrivals: &mut Arrivals, number: u64) -> Result<Instant, Failure> {
    let arrived = tokio::time::timeout(PATIENCE, arrivals.recv()).await;
    match arrived.map_err(|_| format!("event {number} does not arrive"))? {
        Some((arrived, at)) if arrived == number => Ok(at),
        other => Err(format!("{other:?} arrived in place of event {number}").into()),
    }
}

async fn ours(
    log: IggyLog<Event>,
    arrived: mpsc::UnboundedSender<(u64, Instant)>,
) -> Result<JoinHandle<()>, Failure> {
    let mut consumer = log.consumer("reader").await?;
    Ok(tokio::spawn(async move {
        // The handle lives as long as its consumer is used.
        let _log = log;
        while let Ok(batch) = consumer.poll(1_024, PATIENCE).await {
            let at = Instant::now();
            for (_, event) in batch.events() {
                // Nobody waits for it any more when the round is over.
                let _over = arrived.send((event.number, at));
            }
        }
    }))
}

async fn iggy_consumer(
    bench: &Bench,
    topic: &Topic,
    arrived: mpsc::UnboundedSender<(u64, Instant)>,
) -> Result<JoinHandle<()>, Failure> {
    let client = Arc::new(sdk_client(&bench.server.endpoint(), true).await?);
    let mut consumer = client.consumer_group("reader", &topic.name, TOPIC)?.build();
    consumer.init().await?;
    Ok(tokio::spawn(async move {
        let _client = client;
        while let Some(Ok(received)) = consumer.next().await {
            let (at, number) = (Instant::now(), number_of(&received.message.payload));
            let _over = arrived.send((number.unwrap_or(u64::MAX), at));
        }
    }))
}
