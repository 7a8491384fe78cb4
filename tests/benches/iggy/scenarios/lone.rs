//! How long one append takes, when there is no other: beside one request of the raw client.
//!
//! Both append to the same topic, in small blocks by turns, so that whatever disturbs one disturbs the other. For this
//! library it is the time until `append` returns its receipt, encoding and all; the raw client's message is ready.

use std::time::{Duration, Instant};

use event_log_core::EventLog as _;
use event_log_iggy::Durability;

use crate::Failure;
use crate::bench::{Bench, bounded, called, progress};
use crate::contenders::raw::RAW;
use crate::contest::{Contest, Goal, OURS, Row, Sample, turns};
use crate::numbers::Numbers;
use crate::stats::{histogram, micros, record};

pub(crate) const P50: &str = "p50 µs";
pub(crate) const P99: &str = "p99 µs";
pub(crate) const P999: &str = "p99.9 µs";

/// Samples of one contender before the other has its turn.
const BLOCK: usize = 20;

pub(super) async fn run(bench: &Bench, name: String, durability: Durability) -> Result<Contest, Failure> {
    let title = format!("A lone append, {} topic", called(durability));
    let mut contest = Contest::new(name, title, P50);
    contest.rows = vec![
        Row::new(OURS, "append, a typed event, until its receipt"),
        Row::new(RAW, "one send_messages with one message that is ready"),
    ];
    let rounds = bench.settings.rounds;
    for turn in turns(rounds, 1) {
        progress(&contest.name, turn, rounds);
        let samples = bounded(round(bench, durability, turn.round, &mut contest.rows)).await;
        for (row, sample) in contest.rows.iter_mut().zip(samples?) {
            row.samples.push(sample);
        }
    }
    contest.goals = vec![Goal::at_most(1.10, P50, RAW, &[RAW]), Goal::at_most(1.25, P99, RAW, &[RAW])];
    Ok(contest)
}

async fn round(
    bench: &Bench,
    durability: Durability,
    round: usize,
    rows: &mut [Row],
) -> Result<[Sample; 2], Failure> {
    let topic = bench.topic(durability).await?;
    let log = bench.open(&topic).await?;
    let mut latencies = [histogram(), histogram()];
    let mut appended = Numbers::default();
    let samples = bench.settings.samples as u64;
    // A few of each before it counts: a new topic, new connections.
    for number in 0..2 * BLOCK as u64 {
        drop(log.append(bench.events.event(number)).await?);
        appended.insert(number);
    }
    for turn in turns((samples as usize).div_ceil(BLOCK), 2) {
        for _ in 0..BLOCK {
            let number = appended.len();
            let took = if turn.contender == 0 {
                let event = bench.events.event(number);
                let start = Instant::now();
                let receipt = log.append(event).await?;
                let took = start.elapsed();
                if receipt.is_buffered() {
                    return Err("the connection was lost".into());
                }
                took
            } else {
                let mut message = [bench.events.message(number)?];
                let start = Instant::now();
                bench.raw.send(&topic, bench.events.partition(number), &mut message).await?;
                start.elapsed()
            };
            appended.insert(number);
            record(&mut latencies[turn.contender], took);
        }
    }
    log.close(Duration::from_secs(5)).await.map_err(|_| "events were left over")?;
    let audit = bench.audit(&topic, &appended, true).await.map_err(|error| error.to_string());
    Ok([0, 1].map(|contender| {
        let ours = &latencies[contender];
        let all = rows[contender].latencies.get_or_insert_with(histogram);
        all.add(ours).expect("they have the same digits");
        let audit = audit.clone().map_err(Failure::from);
        Sample::new(round, quantiles(ours), audit)
    }))
}

/// The quantiles of a round.
pub(super) fn quantiles(latencies: &hdrhistogram::Histogram<u64>) -> [(&'static str, f64); 3] {
    [(P50, 0.5), (P99, 0.99), (P999, 0.999)].map(|(name, q)| (name, micros(latencies, q)))
}
