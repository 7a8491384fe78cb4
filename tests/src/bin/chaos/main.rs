//! `cargo xtask chaos`: runs with random faults, judged, and a table.

mod args;
mod soak;

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use event_log_tests::chaos::{
    History, IggySite, Progress, Report, Settings, Verdict, check, run, run_in_memory,
};
use event_log_tests::iggy::DiskServer;
use indicatif::{ProgressBar, ProgressStyle};

use self::args::{Args, Backend, Task};

/// How many violations of a run are shown. All of them are in the history.
const SHOWN: usize = 10;

/// The disk of the server: small, because it is filled, and in memory.
const DISK: u64 = 256 << 20;

fn main() -> ExitCode {
    let task = match args::parse() {
        Ok(Some(task)) => task,
        Ok(None) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("chaos: {error}\n\n{}", args::HELP);
            return ExitCode::from(2);
        }
    };
    let violations = match task {
        Task::Run(args) => run_all(&args),
        Task::Soak(args, length) => soak::run(&args, length),
        Task::Judge(file) => judge(&file),
    };
    match violations {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("chaos: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Judges a history that a run has left.
fn judge(file: &Path) -> Result<u64, String> {
    let open = File::open(file).and_then(|file| History::read(BufReader::new(file)));
    let history = open.map_err(|error| format!("{}: {error}", file.display()))?;
    let verdict = check(&history);
    let mut report = Report::default();
    report.add(&verdict);
    show(&verdict);
    print!("{report}");
    Ok(report.violations())
}

fn run_all(args: &Args) -> Result<u64, String> {
    let began = Instant::now();
    let bar = progress_bar(args);
    let mut report = Report::default();
    let mut broken = Vec::new();
    let mut server = Server::start(args)?;
    for seed in args.seed..args.seed + args.seeds {
        let mut settings = Settings::new(seed, args.events, args.faults);
        settings.only = args.only;
        let history = server.run(&settings, &bar)?;
        let verdict = check(&history);
        if args.only.is_some() && verdict.figures.faults.is_empty() {
            return Err("not run: this fault cannot be had here".to_owned());
        }
        report.add(&verdict);
        if bar.is_hidden() && args.backend == Backend::Iggy {
            // Nobody sees the bar: whoever reads this in a file wants to know how far it has come.
            let (took, count) = (began.elapsed().as_secs_f64(), verdict.violations.len());
            println!("seed {seed}: {count} violations, after {took:.0} s");
        }
        if args.keep || !verdict.violations.is_empty() {
            let file = args.folder.join(format!("{}-{seed}.jsonl", args.backend.name()));
            write(&history, &file)?;
            if !verdict.violations.is_empty() {
                bar.suspend(|| {
                    println!(
                        "seed {seed}: {} violations; its history is {}",
                        verdict.violations.len(),
                        file.display()
                    );
                    show(&verdict);
                });
                broken.push(seed);
            }
        }
    }
    bar.finish_and_clear();
    println!(
        "{} · seeds {} to {} · {} events and {} faults each · {:.0} s",
        server.name(),
        args.seed,
        args.seed + args.seeds - 1,
        args.events,
        args.faults,
        began.elapsed().as_secs_f64()
    );
    print!("{report}");
    for seed in broken {
        let (events, faults, backend) = (args.events, args.faults, args.backend.name());
        let only = args.only.map_or_else(String::new, |kind| format!(" --only {kind:?}"));
        println!(
            "again: cargo xtask chaos --seed {seed} --events {events} --faults {faults} --backend {backend}{only}"
        );
    }
    Ok(report.violations())
}

fn show(verdict: &Verdict) {
    for violation in verdict.violations.iter().take(SHOWN) {
        println!("  {violation}");
    }
    if verdict.violations.len() > SHOWN {
        println!("  and {} more", verdict.violations.len() - SHOWN);
    }
}

fn write(history: &History, file: &Path) -> Result<(), String> {
    let write = || {
        fs::create_dir_all(file.parent().unwrap_or(file))?;
        history.write(BufWriter::new(File::create(file)?))
    };
    write().map_err(|error| format!("{}: {error}", file.display()))
}

fn progress_bar(args: &Args) -> ProgressBar {
    let bar = ProgressBar::new(args.events * args.seeds);
    let style = "{bar:30} {human_pos} of {human_len} events · {msg} · {elapsed}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Where the runs take place.
enum Server {
    Memory,
    /// One server for all runs, each with a stream to itself; if its disk is a small one, one for each run.
    Iggy(tokio::runtime::Runtime, Arc<DiskServer>),
}

impl Server {
    fn start(args: &Args) -> Result<Self, String> {
        match args.backend {
            Backend::Memory => Ok(Self::Memory),
            Backend::Iggy => {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
                let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
                let server =
                    runtime.block_on(DiskServer::start(DISK)).ok_or("not run: there is no iggy-server")?;
                Ok(Self::Iggy(runtime, Arc::new(server)))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Memory => "in memory".to_owned(),
            Self::Iggy(_, own) => format!("iggy-server {}", own.server.version()),
        }
    }

    fn run(&mut self, settings: &Settings, bar: &ProgressBar) -> Result<History, String> {
        let (progress, before) = (Arc::new(Progress::default()), bar.position());
        let (watched, shown, seed) = (Arc::clone(&progress), bar.clone(), settings.seed);
        let show = move || {
            shown.set_position(before + watched.offered.load(Ordering::Relaxed));
            shown.set_message(format!("seed {seed}, fault {}", watched.struck.load(Ordering::Relaxed)));
        };
        match self {
            Self::Memory => {
                let history = run_in_memory(settings, &progress);
                show();
                Ok(history)
            }
            Self::Iggy(runtime, server) => runtime.block_on(async {
                if server.is_used_up() {
                    *server = Arc::new(DiskServer::start(DISK).await.ok_or("the iggy-server has gone")?);
                }
                let site = Arc::new(IggySite::new(Arc::clone(server), settings).await);
                let mut running = std::pin::pin!(run(site, settings, &progress));
                loop {
                    tokio::select! {
                        biased;
                        history = &mut running => return Ok(history),
                        () = tokio::time::sleep(Duration::from_millis(200)) => show(),
                    }
                }
            }),
        }
    }
}
