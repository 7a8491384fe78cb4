//! Random programs against the in-memory log, judged by the model in `event_log_tests::model`.
//!
//! `PROPTEST_CASES` sets how many programs are made up. One that fails is shrunk, and its seed goes into
//! `proptest-regressions/model.txt`, which is to be committed; it is tried first from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event_log_core::Overflow;
use event_log_tests::model::{
    Content, Event, Fate, History, Noticed, Op, Program, Reading, Reject, Seek, Settings, Start, What, Which,
    check, program, run,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestRunner};

const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/model.txt");

/// A plain run makes the same programs every time, so that a change is never blamed for another's bug. Whoever
/// names a number of cases (`PROPTEST_CASES=10000`) is looking for new ones.
fn config() -> Config {
    let explores = std::env::var_os("PROPTEST_CASES").is_some();
    Config {
        rng_seed: if explores { RngSeed::Random } else { RngSeed::Fixed(2_026) },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_log_does_what_the_model_says(program in program(90)) {
        let history = run(&program);
        if let Err(violation) = check(&history) {
            return Err(TestCaseError::fail(format!("{violation}\n{history}")));
        }
    }

    #[test]
    fn a_program_run_twice_makes_the_same_history(program in program(90)) {
        let (one, other) = (run(&program), run(&program));
        let differs = one.observed.iter().zip(&other.observed).find(|(a, b)| a != b);
        prop_assert_eq!(differs, None);
        prop_assert_eq!(one, other);
    }
}

const fn event(key: u8) -> Event {
    Event { key: Some(key), defect: None }
}

const fn settings(partitions: u32) -> Settings {
    Settings {
        partitions,
        retention: None,
        buffer: 4,
        request: 1,
        overflow: Overflow::DropOldest,
        expiry: None,
        seed: 0,
    }
}

/// What a history has to show for itself, by name.
fn corners(history: &History) -> impl Iterator<Item = &'static str> {
    history.observed.iter().flat_map(|seen| match &seen.what {
        What::Resolved { fate, .. } => vec![match fate {
            Fate::Committed { .. } => "committed",
            Fate::Rejected { why: Reject::Encode, .. } => "unencodable",
            Fate::Rejected { why: Reject::Full, .. } => "full",
            Fate::Rejected { why: Reject::Closed, .. } => "closed at the door",
            Fate::Rejected { why: Reject::Batch, .. } => "batch refused",
            Fate::Dropped { .. } => "dropped",
            Fate::Closed { .. } => "closed",
            Fate::Expired { .. } => "expired",
            Fate::Unknown { .. } => "unknown",
            Fate::Odd(_) => "odd",
        }],
        What::Abandoned { .. } => vec!["abandoned"],
        What::Deleted { done: Some(true), .. } => vec!["group deleted"],
        What::Deleted { done: Some(false), .. } => vec!["group kept"],
        What::Delivered(1..) => vec!["late"],
        What::Joined { reading, .. } if reading.result.is_err() => vec!["not joined"],
        What::Joined { reading, .. } if !reading.committed.is_empty() => vec!["resumed"],
        What::Sought { reading, .. } if reading.result == Err(false) => vec!["strange seek"],
        What::Committed { reading: Reading { result: Ok(result), .. }, .. } => {
            let kinds = [
                (!result.beyond.is_empty(), "commit beyond"),
                (!result.revoked.is_empty(), "commit revoked"),
                (result.failed.iter().any(|(_, unreachable)| !unreachable), "commit failed"),
                (result.failed.iter().any(|(_, unreachable)| *unreachable), "commit cut off"),
            ];
            kinds.into_iter().filter(|(seen, _)| *seen).map(|(_, name)| name).collect()
        }
        What::Polled { reading, .. } => match &reading.result {
            Err(_) => vec!["poll cut off"],
            Ok(None) => vec!["poll dropped"],
            Ok(Some((records, notices, _))) => notices
                .iter()
                .map(|notice| match notice {
                    Noticed::Missing(..) => "missing",
                    Noticed::Truncated(..) => "truncated",
                    Noticed::Fault(_) => "fault",
                    Noticed::Duplicate(..) => "duplicate",
                    Noticed::Assigned(_) => "assigned",
                    Noticed::Revoked(_) => "revoked",
                    Noticed::Odd(_) => "odd",
                })
                .chain((!records.is_empty()).then_some("records"))
                .chain(
                    records
                        .iter()
                        .any(|seen| matches!(seen.content, Content::Bytes(_)))
                        .then_some("undecodable"),
                )
                .collect(),
        },
        _ => Vec::new(),
    })
}

