//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use event_log_tests::chaos::Kind;
use lexopt::prelude::*;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as Unknown, StrDeserializer};

pub(crate) const HELP: &str = "\
Appends and reads events from many sides at once, while connections, requests and servers
fail, and says at the end whether the log has kept what it promises.

usage: cargo xtask chaos [OPTIONS]

  --backend NAME   memory or iggy (default: iggy)
  --seed N         the first seed (default: 1). In memory a seed decides everything; on a
                   server it decides the calls and the faults
  --seeds N        how many, one after the other (default: 1)
  --events N       events of each run (default: 50000)
  --faults N       faults of each run (default: 10)
  --only KIND      only faults of this kind, by its name in the histories, such as FillDisk
  --keep           write the history of every run, not only of those with violations
  --folder PATH    where to (default: target/chaos)
  --soak SECONDS   instead: the same work at full rate, with a fault every five seconds, on a
                   server; says whether memory, files or tasks grow, and plots them
                   (its disk is not filled: a small one would not do for so much)
  --judge FILE     judge a history again, and do nothing else
  -h, --help       this text

exit status: 0  nothing was violated
             1  something was; the seeds and their histories are named
             2  nothing could be run
";

/// What to do.
#[derive(Debug)]
pub(crate) enum Task {
    Run(Args),
    Soak(Args, Duration),
    Judge(PathBuf),
}

/// What the runs depend on.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) backend: Backend,
    pub(crate) seed: u64,
    pub(crate) seeds: u64,
    pub(crate) events: u64,
    pub(crate) faults: u32,
    pub(crate) only: Option<Kind>,
    pub(crate) keep: bool,
    pub(crate) folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Memory,
    Iggy,
}

impl Backend {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Iggy => "iggy",
        }
    }
}

/// `None` asks for the help.
pub(crate) fn parse() -> Result<Option<Task>, lexopt::Error> {
    let mut args = Args {
        backend: Backend::Iggy,
        seed: 1,
        seeds: 1,
        events: 50_000,
        faults: 10,
        only: None,
        keep: false,
        folder: PathBuf::from("target/chaos"),
    };
    let mut soak = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("backend") => {
                args.backend = parser.value()?.parse_with(|name| match name {
                    "memory" => Ok(Backend::Memory),
                    "iggy" => Ok(Backend::Iggy),
                    _ => Err("memory or iggy"),
                })?;
            }
            Long("seed") => args.seed = parser.value()?.parse()?,
            Long("seeds") => args.seeds = parser.value()?.parse::<u64>()?.max(1),
            Long("events") => args.events = parser.value()?.parse()?,
            Long("faults") => args.faults = parser.value()?.parse()?,
            Long("soak") => soak = Some(Duration::from_secs(parser.value()?.parse()?)),
            Long("only") => {
                let kind = parser.value()?.parse_with(|name| {
                    let name: StrDeserializer<'_, Unknown> = name.into_deserializer();
                    Kind::deserialize(name)
                })?;
                args.only = Some(kind);
            }
            Long("keep") => args.keep = true,
            Long("folder") => args.folder = parser.value()?.into(),
            Long("judge") => return Ok(Some(Task::Judge(parser.value()?.into()))),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(match soak {
        Some(length) => Task::Soak(args, length),
        None => Task::Run(args),
    }))
}
