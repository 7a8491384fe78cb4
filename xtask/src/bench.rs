//! `cargo xtask bench`: the benchmarks of the in-memory log.

use crate::Outcome;
use crate::step::Step;

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    Step::cargo("benchmarks", &["bench", "--package", "event-log-memory", "--benches"]).args(args).run()?;
    Ok(Outcome::Passed)
}