/// The programs get everywhere; otherwise their success would say little.
#[test]
fn programs_reach_every_corner() {
    let mut runner = TestRunner::deterministic();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..300 {
        let program = program(90).new_tree(&mut runner).expect("a program is made up").current();
        for corner in corners(&run(&program)).collect::<BTreeSet<_>>() {
            *counts.entry(corner).or_default() += 1;
        }
    }
    let expected = [
        "abandoned",
        "assigned",
        "batch refused",
        "closed",
        "closed at the door",
        "commit beyond",
        "commit cut off",
        "commit failed",
        "commit revoked",
        "committed",
        "dropped",
        "duplicate",
        "expired",
        "fault",
        "full",
        "group deleted",
        "group kept",
        "late",
        "missing",
        "not joined",
        "poll cut off",
        "poll dropped",
        "records",
        "resumed",
        "revoked",
        "strange seek",
        "truncated",
        "undecodable",
        "unencodable",
        "unknown",
    ];
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), expected, "programs that came there: {counts:?}");
}

/// Runs a program that once showed a fault.
#[track_caller]
fn judge(settings: Settings, ops: Vec<Op>) -> History {
    let history = run(&Program { settings, ops });
    if let Err(violation) = check(&history) {
        panic!("{violation}\n{history}");
    }
    history
}

#[test]
fn the_last_records_are_found_through_an_empty_answer() {
    let ops = vec![
        Op::Append(event(0), true),
        Op::Append(event(0), true),
        Op::Join(0, 0, Start::Beginning),
        Op::EmptyFetches(1),
        Op::Seek(0, 0, Seek::FromEnd(2)),
    ];
    judge(settings(2), ops);
}

#[test]
fn a_receipt_names_the_first_of_two_copies_that_arrived_late() {
    let ops = vec![
        Op::HoldRequests(2),
        Op::Append(event(0), false),
        Op::Advance(1_100),
        Op::DeliverHeld,
        Op::Advance(4_000),
    ];
    judge(settings(2), ops);
}

#[test]
fn a_partition_that_others_had_in_between_is_announced() {
    let ops = vec![
        Op::Join(0, 1, Start::Beginning),
        Op::Submit(event(0)),
        Op::Interrupt,
        Op::Join(0, 0, Start::Beginning),
        Op::Poll(0, 0, 20, 0),
        Op::Commit(0, 0, Which::Batch(0)),
        Op::Poll(0, 1, 20, 0),
        Op::Poll(0, 1, 20, 0),
    ];
    judge(settings(2), ops);
}

#[test]
fn a_gap_before_the_first_record_is_no_loss_to_the_producer() {
    let ops = vec![
        Op::LoseRequests(1),
        Op::Submit(event(0)),
        Op::Settle,
        Op::SkipOffsets(0, 1),
        Op::Submit(event(0)),
    ];
    judge(settings(1), ops);
}

#[test]
fn a_gap_before_the_first_record_is_no_loss_to_a_consumer() {
    let ops = vec![
        Op::SkipOffsets(0, 1),
        Op::Join(0, 0, Start::Beginning),
        Op::Append(event(2), true),
        Op::Poll(0, 0, 20, 0),
    ];
    judge(settings(1), ops);
}

fn blocking() -> Settings {
    Settings { overflow: Overflow::Block { deadline: Duration::from_millis(1_500) }, ..settings(1) }
}

