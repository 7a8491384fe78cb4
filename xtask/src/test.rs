//! `cargo xtask test`: every test that needs no server.

use crate::step::Step;
use crate::{Outcome, server};

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    // First, so that a bad setting is not found out after minutes of tests.
    let announcement = server::announcement()?;
    let step = Step::cargo("tests", &["test", "--workspace", "--all-features"]).args(args);
    match step.run() {
        Ok(took) => {
            println!("\ntests: passed in {:.0} s", took.as_secs_f64());
            println!("{announcement}");
            Ok(Outcome::Passed)
        }
        Err(problem) => {
            eprintln!("\n{problem}");
            println!("{announcement}");
            Ok(Outcome::Failed(1))
        }
    }
}
