//! Runs the contenders of a row in turn, and says how they did.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

/// How one contender does the row's work once, and how long it took.
pub(crate) type Run<'a> = Box<dyn FnMut() -> Duration + 'a>;

pub(crate) struct Report {
    rounds: usize,
    pub(crate) quick: bool,
    filters: Vec<String>,
    only: Option<String>,
    rows: Vec<Value>,
}

impl Report {
    /// From the arguments of the program.
    pub(crate) fn new(args: impl Iterator<Item = String>) -> Self {
        let (options, filters): (Vec<_>, Vec<_>) = args.partition(|arg| arg.starts_with("--"));
        let quick = options.iter().any(|option| option == "--quick");
        let only = options.iter().find_map(|option| option.strip_prefix("--only=")).map(str::to_owned);
        Self { rounds: if quick { 5 } else { 21 }, quick, filters, only, rows: Vec::new() }
    }

    pub(crate) fn wants(&self, row: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| row.starts_with(filter.as_str()))
    }

    /// Runs and shows a row. The first contender is the one that the others are compared with; the times are
    /// for one of `units`.
    pub(crate) fn row(&mut self, name: &str, units: usize, mut contenders: Vec<(&'static str, Run<'_>)>) {
        if !self.wants(name) {
            return;
        }
        contenders.retain(|(name, _)| self.only.as_ref().is_none_or(|only| only == name));
        if contenders.is_empty() {
            return;
        }
        let mut samples = vec![Vec::with_capacity(self.rounds); contenders.len()];
        // The first round warms up; each begins with another contender.
        for round in 0..=self.rounds {
            for turn in 0..contenders.len() {
                let at = (round + turn) % contenders.len();
                let taken = contenders[at].1().as_nanos() as f64 / units as f64;
                if round > 0 {
                    samples[at].push(taken);
                }
            }
        }
        let names: Vec<_> = contenders.iter().map(|&(name, _)| name).collect();
        self.show(name, units, &names, &samples);
    }

    /// Shows samples that were taken elsewhere: nanoseconds, a vector for each contender, as long as each other.
    pub(crate) fn show(&mut self, row: &str, units: usize, names: &[&str], samples: &[Vec<f64>]) {
        println!("{row}");
        let mut cells = Vec::new();
        for (name, taken) in names.iter().zip(samples) {
            let ratios: Vec<_> = taken.iter().zip(&samples[0]).map(|(theirs, ours)| theirs / ours).collect();
            let [low, median, high] = quartiles(taken);
            let [low_ratio, ratio, high_ratio] = quartiles(&ratios);
            println!(
                "    {name:<18} {median:>9.1} ns  [{low:>9.1} {high:>9.1}] {:>10.2} M/s   {ratio:>6.2}x  [{low_ratio:.2} {high_ratio:.2}]",
                1_000.0 / median
            );
            cells.push(json!({
                "name": name, "median_ns": median, "quartiles_ns": [low, high],
                "ratio": ratio, "ratio_quartiles": [low_ratio, high_ratio],
            }));
        }
        self.rows.push(json!({ "row": row, "units": units, "contenders": cells }));
    }

    /// Writes everything that was shown, unless only a part of the rows was asked for.
    pub(crate) fn write(&self) {
        let Some(file) = target().map(|target| target.join("bench/memory.json")) else { return };
        if !self.filters.is_empty() || self.only.is_some() {
            return;
        }
        let text = json!({ "rounds": self.rounds, "quick": self.quick, "rows": self.rows }).to_string();
        let folder = file.parent().expect("it has a folder");
        std::fs::create_dir_all(folder).expect("the folder can be made");
        std::fs::write(&file, text).expect("the file can be written");
        println!("written to {}", file.display());
    }
}

/// The folder that cargo builds in: this program is `target/PROFILE/deps/PROGRAM`.
fn target() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.ancestors().nth(3)?.to_owned())
}

pub(crate) fn quartiles(samples: &[f64]) -> [f64; 3] {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[(sorted.len() - 1) * quarter / 4])
}
