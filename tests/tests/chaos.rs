//! Random work under random faults, in memory: see `event_log_tests::chaos`. `cargo xtask chaos` looks for more.

use std::sync::Arc;

use event_log_tests::chaos::{Entry, History, Progress, Saw, Settings, check, run_in_memory};

fn history(seed: u64) -> History {
    run_in_memory(&Settings::new(seed, 1_000, 12), &Arc::new(Progress::default()))
}

#[track_caller]
fn judge(seed: u64) {
    let verdict = check(&history(seed));
    let violations: Vec<_> = verdict.violations.iter().take(10).map(ToString::to_string).collect();
    assert!(
        violations.is_empty(),
        "seed {seed}: {violations:#?}\nsee: cargo xtask chaos --backend memory --events 1000 --faults 12 --seed {seed}"
    );
}

#[test]
fn nothing_is_lost_doubled_reordered_or_stuck() {
    (1..=60).for_each(judge);
}

#[test]
fn a_seed_makes_the_same_history_byte_for_byte() {
    for seed in 1..=10 {
        assert!(history(seed).to_bytes() == history(seed).to_bytes(), "seed {seed} made two histories");
    }
    assert!(history(1).to_bytes() != history(2).to_bytes(), "the seed decides nothing");
}

/// A commit of what was delivered before the partition went to others, and came back, was called a mix-up of cursors.
#[test]
fn seeds_that_once_showed_a_stale_cursor_taken_for_a_mixed_up_one() {
    [6, 41, 119, 125, 975].into_iter().for_each(judge);
}

/// A member that had a partition from somebody else did not know what that one had read: the second copy of a record that
/// was committed before came through.
#[test]
fn seeds_that_once_showed_a_second_copy_after_a_handover() {
    [5, 9, 10, 11, 12, 13, 18].into_iter().for_each(judge);
}

/// The judge looks at what it should: where there is nothing to look at, a run would show nothing.
#[test]
fn runs_reach_what_they_are_about() {
    let mut handed_over = 0;
    for seed in 1..=20 {
        let history = history(seed);
        let assigned = |entry: &Entry| match &entry.saw {
            Saw::Polled { told, .. } => told.len() as u64,
            _ => 0,
        };
        handed_over += history.entries.iter().map(assigned).sum::<u64>();
        let figures = check(&history).figures;
        assert_eq!(figures.offered, 1_000);
        assert!(figures.told.reconnects > 0 && figures.delivered >= 3 * figures.confirmed, "{figures:?}");
    }
    assert!(handed_over > 0);
}
