//! `cargo xtask ci`: what a change has to pass.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::server::Plan;
use crate::step::{Step, root};

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    if !args.is_empty() {
        return Err("usage: cargo xtask ci".to_owned());
    }
    let plan = Plan::from_env()?;
    let outcome = run_all(&plan)?;
    println!("{}", plan.line());
    Ok(outcome)
}

fn run_all(plan: &Plan) -> Result<Outcome, String> {
    let mut not_run = None;
    let mut steps: Vec<(&str, Duration)> = Vec::new();
    for step in steps_of_cargo(plan) {
        let name = step.name;
        match step.run() {
            Ok(took) => steps.push((name, took)),
            Err(problem) => {
                eprintln!("\n{problem}");
                return Ok(Outcome::Failed(1));
            }
        }
    }
    let start = Instant::now();
    let problems: Vec<String> = [stray_dependencies()?, unfinished()?].concat();
    if !problems.is_empty() {
        eprintln!("\n{}", problems.join("\n"));
        return Ok(Outcome::Failed(1));
    }
    steps.push(("dependencies and unfinished marks", start.elapsed()));
    if has_cargo_deny() {
        match Step::cargo("cargo-deny", &["deny", "check"]).run() {
            Ok(took) => steps.push(("cargo-deny", took)),
            Err(problem) => {
                eprintln!("\n{problem}");
                return Ok(Outcome::Failed(1));
            }
        }
    } else {
        not_run = Some("cargo-deny: not run (it is not installed: cargo install cargo-deny)");
    }
    println!("\nall passed:");
    for (name, took) in steps {
        println!("  {:>5.0} s  {name}", took.as_secs_f64());
    }
    if let Some(line) = not_run {
        println!("{line}");
    }
    Ok(Outcome::Passed)
}

fn steps_of_cargo(plan: &Plan) -> Vec<Step> {
    vec![
        Step::cargo("format", &["fmt", "--all", "--check"]),
        // They are in a workspace of their own. What they run is in `event-log-tests`.
        Step::cargo(
            "format of the fuzz targets",
            &["fmt", "--manifest-path", "tests/fuzz/Cargo.toml", "--check"],
        ),
        Step::cargo(
            "lints",
            &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
        ),
        // As a user gets them, without what other members of the workspace switch on.
        Step::cargo("core alone", &["test", "--package", "event-log-core", "--no-default-features"]),
        Step::cargo("memory alone", &["check", "--package", "event-log-memory"]),
        // Those on a real server are among them.
        plan.apply(Step::cargo("tests", &["test", "--workspace", "--all-features"])),
        Step::cargo("documentation", &["doc", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "-D warnings"),
        Step::cargo(
            "the example",
            &["run", "--package", "vibes-events", "--example", "pipeline", "--", "--json"],
        ),
    ]
}

/// What a user of the in-memory log must not have to build.
const UNWANTED: &[&str] =
    &["iggy", "rustls", "native-tls", "openssl", "ring", "aws-lc-rs", "hyper", "reqwest", "h2", "quinn"];

/// The arrows between the crates: who depends on what.
fn stray_dependencies() -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    let members = ["event-log-memory", "event-log-iggy", "vibes-events", "event-log-tests", "xtask"];
    for (package, banned) in
        [("event-log-memory", UNWANTED), ("event-log-core", UNWANTED), ("event-log-core", &members)]
    {
        let tree = ["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--all-features"];
        let tree = Step::cargo("cargo tree", &tree).output()?;
        let names = tree.lines().filter_map(|line| line.split_whitespace().next());
        for name in names.filter(|name| banned.contains(name)) {
            problems.push(format!("{package} depends on {name}"));
        }
    }
    problems.dedup();
    Ok(problems)
}

/// Marks of unfinished work in the sources that git tracks.
fn unfinished() -> Result<Vec<String>, String> {
    // Put together here, so that this file does not find itself.
    let marks = [
        concat!("#[", "ignore"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
    ];
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output();
    let listed = listed.map_err(|error| format!("git: {error}"))?;
    let mut problems = Vec::new();
    for file in String::from_utf8_lossy(&listed.stdout).lines() {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        for (line, number) in text.lines().zip(1..) {
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                problems.push(format!("{file}:{number}: {mark} has no place in finished work"));
            }
        }
    }
    Ok(problems)
}

fn has_cargo_deny() -> bool {
    Command::new("cargo-deny").arg("--version").output().is_ok_and(|output| output.status.success())
}
