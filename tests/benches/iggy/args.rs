//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// Short rounds and few of them: shows that it works, and the order of magnitude.
    pub(crate) quick: bool,
    /// Contenders that are not on Apache Iggy, where they are installed.
    pub(crate) peers: bool,
    /// Only the scenarios whose names begin like one of these; all of them when it is empty.
    pub(crate) only: Vec<String>,
    /// Only the contenders whose names begin like one of these, in the scenarios of rates: for a profiler.
    pub(crate) contenders: Vec<String>,
    /// Says when the clock starts and stops, for a profiler that keeps the same time (`perf record -k CLOCK_MONOTONIC`).
    pub(crate) marks: bool,
    pub(crate) rounds: Option<usize>,
    pub(crate) seed: u64,
    /// Where the reports go.
    pub(crate) out: PathBuf,
    /// Cargo says so when it runs benchmarks, and not when it runs tests.
    pub(crate) is_bench: bool,
}

/// Cargo gives a folder below the target folder to benchmarks; ours is beside it.
fn default_out() -> PathBuf {
    let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().map_or_else(|| tmp.clone(), |target| target.join("bench"))
}

impl Args {
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;

        let mut parsed = Self {
            quick: false,
            peers: false,
            only: Vec::new(),
            contenders: Vec::new(),
            marks: false,
            rounds: None,
            seed: 1,
            out: default_out(),
            is_bench: false,
        };
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("quick") => parsed.quick = true,
                Long("marks") => parsed.marks = true,
                Long("peers") => parsed.peers = true,
                Long(list @ ("only" | "contenders")) => {
                    let names = if list == "only" { &mut parsed.only } else { &mut parsed.contenders };
                    for name in parser.values()? {
                        names.push(name.string()?);
                    }
                }
                Long("rounds") => parsed.rounds = Some(parser.value()?.parse()?),
                Long("seed") => parsed.seed = parser.value()?.parse()?,
                Long("out") => parsed.out = parser.value()?.into(),
                Long("bench") => parsed.is_bench = true,
                other => return Err(other.unexpected()),
            }
        }
        Ok(parsed)
    }

    /// Whether a scenario is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        is_among(&self.only, name)
    }

    /// Whether a contender is.
    pub(crate) fn wants_contender(&self, name: &str) -> bool {
        is_among(&self.contenders, name)
    }
}

fn is_among(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| name.starts_with(wanted.as_str()))
}
