//! Events through a log, with three groups reading along: the whole of the library in one run.
//!
//! ```text
//! lines ──► parse ──► append ──► log ──► firehose        the last lines, live
//!             │                    ├───► notifications   what somebody should look at
//!             └─► malformed:       └───► assessment      turns, tools, errors, tokens per session
//!                 reported, parked
//! ```
//!
//! `cargo run --release -p vibes-events --example pipeline -- --help`

mod args;
mod backend;
mod groups;
mod input;
mod producer;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use event_log_core::{ConsumerOptions, Cursor, EventLog, EventLogExt, RawCodec, RawEvent, SeekPosition};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use vibes_events::StoredOrBare;

use self::args::Args;
use self::backend::Backend;
use self::groups::{Assessment, Firehose, Notifications, follow};
use self::report::{GroupLag, Report};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type EventsLog = Arc<dyn EventLog<StoredOrBare>>;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("pipeline: {problem}\nTry --help.");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(run(&args)) {
        Ok(report) if report.is_whole() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(&*error),
    }
}

/// Says what went wrong, down to its cause.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprint!("pipeline: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprint!(": {error}");
        source = error.source();
    }
    eprintln!();
    ExitCode::from(2)
}

async fn run(args: &Args) -> Result<Report, Failure> {
    let backend = Backend::open(&args.destination).await?;
    let report = through(args, &backend.log).await?;
    backend.close().await?;
    Ok(report)
}

/// Appends everything, and waits until the groups have read it.
async fn through(args: &Args, log: &EventsLog) -> Result<Report, Failure> {
    let parking: Arc<dyn EventLog<RawEvent>> =
        Arc::new(event_log_memory::builder().topic("malformed").partitions(1).codec(RawCodec).open().await?);

    // The groups open before anything is appended, and learn from `end` how far they have to read.
    let (end, ended) = watch::channel(None::<Cursor>);
    let options = ConsumerOptions::starting_at(SeekPosition::FromEnd(100));
    let firehose = log.consumer_with("firehose", options).await?;
    let notifications = log.consumer("notifications").await?;
    let assessment = log.consumer("assessment").await?;
    let firehose = tokio::spawn(follow(firehose, Firehose::default(), ended.clone()));
    let notifications = tokio::spawn(follow(notifications, Notifications::default(), ended.clone()));
    let assessment = tokio::spawn(follow(assessment, Assessment::default(), ended));

    let progress = progress(args);
    let start = Instant::now();
    let produced = producer::run(args, log, &parking, &progress).await?;
    let appended_in = start.elapsed();
    progress.finish_and_clear();
    // Whoever was waiting for the end is told; a group that has failed is found out right below.
    end.send_replace(Some(log.watermarks().await?.high()));

    let (firehose, notifications, assessment) = tokio::join!(firehose, notifications, assessment);
    let (firehose, notifications, assessment) = (firehose??, notifications??, assessment??);
    let elapsed = start.elapsed();
    let mut lags = Vec::new();
    for group in ["firehose", "notifications", "assessment"] {
        lags.push(GroupLag { group, offsets: log.lag(group).await?.total() });
    }
    let dropped = log.state().current().dropped;
    let report =
        Report::new(produced, appended_in, elapsed, dropped, lags, &firehose, notifications, &assessment);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report)
}

/// A bar on a terminal, nothing anywhere else.
fn progress(args: &Args) -> ProgressBar {
    let bar = match args.known_length() {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    if args.json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = if args.known_length().is_some() {
        "{bar:40} {pos}/{len} events  {per_sec}  {eta}"
    } else {
        "{spinner} {pos} events  {per_sec}"
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