/// How an event ended, if it was turned away.
fn is_rejected(history: &History, number: usize) -> bool {
    history.observed.iter().any(|seen| {
        matches!(&seen.what, What::Resolved { event, fate: Fate::Rejected { .. } } if *event == number)
    })
}

#[test]
fn an_append_that_was_dropped_while_it_waited_stands_in_nobodys_way() {
    let ops = vec![
        Op::Disconnect,
        // That is known, so that the next event waits in the buffer.
        Op::Advance(10),
        Op::Submit(event(0)),
        Op::Batch(vec![event(0); 4], false),
        Op::Abandon(event(0)),
        // The batch gives up; the event that was abandoned behind it would fit, and so does this one.
        Op::Advance(2_000),
        Op::Submit(event(0)),
    ];
    let history = judge(blocking(), ops);
    assert!(!is_rejected(&history, 6), "{history}");
}

#[test]
fn whoever_waits_behind_a_batch_that_gives_up_comes_in() {
    let ops = vec![
        Op::Disconnect,
        // That is known, so that the next event waits in the buffer.
        Op::Advance(10),
        Op::Submit(event(0)),
        Op::Batch(vec![event(0); 4], false),
        Op::Advance(1_100),
        Op::Append(event(0), false),
        // The deadline of the batch passes now, and that of the append later.
        Op::Advance(1_100),
        Op::Advance(1_100),
    ];
    let history = judge(blocking(), ops);
    assert!(is_rejected(&history, 1) && !is_rejected(&history, 5), "{history}");
}

#[test]
fn the_cursor_of_a_batch_can_be_committed_after_a_purge() {
    let ops = vec![
        Op::Append(event(0), true),
        Op::Join(0, 0, Start::Beginning),
        Op::Poll(0, 0, 1, 0),
        Op::Append(event(0), true),
        Op::Purge,
        Op::Poll(0, 0, 1, 0),
        Op::Commit(0, 0, Which::Batch(0)),
    ];
    judge(Settings { retention: Some(3), ..settings(1) }, ops);
}

#[test]
fn the_first_copy_is_delivered_although_the_second_was_seen_before() {
    let ops = vec![
        Op::HoldRequests(1),
        Op::Submit(event(0)),
        Op::Advance(4_000),
        Op::Append(event(0), true),
        Op::Join(0, 0, Start::End),
        Op::DeliverHeld,
        Op::Poll(0, 0, 20, 0),
        Op::Seek(0, 0, Seek::Beginning),
        Op::Poll(0, 0, 20, 0),
    ];
    judge(settings(1), ops);
}

#[test]
fn what_was_sent_once_is_never_said_not_to_be_there() {
    let ops = vec![
        Op::HoldRequests(1),
        Op::Append(event(0), false),
        // The next attempt finds nothing, sends again, and is cut off before anything goes out.
        Op::SlowAppends(5_000),
        Op::Advance(4_000),
        Op::Disconnect,
        Op::Settle,
        Op::Close(0),
        Op::DeliverHeld,
    ];
    judge(settings(1), ops);
}

#[test]
fn a_cursor_from_before_a_partition_went_and_came_is_no_mix_up() {
    let mut ops: Vec<_> = (0..6).map(|nth| Op::Append(event(nth % 3), true)).collect();
    ops.extend([
        Op::Join(0, 0, Start::Beginning),
        Op::Poll(0, 0, 50, 0),
        Op::Join(0, 1, Start::Beginning),
        Op::Poll(0, 0, 50, 0),
        Op::Leave(0, 1, true),
        // What went and came is read again, one by one.
        Op::Poll(0, 0, 1, 0),
        Op::Poll(0, 0, 1, 0),
        Op::Commit(0, 0, Which::Batch(3)),
    ]);
    let history = judge(settings(2), ops);
    let revoked = history.observed.iter().any(|seen| match &seen.what {
        What::Committed { reading: Reading { result: Ok(result), .. }, .. } => !result.revoked.is_empty(),
        _ => false,
    });
    assert!(revoked, "{history}");
}
