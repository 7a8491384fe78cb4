//! `cargo xtask fuzz`: lets libFuzzer look for bytes that decoding cannot take.
//!
//! Without cargo-fuzz, which does not have much to do here: the flags with which the compiler tells libFuzzer what it has
//! reached are stable, so that the toolchain that everything else needs is enough. What cargo-fuzz adds are sanitizers,
//! which look for the mistakes of unsafe code; there is none here.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::step::{Step, root, target_folder};

const USAGE: &str = "usage: cargo xtask fuzz [TARGET]... [--seconds N]";

/// How long each target runs when nobody says otherwise.
const SECONDS: u64 = 600;

/// What is counted, what is compared with what, and how deep the stack gets; and assertions, as in tests.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];

/// As [`FLAGS`], where libFuzzer can make use of it.
const LINUX_FLAG: &str = "-Cllvm-args=-sanitizer-coverage-stack-depth";

/// Seeds that are kept elsewhere, as `event_log_tests::fuzz::TARGETS` has them.
const MORE_SEEDS: &[(&str, &str)] = &[("envelope", "vibes-events/golden")];

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let folder = root().join("tests").join("fuzz");
    let (names, seconds) = parse(args, &targets(&folder.join("targets"))?)?;
    require_compiler()?;
    let host = host()?;
    let runner = Runner { binaries: build(&folder, &host)?, folder, seconds };
    let mut reports = Vec::new();
    for name in &names {
        // What one of them finds says nothing of the others.
        reports.push(runner.fuzz(name)?);
    }
    println!("\n{}", table(&reports));
    let mut outcome = Outcome::Passed;
    for report in &reports {
        if let Some(problem) = report.problem() {
            eprintln!("\n{problem}");
            outcome = Outcome::Failed(1);
        }
    }
    Ok(outcome)
}

/// The targets in the folder, by the names of their files. None at all is an error.
fn targets(folder: &Path) -> Result<Vec<String>, String> {
    let mut names: Vec<_> = files(folder)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(format!("nothing to run: there is no target in {}", folder.display()));
    }
    Ok(names)
}

/// The targets to run, all if none is named, and for how many seconds each.
fn parse(args: &[String], targets: &[String]) -> Result<(Vec<String>, u64), String> {
    let (mut names, mut seconds) = (Vec::new(), SECONDS);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--seconds" {
            let number = args.next().and_then(|number| number.parse().ok()).filter(|&number| number > 0);
            seconds = number.ok_or(USAGE)?;
        } else if targets.contains(arg) {
            names.push(arg.clone());
        } else {
            return Err(format!("there is no target {arg:?}, but {}\n{USAGE}", targets.join(", ")));
        }
    }
    Ok((if names.is_empty() { targets.to_vec() } else { names }, seconds))
}

/// libFuzzer comes as C++.
fn require_compiler() -> Result<(), String> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let answer = Command::new(&compiler).arg("--version").output();
    if answer.is_ok_and(|answer| answer.status.success()) {
        return Ok(());
    }
    Err(format!(
        "nothing was fuzzed: libFuzzer has to be built, and {} is no C++ compiler that runs here.\n\
         Install one (the package g++ or clang; on macOS `xcode-select --install`), or name it in CXX.",
        compiler.to_string_lossy()
    ))
}

/// The triple of this machine. With a triple named, what runs while compiling is left as it is.
fn host() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().map_err(|error| format!("rustc: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say which machine this is")?;
    if host.contains("windows") {
        return Err(format!("nothing was fuzzed: this is not made for {host}, but for Linux and macOS"));
    }
    Ok(host.to_owned())
}

/// Builds all targets and returns the folder that they are in.
fn build(folder: &Path, host: &str) -> Result<PathBuf, String> {
    let mut flags = FLAGS.join(" ");
    if host.contains("linux") {
        flags = format!("{flags} {LINUX_FLAG}");
    }
    let target_folder = target_folder().join("fuzz");
    let manifest = folder.join("Cargo.toml").to_string_lossy().into_owned();
    let built = target_folder.to_string_lossy().into_owned();
    let args = ["build", "--release", "--manifest-path", &manifest, "--target", host, "--target-dir", &built];
    Step::cargo("fuzz targets", &args).env("RUSTFLAGS", flags).run()?;
    Ok(target_folder.join(host).join("release"))
}

struct Runner {
    folder: PathBuf,
    binaries: PathBuf,
    seconds: u64,
}

#[derive(Debug, Default)]
struct Report {
    name: String,
    runs: u64,
    took: Duration,
    /// Edges of the program that some input has reached.
    coverage: u64,
    /// The inputs that did not end well.
    crashes: Vec<PathBuf>,
    succeeded: bool,
}

impl Runner {
    fn fuzz(&self, name: &str) -> Result<Report, String> {
        let make = |kind: &str| {
            let folder = target_folder().join("fuzz").join(kind).join(name);
            fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            Ok::<_, String>(folder)
        };
        let (corpus, artifacts) = (make("corpus")?, make("artifacts")?);
        let before: BTreeSet<_> = files(&artifacts)?.into_iter().collect();
        let mut command = Command::new(self.binaries.join(name));
        // What is new goes into the first folder, and stays there for the next run.
        command.arg(corpus).args(self.seeds(name)).args(self.options(name, &artifacts));
        println!("\n=== fuzz {name}: {} s", self.seconds);
        let mut report = observe(command)?;
        report.name = name.to_owned();
        report.crashes = files(&artifacts)?.into_iter().filter(|path| !before.contains(path)).collect();
        Ok(report)
    }

