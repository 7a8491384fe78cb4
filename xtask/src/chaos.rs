//! `cargo xtask chaos`: runs with random faults, judged.

use crate::Outcome;
use crate::step::Step;

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    // With optimisations, so that it is the log that is slow, and not its judge.
    let run = ["run", "--release", "--quiet", "--package", "event-log-tests", "--bin", "chaos", "--"];
    let status = Step::cargo("chaos", &run).args(args).status()?;
    Ok(match status {
        0 => Outcome::Passed,
        code => Outcome::Failed(code),
    })
}
