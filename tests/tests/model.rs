//! Random programs against the in-memory log, judged by the model in `event_log_tests::model`.
//!
//! `PROPTEST_CASES` sets how many programs are made up. One that fails is shrunk, and its seed goes into
//! `proptest-regressions/model.txt`, which is to be committed; it is tried first from then on.

use std::time::Duration;

use event_log_core::Overflow;
use event_log_tests::model::{
    Event, Fate, History, Op, Program, Seek, Settings, Start, What, Which, check, program, run,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};

const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/model.txt");

fn config() -> Config {
    Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        max_shrink_iters: 20_000,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_log_does_what_the_model_says(program in program(60)) {
        let history = run(&program);
        if let Err(violation) = check(&history) {
            return Err(TestCaseError::fail(format!("{violation}\n{history}")));
        }
    }

    #[test]
    fn a_program_run_twice_makes_the_same_history(program in program(60)) {
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
