//! `cargo xtask integration`: the suites on a real iggy-server, which is required.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::server::Plan;
use crate::step::{Step, root};
use crate::{Outcome, container, server};

const USAGE: &str = "usage: cargo xtask integration [--server PATH] [-- ARGS FOR THE TESTS]";

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let (explicit, for_tests) = parse(args)?;
    // Before the server: without tests there is no use for one.
    let names = iggy_tests(&root().join("tests").join("tests"))?;
    let plan = Plan::Run(find(explicit.as_deref())?);
    println!("{}", plan.line());

    let mut closing = Vec::new();
    let mut outcome = Outcome::Passed;
    for step in suites(&names) {
        let name = step.name;
        let start = Instant::now();
        let result = plan.apply(step).args(&for_tests).run();
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        closing.push(format!("  {:>5.0} s  {name}: {word}", start.elapsed().as_secs_f64()));
        if let Err(problem) = result {
            // The other suites have something to say too.
            eprintln!("\n{problem}");
            outcome = Outcome::Failed(1);
        }
    }
    println!("\n{}\n{}", plan.line(), closing.join("\n"));
    Ok(outcome)
}

/// The server's path if one is given, and what goes to the tests, with the `--` before it.
fn parse(args: &[String]) -> Result<(Option<PathBuf>, Vec<String>), String> {
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (ours, theirs) = args.split_at(end);
    let explicit = match ours {
        [] => None,
        [flag, path] if flag == "--server" => Some(PathBuf::from(path)),
        _ => return Err(USAGE.to_owned()),
    };
    Ok((explicit, theirs.to_vec()))
}

/// The server on this machine, else the one of the container image.
fn find(explicit: Option<&Path>) -> Result<PathBuf, String> {
    match server::find(explicit) {
        Err(_) if !server::is_named(explicit) && container::has_docker() => container::copy_server(),
        found => found.map_err(|problem| format!("{problem}\n{}", container::by_hand())),
    }
}

fn suites(names: &[String]) -> Vec<Step> {
    let mut across = vec!["test", "--package", "event-log-tests", "--all-features"];
    across.extend(names.iter().flat_map(|name| ["--test", name]));
    vec![
        Step::cargo("event-log-iggy", &["test", "--package", "event-log-iggy", "--all-features"]),
        Step::cargo("event-log-tests on Iggy", &across),
    ]
}

/// The tests in the folder that are about Iggy, by name: `iggy_*.rs`, or a folder `iggy_*` with a `main.rs`, as cargo
/// finds them. A list that is kept by hand forgets some. None at all is an error.
fn iggy_tests(folder: &Path) -> Result<Vec<String>, String> {
    let failed = |error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_test = path.extension().is_some_and(|ext| ext == "rs") || path.join("main.rs").is_file();
        let name = path.file_stem().and_then(|stem| stem.to_str()).filter(|name| name.starts_with("iggy_"));
        names.extend(name.filter(|_| is_test).map(str::to_owned));
    }
    names.sort();
    if names.is_empty() {
        return Err(format!("nothing to run: there is no iggy_*.rs in {}", folder.display()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_found_by_their_names_and_none_is_an_error() {
        let folder = std::env::temp_dir().join(format!("xtask-tests-{}", std::process::id()));
        fs::create_dir_all(folder.join("iggy_end_to_end")).unwrap();
        fs::create_dir_all(folder.join("iggy_support")).unwrap();
        let empty = iggy_tests(&folder);
        for file in ["iggy_crash.rs", "iggy_notes.txt", "model.rs", "iggy_end_to_end/main.rs"] {
            fs::write(folder.join(file), "").unwrap();
        }
        let found = iggy_tests(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert!(empty.unwrap_err().contains("iggy_*.rs"));
        assert_eq!(found.unwrap(), ["iggy_crash", "iggy_end_to_end"]);
        assert!(iggy_tests(&folder).is_err(), "a folder that is not there");
    }

    #[test]
    fn arguments_behind_the_dashes_are_for_the_tests() {
        let parse = |line: &str| parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse(""), Ok((None, vec![])));
        let tests = vec!["--".to_owned(), "--nocapture".to_owned(), "--server".to_owned()];
        assert_eq!(parse("--server x -- --nocapture --server"), Ok((Some("x".into()), tests)));
        assert!(parse("--server").is_err() && parse("x").is_err());
    }
}
