//! What the fuzz targets look for, without a fuzzer: over their seeds, over everything that they have ever found, and
//! over some bytes by chance.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use event_log_tests::fuzz::{SEPARATOR, TARGETS, Target};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Damaged seeds and arbitrary bytes that each target is run on.
const CASES: u32 = 512;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// Every file in a folder and the folders in it; none if it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("the folder can be listed").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn seeds(target: &Target) -> Vec<PathBuf> {
    let mut seeds = files(&folder("seeds").join(target.name));
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    if let Some(more) = target.more_seeds {
        let more = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(more));
        assert!(!more.is_empty(), "{} has fewer seeds than it says", target.name);
        seeds.extend(more);
    }
    seeds
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Bytes by chance, some of them with a meaning.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        2 => any::<u8>(),
        1 => select(br#"{}[]",:\/@?&=%.0e-1c s"#.to_vec()),
        1 => Just(SEPARATOR),
    ];
    vec(byte, 0..60)
}

/// A few pieces of a seed exchanged for something else.
fn damaged(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![bytes(), select(seeds.clone())];
    let damage = (any::<[Index; 2]>(), piece);
    (select(seeds), vec(damage, 0..4)).prop_map(|(mut seed, damages)| {
        for ([from, to], piece) in damages {
            let (from, to) = (from.index(seed.len() + 1), to.index(seed.len() + 1));
            seed.splice(from.min(to)..from.max(to), piece);
        }
        seed
    })
}

fn check(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("there is such a target");
    let mut inputs = Vec::new();
    for path in seeds(target).into_iter().chain(files(&folder("regressions").join(name))) {
        // Shown if it panics.
        println!("{}", path.display());
        let input = read(&path);
        (target.run)(&input);
        inputs.push(input);
    }
    let mut runner = TestRunner::deterministic();
    let strategy = prop_oneof![1 => bytes(), 3 => damaged(inputs)];
    for _ in 0..CASES {
        let input = strategy.new_tree(&mut runner).expect("nothing is filtered").current();
        println!("{}", input.escape_ascii());
        (target.run)(&input);
    }
}

macro_rules! targets {
    ($($name:ident)+) => {
        const CHECKED: &[&str] = &[$(stringify!($name)),+];

        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )+
    };
}

targets!(cursors envelope frames records urls);

#[test]
fn every_target_is_checked_and_has_what_the_fuzzer_needs() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names, CHECKED.iter().map(ToString::to_string).collect());
    let stem = |path: PathBuf| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    assert_eq!(names, files(&folder("targets")).into_iter().filter_map(stem).collect());
    for name in files(&folder("dictionaries")).into_iter().filter_map(stem) {
        assert!(names.contains(&name), "{name}.dict is for no target");
    }
    let manifest = String::from_utf8(read(&folder("Cargo.toml"))).expect("a manifest is UTF-8");
    for kept in ["seeds", "regressions"] {
        let folders = fs::read_dir(folder(kept)).into_iter().flatten();
        for folder in folders.map(|entry| entry.expect("the folder can be listed").file_name()) {
            assert!(folder.to_str().is_some_and(|name| names.contains(name)), "{folder:?} is no target");
        }
    }
    for name in names {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name} is not built");
    }
}
