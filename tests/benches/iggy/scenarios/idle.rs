//! What waiting costs: 64 consumers that have nothing to read.

use std::time::{Duration, Instant};

use event_log_core::{EventConsumer as _, EventLogExt as _};
use event_log_iggy::{Durability, IggyLog};

use crate::Failure;
use crate::bench::Bench;
use crate::contest::{Contest, Goal, OURS, Row, Sample};
use crate::event::Event;
use crate::stopwatch::{Stopwatch, own_cpu};

const CORE: &str = "% of a core";
const SERVER_CORE: &str = "server % of a core";

const CONSUMERS: usize = 64;

/// Opening is not waiting.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) async fn run(bench: &Bench, name: String) -> Result<Contest, Failure> {
    let mut contest = Contest::new(name, format!("{CONSUMERS} idle consumers together"), CORE);
    let mut nobody = Row::new("nobody", "the process with an open log and no consumer");
    let mut ours = Row::new(OURS, "64 consumers, each of a group of its own, in a poll that finds nothing");
    let topic = bench.topic(Durability::Replicated).await?;
    let log = bench.open(&topic).await?;
    for round in 0..2 {
        nobody.samples.push(waited(bench, round).await);
    }
    let opening = (0..CONSUMERS).map(|nth| open(log.clone(), format!("group-{nth}")));
    let waiting = futures::future::try_join_all(opening).await?;
    for round in 0..2 {
        ours.samples.push(waited(bench, round).await);
    }
    let is_waiting = waiting.iter().all(|task| !task.is_finished());
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    if !is_waiting {
        return Err("a consumer has stopped waiting".into());
    }
    drop(log);
    bench.remove(&topic).await?;
    contest.rows = vec![ours, nobody];
    contest.goals = vec![Goal::at_most(2.0, CORE, "", &[])];
    Ok(contest)
}

async fn open(log: IggyLog<Event>, group: String) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let mut consumer = log.consumer(&group).await?;
    Ok(tokio::spawn(async move {
        // It ends when there is something after all, or an error.
        while consumer.poll(10, Duration::from_secs(60)).await.is_ok_and(|batch| batch.is_empty()) {}
    }))
}

async fn waited(bench: &Bench, round: usize) -> Sample {
    tokio::time::sleep(SETTLE).await;
    let mut watch = Stopwatch::new(bench.settings.idle, bench.server.pid(), bench.args.marks);
    let (before, start) = (own_cpu(), Instant::now());
    watch.start();
    tokio::time::sleep(watch.window()).await;
    watch.stop();
    let took = start.elapsed().as_secs_f64();
    let ours = (own_cpu() - before).as_secs_f64();
    let server = watch.spent().map_or(0.0, |spent| spent.server_cpu.as_secs_f64());
    Sample::new(round, [(CORE, ours / took * 100.0), (SERVER_CORE, server / took * 100.0)], Ok(()))
}
