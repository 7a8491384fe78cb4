//! `cargo xtask bench`: the benchmarks of the log in memory, and those on a real iggy-server, beside other ways to do it.

use crate::Outcome;
use crate::server::Plan;
use crate::step::Step;

const USAGE: &str = "usage: cargo xtask bench [--memory | --iggy] [--quick] [--rounds N] [--seed N] [--peers] \
    [--only NAME…] [--contenders NAME…] [-- ARGS FOR THE BENCHMARKS IN MEMORY]";

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let wanted = Wanted::parse(args)?;
    // Before anything runs, so that a missing server is not found out after minutes.
    let plan = if wanted.iggy { Some(Plan::from_env()?) } else { None };
    if let (Some(Plan::NotRun(why)), false) = (&plan, wanted.memory) {
        return Err(format!("the benchmarks on Apache Iggy: not run ({why})"));
    }
    let mut outcome = Outcome::Passed;
    if wanted.memory {
        let step = Step::cargo("in memory", &["bench", "--package", "event-log-memory", "--benches"]);
        step.args(&wanted.memory_args()).run()?;
    }
    if let Some(plan @ Plan::Run(_)) = &plan {
        let step =
            Step::cargo("on Apache Iggy", &["bench", "--package", "event-log-tests", "--bench", "iggy"]);
        if let Err(problem) = plan.apply(step).args(&wanted.iggy_args()).run() {
            eprintln!("\n{problem}");
            outcome = Outcome::Failed(1);
        }
    }
    if let Some(plan) = plan {
        println!("{}", plan.line());
    }
    Ok(outcome)
}

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    memory: bool,
    iggy: bool,
    quick: bool,
    peers: bool,
    /// Handed on as they are: `--only`, `--contenders`, `--rounds`, `--seed`.
    for_iggy: Vec<String>,
    for_memory: Vec<String>,
}

impl Wanted {
    fn parse(args: &[String]) -> Result<Self, String> {
        let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
        let (ours, theirs) = args.split_at(end);
        let mut wanted = Self { for_memory: theirs.iter().skip(1).cloned().collect(), ..Self::default() };
        let mut ours = ours.iter().peekable();
        while let Some(arg) = ours.next() {
            match arg.as_str() {
                "--memory" => wanted.memory = true,
                "--iggy" => wanted.iggy = true,
                "--quick" => wanted.quick = true,
                "--peers" => wanted.peers = true,
                "--only" | "--contenders" | "--rounds" | "--seed" => {
                    wanted.for_iggy.push(arg.clone());
                    let before = wanted.for_iggy.len();
                    while let Some(value) = ours.next_if(|next| !next.starts_with("--")) {
                        wanted.for_iggy.push(value.clone());
                    }
                    if wanted.for_iggy.len() == before {
                        return Err(format!("{arg} needs a value\n{USAGE}"));
                    }
                }
                _ => return Err(USAGE.to_owned()),
            }
        }
        if !wanted.memory && !wanted.iggy {
            wanted.iggy = true;
            // What is named, or counted in rounds, is on Apache Iggy.
            wanted.memory = wanted.for_iggy.is_empty() && !wanted.peers;
        }
        Ok(wanted)
    }

    fn memory_args(&self) -> Vec<String> {
        let mut args = vec!["--".to_owned()];
        args.extend(self.quick.then(|| "--quick".to_owned()));
        args.extend(self.for_memory.iter().cloned());
        args
    }

    fn iggy_args(&self) -> Vec<String> {
        let mut args = Vec::new();
        if self.peers {
            args.extend(["--features", "peers", "--", "--peers"].map(str::to_owned));
        } else {
            args.push("--".to_owned());
        }
        args.extend(self.quick.then(|| "--quick".to_owned()));
        args.extend(self.for_iggy.iter().cloned());
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Wanted, String> {
        Wanted::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_a_word_both_are_run_and_a_name_means_the_server() {
        for (line, both) in [("", (true, true)), ("--quick", (true, true)), ("--memory", (true, false))] {
            let wanted = parse(line).unwrap();
            assert_eq!((wanted.memory, wanted.iggy), both, "{line}");
        }
        for line in ["--iggy", "--only lone backlog", "--peers", "--rounds 3 --quick"] {
            let wanted = parse(line).unwrap();
            assert_eq!((wanted.memory, wanted.iggy), (false, true), "{line}");
        }
        for line in ["appends", "--rounds", "--only --quick"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn each_half_gets_its_arguments() {
        let wanted = parse("--iggy --memory --quick --peers --only lone idle --rounds 2 -- reading").unwrap();
        assert_eq!(wanted.memory_args(), ["--", "--quick", "reading"]);
        let iggy = "--features peers -- --peers --quick --only lone idle --rounds 2";
        assert_eq!(wanted.iggy_args().join(" "), iggy);
    }
}
