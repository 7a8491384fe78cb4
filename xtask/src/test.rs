//! `cargo xtask test`: every test, those on a real iggy-server included if there is one.

use crate::Outcome;
use crate::server::Plan;
use crate::step::Step;

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let plan = Plan::from_env()?;
    // The tests on the server are among those of the workspace: one run is enough.
    let step = plan.apply(Step::cargo("tests", &["test", "--workspace", "--all-features"])).args(args);
    let outcome = match step.run() {
        Ok(took) => {
            println!("\ntests: passed in {:.0} s", took.as_secs_f64());
            Outcome::Passed
        }
        Err(problem) => {
            eprintln!("\n{problem}");
            Outcome::Failed(1)
        }
    };
    println!("{}", plan.line());
    Ok(outcome)
}
