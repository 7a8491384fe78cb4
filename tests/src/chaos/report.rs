//! The table at the end.

use std::fmt;

use super::check::{Figures, Rule, Verdict};
use super::schedule::Kind;

/// The sum of the verdicts of some runs.
#[derive(Clone, Debug, Default)]
pub struct Report {
    runs: u64,
    sum: Figures,
    lost: u64,
    twice: u64,
    reordered: u64,
    stuck: u64,
    other: u64,
}

/// What is lost, to a producer or to a group.
const LOST: &[Rule] = &[Rule::Confirmed, Rule::Skipped, Rule::Undelivered];
/// What is delivered twice.
const TWICE: &[Rule] = &[Rule::Copy, Rule::CommittedAgain];
/// What is in another order than it was appended or read in.
const REORDERED: &[Rule] = &[Rule::KeyOrder, Rule::CallOrder, Rule::ReadOrder];
/// What waits for ever.
const STUCK: &[Rule] = &[Rule::Stuck];

impl Report {
    /// Adds a run.
    pub fn add(&mut self, verdict: &Verdict) {
        self.runs += 1;
        self.lost += verdict.count(LOST);
        self.twice += verdict.count(TWICE);
        self.reordered += verdict.count(REORDERED);
        self.stuck += verdict.count(STUCK);
        let named = [LOST, TWICE, REORDERED, STUCK].concat();
        self.other += verdict.violations.len() as u64 - verdict.count(&named);
        let (sum, more) = (&mut self.sum, &verdict.figures);
        sum.offered += more.offered;
        sum.confirmed += more.confirmed;
        sum.rejected += more.rejected;
        sum.dropped += more.dropped;
        sum.returned += more.returned;
        sum.unknown = add(sum.unknown, more.unknown);
        sum.abandoned = add(sum.abandoned, more.abandoned);
        sum.told.reconnects += more.told.reconnects;
        sum.told.dropped += more.told.dropped;
        sum.told.found += more.told.found;
        sum.told.sent_again += more.told.sent_again;
        sum.told.unknown += more.told.unknown;
        for (kind, count) in &more.faults {
            *sum.faults.entry(*kind).or_default() += count;
        }
        sum.records += more.records;
        sum.copies += more.copies;
        sum.copies_beyond += more.copies_beyond;
        sum.delivered += more.delivered;
        sum.delivered_again += more.delivered_again;
        sum.longest_stall = sum.longest_stall.max(more.longest_stall);
    }

    /// How many violations there were in all.
    #[must_use]
    pub const fn violations(&self) -> u64 {
        self.lost + self.twice + self.reordered + self.stuck + self.other
    }
}

const fn add(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    (one.0 + other.0, one.1 + other.1)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = &self.sum;
        let faults: u64 = sum.faults.values().sum();
        let mut line = |name: &str, value: u64, more: &str| writeln!(f, "{name:<42} {value:>10}  {more}");
        line("runs", self.runs, "")?;
        line("events offered", sum.offered, "")?;
        line("  confirmed", sum.confirmed, "")?;
        line("  rejected (full), handed back", sum.rejected, "")?;
        line(
            "  dropped by policy, handed back",
            sum.dropped,
            &format!("the handles say {}", sum.told.dropped),
        )?;
        line("  not sent before a crash, handed back", sum.returned, "")?;
        line("  unknown to the producer", sum.unknown.0, &format!("{} in the log", sum.unknown.1))?;
        line("  given up by the producer", sum.abandoned.0, &format!("{} in the log", sum.abandoned.1))?;
        line("faults", faults, "")?;
        for (kind, count) in &sum.faults {
            line(&format!("  {}", name(*kind)), *count, "")?;
        }
        line("reconnections of producers", sum.told.reconnects, "")?;
        let ambiguous = sum.told.found + sum.told.sent_again + sum.told.unknown;
        line("ambiguous outcomes", ambiguous, "events sent and not answered, once per request")?;
        line("  found in the log", sum.told.found, "")?;
        line("  not there, sent again", sum.told.sent_again, "")?;
        line("  given up", sum.told.unknown, "")?;
        line("records in the log", sum.records, "")?;
        line("  second copies among them", sum.copies, "")?;
        line("  delivered, too late to be told", sum.copies_beyond, "")?;
        line("records delivered", sum.delivered, "to three groups")?;
        line("  again, since they were not committed", sum.delivered_again, "")?;
        line("longest time without a confirmation, ms", sum.longest_stall / 1_000, "")?;
        line("LOST", self.lost, "")?;
        line("DELIVERED TWICE", self.twice, "")?;
        line("REORDERED", self.reordered, "")?;
        line("STUCK", self.stuck, "")?;
        line("any other violation", self.other, "")
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Interrupt => "connections cut",
        Kind::Disconnect => "unreachable for a while",
        Kind::CutInFrame => "connection cut within a frame",
        Kind::Delay => "network delayed",
        Kind::Throttle => "network throttled",
        Kind::BlackHole => "black hole one way",
        Kind::HalfOpen => "connections half open",
        Kind::LoseReplies => "reset between request and reply",
        Kind::LoseRequests => "requests lost",
        Kind::HoldRequests => "requests late, behind their repetition",
        Kind::SlowAppends => "appends slow",
        Kind::EmptyFetches => "fetches empty",
        Kind::FailFetches => "fetches failing",
        Kind::StallFetches => "fetches hanging",
        Kind::FailCommits => "commits failing",
        Kind::SkipOffsets => "gap of offsets",
        Kind::KillServer => "server killed (SIGKILL)",
        Kind::EndServer => "server ended (SIGTERM)",
        Kind::PauseServer => "server frozen (SIGSTOP, SIGCONT)",
        Kind::MoveServer => "server ended, back on another port",
        Kind::FillDisk => "disk of the server full",
        Kind::CrashHandle => "producer crashed",
    }
}