    fn seeds(&self, name: &str) -> Vec<PathBuf> {
        let ours = ["seeds", "regressions"].map(|kind| self.folder.join(kind).join(name));
        let more = MORE_SEEDS.iter().filter(|(target, _)| *target == name).map(|(_, path)| root().join(path));
        ours.into_iter().chain(more).filter(|folder| folder.is_dir()).collect()
    }

    fn options(&self, name: &str, artifacts: &Path) -> Vec<String> {
        let mut options = vec![
            format!("-max_total_time={}", self.seconds),
            format!("-artifact_prefix={}/", artifacts.display()),
            "-print_final_stats=1".to_owned(),
            // Seconds for one input, and the most memory: more is a finding too.
            "-timeout=20".to_owned(),
            "-rss_limit_mb=2048".to_owned(),
        ];
        let dictionary = self.folder.join("dictionaries").join(format!("{name}.dict"));
        if dictionary.is_file() {
            options.push(format!("-dict={}", dictionary.display()));
        }
        options
    }
}

/// Runs a target, passes on what it prints, and takes from it what goes into the report.
fn observe(mut command: Command) -> Result<Report, String> {
    let start = Instant::now();
    let failed = |error| format!("the target does not run: {error}");
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(failed)?;
    let mut report = Report::default();
    for line in BufReader::new(child.stderr.take().ok_or("a pipe was asked for")?).split(b'\n') {
        let line = line.map_err(failed)?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        report.hear(&line);
    }
    report.succeeded = child.wait().map_err(failed)?.success();
    report.took = start.elapsed();
    Ok(report)
}

impl Report {
    /// Takes in a line of libFuzzer's.
    fn hear(&mut self, line: &str) {
        let number_after = |word: &str| {
            let rest = line.split_once(word)?.1.trim_start();
            rest.split_whitespace().next()?.parse().ok()
        };
        if line.starts_with('#') {
            self.coverage = number_after("cov:").unwrap_or(self.coverage);
        }
        self.runs = number_after("stat::number_of_executed_units:").unwrap_or(self.runs);
    }

    /// What keeps the target from having passed.
    fn problem(&self) -> Option<String> {
        let name = &self.name;
        if !self.crashes.is_empty() {
            let inputs: Vec<_> = self.crashes.iter().map(|path| format!("  {}", path.display())).collect();
            return Some(format!(
                "{name}: FAILED. The inputs are\n{}\nKeep each in tests/fuzz/regressions/{name}, so that \
                 `cargo xtask test` runs it from now on.",
                inputs.join("\n")
            ));
        }
        match (self.succeeded, self.runs) {
            (true, 1..) => None,
            (true, 0) => Some(format!("{name}: NOT RUN: libFuzzer has ended without a single run")),
            (false, _) => Some(format!("{name}: FAILED, and libFuzzer has left no input")),
        }
    }
}

fn table(reports: &[Report]) -> String {
    let mut lines = vec![format!(
        "{:<12}{:>14}{:>10}{:>10}{:>10}{:>9}",
        "target", "runs", "seconds", "runs/s", "coverage", "crashes"
    )];
    for report in reports {
        let seconds = report.took.as_secs();
        lines.push(format!(
            "{:<12}{:>14}{seconds:>10}{:>10}{:>10}{:>9}",
            report.name,
            report.runs,
            report.runs / seconds.max(1),
            report.coverage,
            report.crashes.len()
        ));
    }
    lines.join("\n")
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("{}: {error}", folder.display());
    fs::read_dir(folder).map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_known_by_their_files() {
        let names = targets(&root().join("tests").join("fuzz").join("targets")).unwrap();
        assert!(names.contains(&"urls".to_owned()), "{names:?}");
        for (name, seeds) in MORE_SEEDS {
            assert!(names.iter().any(|known| known == name) && root().join(seeds).is_dir(), "{name}");
        }
        assert!(targets(&root().join("tests").join("fuzz")).unwrap_err().contains("nothing to run"));
    }

    #[test]
    fn targets_and_seconds_are_chosen() {
        let known = ["records".to_owned(), "urls".to_owned()];
        let parse = |line: &str| {
            let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            parse(&args, &known)
        };
        assert_eq!(parse(""), Ok((known.to_vec(), SECONDS)));
        assert_eq!(parse("urls --seconds 5"), Ok((vec!["urls".to_owned()], 5)));
        for wrong in ["--seconds", "--seconds 0", "--seconds soon", "url"] {
            assert!(parse(wrong).unwrap_err().contains(USAGE), "{wrong}");
        }
    }

    #[test]
    fn only_a_run_without_a_crash_has_passed() {
        let mut report = Report { name: "urls".to_owned(), succeeded: true, ..Report::default() };
        assert!(report.problem().unwrap().contains("NOT RUN"));
        for line in [
            "#8192\tpulse  cov: 7110 ft: 20 corp: 9/1Kb lim: 17 exec/s: 4096 rss: 60Mb",
            "#9000\tDONE   cov: 7154 ft: 21",
            "cov: 1",
            "stat::number_of_executed_units: 9000",
            "stat::average_exec_per_sec:     4500",
        ] {
            report.hear(line);
        }
        assert_eq!((report.coverage, report.runs, report.problem()), (7_154, 9_000, None));
        report.succeeded = false;
        assert!(report.problem().unwrap().contains("FAILED"));
        report.crashes.push("crash-1".into());
        assert!(report.problem().unwrap().contains("crash-1"));
        assert!(table(&[report]).contains("9000"));
    }
}
