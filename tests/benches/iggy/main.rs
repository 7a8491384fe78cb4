//! How fast the log on Apache Iggy is, beside every other way that a user has: `cargo xtask bench --iggy`.
//!
//! A real server is started. In each scenario the contenders take turns, round by round, on the same server, with topics
//! that are made alike and the same events. A result counts only if an audit finds that what was confirmed is in the log,
//! once, and nothing else. Printed are medians over the rounds, how they are spread, and ratios: each ratio is the median
//! of the ratios of the rounds, since what slows down a round slows down all of it. A goal that is missed is no failure,
//! because machines are noisy; an audit that fails is.
//!
//! What is timed begins when everything that a contender needs is at hand: its connection, its topic, and its events. It
//! ends when the last event is confirmed, or delivered. See [`contenders`] and each of the [`scenarios`].

mod args;
mod audit;
mod bench;
mod contenders;
mod contest;
mod environment;
mod event;
mod numbers;
mod report;
mod scenarios;
mod stats;
mod stopwatch;
mod topic;

use std::process::ExitCode;
use std::sync::Arc;

use event_log_tests::iggy::own_server;

use self::args::Args;
use self::bench::Bench;
use self::contest::Contest;
use self::environment::Environment;
use self::scenarios::Scenario;

/// Why a contender, or the whole run, has come to nothing.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("iggy: {error}");
            return ExitCode::from(2);
        }
    };
    if !args.is_bench {
        // `cargo test --benches` wants to know that it can be built.
        println!("iggy: not run (it is a benchmark: `cargo xtask bench --iggy`)");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Failure::from).and_then(|runtime| {
        // As a task, because the thread that blocks is not one of the runtime's own, and slower to wake.
        runtime.block_on(async { tokio::spawn(run(args)).await? })
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("iggy: a contender has failed, or its audit");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("iggy: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs what is asked for. Whether all audits have passed.
async fn run(args: Args) -> Result<bool, Failure> {
    let scenarios: Vec<_> = Scenario::all().filter(|scenario| args.wants(&scenario.name())).collect();
    if scenarios.is_empty() {
        let names: Vec<_> = Scenario::all().map(Scenario::name).collect();
        return Err(format!("no such scenario: there are {}", names.join(", ")).into());
    }
    // It has announced that there is none.
    let Some(server) = own_server().await else { return Ok(true) };
    let bench = Arc::new(Bench::new(server, args).await?);
    audit::self_check(&bench.raw, &bench.events).await?;
    let environment = Environment::of(&bench);
    println!("{}", environment.lines().join("\n"));
    announce_peers(&bench.args);
    let mut contests: Vec<Contest> = Vec::new();
    for scenario in scenarios {
        let found = scenario.run(&bench).await?;
        found.iter().for_each(report::print);
        contests.extend(found);
        // After each of them: what was measured is not lost when a later one fails.
        report::write(&bench.args.out, &environment, &contests)?;
    }
    report::summary(&contests);
    println!("written: iggy.json and iggy-*.svg in {}", bench.args.out.display());
    bench.server.stop().await?;
    Ok(!contests.iter().any(Contest::has_failed))
}

#[cfg(feature = "peers")]
fn announce_peers(args: &Args) {
    let found = contenders::jetstream::JetStream::find();
    match found {
        _ if !args.peers => {}
        Some(_) => println!("peers: NATS JetStream"),
        None => println!("peers: NATS JetStream: not run (there is no nats-server on PATH)"),
    }
}

#[cfg(not(feature = "peers"))]
fn announce_peers(args: &Args) {
    if args.peers {
        println!(
            "peers: not run (built without the feature `peers`: `cargo xtask bench --peers` switches it on)"
        );
    }
}
