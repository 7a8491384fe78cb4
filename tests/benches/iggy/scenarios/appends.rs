//! How many events a second: 1,024 appends at a time, and batches of a thousand.
//!
//! Every contender has every round a new topic, which is audited when it has finished. A rate is what was confirmed in
//! the time from the first event to the last confirmation.

use std::time::Duration;

use event_log_iggy::Durability;

use crate::Failure;
use crate::bench::{Bench, bounded, called, progress};
use crate::contenders::producer::{
    ALL, Background, BackgroundTuned, Direct, DirectTuned, DirectUnkeyed, EQUALS,
};
use crate::contenders::raw::{ONE_BY_ONE, RAW, RawClient};
use crate::contenders::{Appends, Batches, ByHand, IN_FLIGHT, Least, Producer};
use crate::contest::{Contest, Goal, Row, Sample, turns};
use crate::event::PARTITIONS;
use crate::stopwatch::Stopwatch;
use crate::topic::Topic;

/// Events of a batch.
const BATCH: u64 = 1_000;

pub(crate) const RATE: &str = "events/s";
/// Processor time of this process.
pub(crate) const CPU: &str = "CPU µs/event";
/// Processor time of the server.
pub(crate) const SERVER_CPU: &str = "server µs/event";

pub(super) async fn appends(bench: &Bench, name: String, durability: Durability) -> Result<Contest, Failure> {
    let mut contenders: Vec<Box<dyn Producer>> = vec![
        Box::new(Appends),
        Box::new(RawClient::APPENDS),
        Box::new(RawClient::TWO_CONNECTIONS),
        Box::new(RawClient::FOUR_CONNECTIONS),
        Box::new(RawClient::UNGROUPED),
        Box::new(Least { at_once: IN_FLIGHT }),
        Box::new(ByHand),
        Box::new(Direct),
        Box::new(DirectTuned),
        Box::new(DirectUnkeyed),
        Box::new(Background),
        Box::new(BackgroundTuned),
        Box::new(RawClient::ONE_BY_ONE),
    ];
    contenders.extend(peers(bench));
    let title = format!("1,024 appends at a time, {} topic", called(durability));
    let mut contest = race(bench, Contest::new(name, title, RATE), durability, contenders).await?;
    let times = if durability == Durability::Persisted { 80.0 } else { 70.0 };
    contest.goals =
        vec![Goal::at_least(0.90, RATE, RAW, &[RAW]), Goal::at_least(times, RATE, ONE_BY_ONE, &[ONE_BY_ONE])];
    if durability == Durability::Persisted {
        let equals = "the best IggyProducer that keeps keys and confirms";
        contest.goals.push(Goal::at_least(1.0, RATE, equals, EQUALS));
        contest.goals.push(Goal::at_least(1.0, RATE, "the best IggyProducer of any kind", ALL));
    }
    contest.goals.push(Goal::at_most(1.2, CPU, RAW, &[RAW]));
    Ok(contest)
}

#[cfg(feature = "peers")]
fn peers(bench: &Bench) -> Option<Box<dyn Producer>> {
    let jetstream = crate::contenders::jetstream::JetStream::find();
    jetstream.filter(|_| bench.args.peers).map(|one| Box::new(one) as Box<dyn Producer>)
}

#[cfg(not(feature = "peers"))]
fn peers(_: &Bench) -> Option<Box<dyn Producer>> {
    None
}

pub(super) async fn batches(bench: &Bench, name: String, durability: Durability) -> Result<Contest, Failure> {
    let contenders: Vec<Box<dyn Producer>> = vec![
        Box::new(Batches { events: BATCH }),
        Box::new(RawClient::BATCHES),
        Box::new(Least { at_once: BATCH }),
        Box::new(RawClient::UNGROUPED),
        Box::new(DirectUnkeyed),
    ];
    let title = format!("Batches of 1,000, one after the other, {} topic", called(durability));
    let mut contest = race(bench, Contest::new(name, title, RATE), durability, contenders).await?;
    contest.goals = vec![Goal::at_least(0.95, RATE, RAW, &[RAW]), Goal::at_most(1.2, CPU, RAW, &[RAW])];
    Ok(contest)
}

async fn race(
    bench: &Bench,
    mut contest: Contest,
    durability: Durability,
    mut contenders: Vec<Box<dyn Producer>>,
) -> Result<Contest, Failure> {
    contenders.retain(|one| bench.args.wants_contender(one.name()));
    contest.rows = contenders.iter().map(|one| Row::new(one.name(), one.what())).collect();
    let rounds = bench.settings.rounds;
    for turn in turns(rounds, contenders.len()) {
        progress(&contest.name, turn, rounds * contenders.len());
        let sample = bounded(round(bench, durability, &*contenders[turn.contender], turn.round)).await;
        let sample = sample.unwrap_or_else(|error| Sample::failed(turn.round, &error));
        contest.rows[turn.contender].samples.push(sample);
    }
    Ok(contest)
}

async fn round(
    bench: &Bench,
    durability: Durability,
    contender: &dyn Producer,
    round: usize,
) -> Result<Sample, Failure> {
    let topic = bench.topic(durability).await?;
    wake(bench, &topic).await?;
    let mut watch = bench.stopwatch();
    let confirmed = contender.produce(bench, &topic, &mut watch).await;
    let confirmed = match confirmed {
        Ok(confirmed) => confirmed,
        Err(error) => {
            bench.remove(&topic).await?;
            return Err(error);
        }
    };
    let rates = rates(&watch, confirmed.len());
    let audit = if contender.is_elsewhere() {
        bench.remove(&topic).await
    } else {
        bench.audit(&topic, &confirmed, contender.keeps_keys()).await
    };
    Ok(Sample::new(round, rates, audit))
}

/// A partition that was never asked anything is not set up yet, which is nobody's cost.
async fn wake(bench: &Bench, topic: &Topic) -> Result<(), Failure> {
    for partition in 0..PARTITIONS {
        bench.raw.poll(topic, partition, 0, 1).await?;
    }
    Ok(())
}

/// What a round comes to: the rate, and the processor time for each event.
pub(super) fn rates(watch: &Stopwatch, events: u64) -> Vec<(&'static str, f64)> {
    let Some(spent) = watch.spent() else { return Vec::new() };
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / events.max(1) as f64;
    vec![
        (RATE, events as f64 / spent.time.as_secs_f64()),
        (CPU, each(spent.cpu)),
        (SERVER_CPU, each(spent.server_cpu)),
    ]
}
