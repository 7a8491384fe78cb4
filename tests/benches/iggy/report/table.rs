//! The table.

use crate::contenders::raw::RAW;
use crate::contest::{Contest, Quantity, Row, Verdict};
use crate::stats::figure;

/// A contest: each contender's figures, how they are spread, and its ratio to the raw client; then the goals.
pub(crate) fn print(contest: &Contest) {
    let quantities = quantities(contest);
    println!("\n{}  [{}]", contest.title, contest.name);
    let width = contest.rows.iter().map(|row| row.contender.chars().count()).max().unwrap_or(0);
    print!("  {:width$}", "");
    print!("  {:>14}  {:>25}  {:>7}", contest.main, "min … max", "× raw");
    for quantity in quantities.iter().skip(1) {
        print!("  {quantity:>16}");
    }
    println!();
    for row in &contest.rows {
        print!("  {:width$}", row.contender);
        if let Some(failure) = row.failure() {
            println!("  {failure}");
            continue;
        }
        let Some(spread) = row.spread(contest.main) else {
            println!("  not run");
            continue;
        };
        let range = format!("{} … {}", figure(spread.min), figure(spread.max));
        print!("  {:>14}  {range:>25}  {:>7}", figure(spread.median), ratio(contest, row));
        for quantity in quantities.iter().skip(1) {
            let median = row.spread(quantity).map_or_else(String::new, |spread| figure(spread.median));
            print!("  {median:>16}");
        }
        println!();
    }
    for row in &contest.rows {
        println!("    {}: {}", row.contender, row.what);
    }
    for verdict in contest.verdicts() {
        println!("  {}", line(&verdict));
    }
}

/// All goals of all contests, and how many are reached.
pub(crate) fn summary(contests: &[Contest]) {
    println!("\ngoals:");
    let (mut reached, mut all) = (0, 0);
    for contest in contests {
        for verdict in contest.verdicts() {
            println!("  {:>22}  {}", contest.name, line(&verdict));
            reached += usize::from(verdict.reached);
            all += 1;
        }
    }
    println!("{reached} of {all} goals are reached");
}

fn line(verdict: &Verdict) -> String {
    let mark = if verdict.reached { "reached" } else { "MISSED " };
    let value = verdict.value.map_or_else(|| "none".to_owned(), figure);
    format!("{mark}  {value:>10}  {}", verdict.text)
}

/// The main one first, then whatever else some contender has, in the order of the alphabet.
fn quantities(contest: &Contest) -> Vec<Quantity> {
    let samples = contest.rows.iter().flat_map(|row| &row.samples);
    let mut others: Vec<_> = samples.flat_map(|sample| sample.values.keys().copied()).collect();
    others.sort_unstable();
    others.dedup();
    let others = others.into_iter().filter(|&quantity| quantity != contest.main);
    std::iter::once(contest.main).chain(others).collect()
}

fn ratio(contest: &Contest, row: &Row) -> String {
    let ratio = contest.row(RAW).and_then(|raw| row.ratio_to(raw, contest.main));
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}
