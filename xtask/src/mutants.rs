//! `cargo xtask mutants`: plants small bugs in the engine and the log in memory, one at a time, and looks whether a test
//! notices. cargo-mutants does it; what is here is a sample of its mutants that a seed makes again, since all of them take
//! a day.

use std::process::Command;

use crate::Outcome;
use crate::step::{Step, root, target_folder};

const USAGE: &str = "usage: cargo xtask mutants [--sample N] [--seed N] [--from N] [-- ARGS]";

/// Enough to tell nineteen in twenty from less, and an hour or two.
const SAMPLE: usize = 200;

struct Options {
    sample: usize,
    seed: u64,
    /// How many of the sample have been tried before.
    from: usize,
    rest: Vec<String>,
}

pub(crate) fn run(args: &[String]) -> Result<Outcome, String> {
    let Options { sample, seed, from, rest } = parse(args)?;
    let mut names = list()?;
    let all = names.len();
    shuffle(&mut names, seed);
    let chosen: Vec<_> = names.into_iter().take(sample).skip(from).collect();
    println!("mutants {from} to {} of a sample of {all}, seed {seed}", from + chosen.len());
    let patterns: Vec<_> = chosen.iter().map(|name| format!("^{}$", escaped(name))).collect();
    let (pattern, output) = (patterns.join("|"), target_folder().join("mutants"));
    let output = output.to_string_lossy();
    let mut args = vec!["mutants", "--no-shuffle", "--output", &*output, "--re", &*pattern];
    // nextest stops at the first failure and ends a test that hangs; what takes this long in all hangs elsewhere.
    args.extend(["--test-tool", "nextest", "--timeout", "300"]);
    args.extend(rest.iter().map(String::as_str));
    // It builds the same crates over and over, which takes ten seconds like this, and a hundred with any optimisation: the tests
    // have everything that is generic built again.
    let step = Step::cargo("mutants", &args)
        .env("CARGO_INCREMENTAL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("NEXTEST_PROFILE", "mutants");
    step.run()?;
    Ok(Outcome::Passed)
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { sample: SAMPLE, seed: 1, from: 0, rest: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|number| number.parse::<u64>().ok()).ok_or(USAGE);
        let size = |number: u64| usize::try_from(number).map_err(|_| USAGE);
        match arg.as_str() {
            "--sample" => options.sample = size(number()?)?,
            "--seed" => options.seed = number()?,
            "--from" => options.from = size(number()?)?,
            "--" => options.rest = args.by_ref().cloned().collect(),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

/// The names of all mutants, in the order of the sources.
fn list() -> Result<Vec<String>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output =
        Command::new(cargo).args(["mutants", "--list", "--colors", "never"]).current_dir(root()).output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "nothing was tried: `cargo install --locked cargo-mutants cargo-nextest` first, if they are missing\n{said}"
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Fisher and Yates, with SplitMix64 as the source of chance.
fn shuffle(names: &mut [String], seed: u64) {
    let mut state = seed;
    for last in (1..names.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // There are far fewer mutants than would make the remainder uneven.
        let other = (mixed % (last as u64 + 1)) as usize;
        names.swap(last, other);
    }
}

/// The name as a regular expression that nothing else matches.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len() * 2);
    for letter in name.chars() {
        // Not every mark may be escaped: `\<` has a meaning of its own.
        if r"\.+*?()|[]{}^$".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_its_sample_again() {
        let names: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        let order = |seed| {
            let mut names = names.clone();
            shuffle(&mut names, seed);
            names
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        let mut sorted = order(7);
        sorted.sort_by_key(|name| name.parse::<u32>().ok());
        assert_eq!(sorted, names, "none is lost");
    }

    #[test]
    fn a_name_matches_itself_only() {
        assert_eq!(
            escaped("a.rs:1: replace + -> Option<u8> with *"),
            r"a\.rs:1: replace \+ -> Option<u8> with \*"
        );
    }
}
