//! `cargo xtask`: runs everything there is to run in this workspace. One file per command.

mod bench;
mod chaos;
mod ci;
mod container;
mod fuzz;
mod integration;
mod mutants;
mod server;
mod step;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND [ARGS]

  test         every test and documentation test, on a real iggy-server too if there is one;
               ARGS go to `cargo test`
  integration  the suites on a real iggy-server, which is required [--server PATH] [-- ARGS]:
               the one named, else the one on PATH, else a copy out of the container image
  chaos        random work under random faults, judged: see `cargo xtask chaos --help`
  bench        the benchmarks, in memory and on a real iggy-server if there is one
               [--memory | --iggy] [--quick] [--rounds N] [--seed N] [--peers] [--only NAME…] [-- ARGS]:
               --only names scenarios on the server, --peers adds NATS JetStream where there is a
               nats-server; ARGS go to the benchmarks in memory
  fuzz         libFuzzer on the decoding of records, cursors, URLs, events and frames: each for ten
               minutes, one after the other [TARGET]... [--seconds N]
  mutants      small bugs in the engine and the log in memory, one at a time, for the tests to notice
               [--sample N] [--seed N] [--from N] [-- ARGS]: needs cargo-mutants, which gets ARGS, and cargo-nextest
  ci           what a change has to pass: format, lints, tests, docs, dependencies, the example

environment:
  EVENT_LOG_IGGY   required | auto (default) | off: whether, for test, bench and ci, a missing
                   iggy-server is a failure, is announced, or is not looked for
  IGGY_SERVER_BIN  the iggy-server to use, when it is not on PATH
";

/// What a command came to.
enum Outcome {
    Passed,
    /// With the exit code.
    Failed(u8),
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next();
    let args: Vec<String> = args.collect();
    // A command that has a help of its own shows it.
    let has_own_help = command.as_deref() == Some("chaos");
    if !has_own_help && args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let outcome = match command.as_deref() {
        Some("test") => test::run(&args),
        Some("integration") => integration::run(&args),
        Some("chaos") => chaos::run(&args),
        Some("bench") => bench::run(&args),
        Some("fuzz") => fuzz::run(&args),
        Some("mutants") => mutants::run(&args),
        Some("ci") => ci::run(&args),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(Outcome::Passed)
        }
        Some(other) => Err(format!("there is no command {other:?}\n\n{HELP}")),
    };
    match outcome {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed(code)) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::from(2)
        }
    }
}
