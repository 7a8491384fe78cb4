//! The conformance suite catches what it promises to catch: each broken log fails the case that names its
//! clause, and the wrapper that they are made with fails none.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use event_log_core::conformance::{self, CASES, Ending};
use event_log_tests::broken::{Break, BrokenHarness};

/// Runs the case on the broken log. `Err` with what the case said if it caught it.
fn run(case: &str, fault: Break) -> Result<(), String> {
    let run = || conformance::run(case, || BrokenHarness::new(fault));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ending::Passed) => Ok(()),
        Ok(Ending::NotRun(reason)) => panic!("{case} was not run: {}", reason.0),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default()),
    }
}

macro_rules! caught {
    ($($name:ident: $fault:ident by $($case:ident),+;)+) => {
        const CAUGHT: &[(Break, &[&str])] = &[$((Break::$fault, &[$(stringify!($case)),+])),+];

        $(
            #[test]
            fn $name() {
                for case in [$(stringify!($case)),+] {
                    let said = run(case, Break::$fault);
                    assert!(said.is_err(), "{case} has not caught {:?}", Break::$fault);
                }
            }
        )+
    };
}

caught! {
    lost_appends: LosesAppends by a4_every_append_has_one_outcome, a12_keyless_events_are_spread;
    duplicate_appends: AppendsTwice by a8_a_lost_reply_makes_no_second_copy;
    invented_offsets: InventsOffsets by a1_positions_are_the_logs_own;
    forgotten_ids: ForgetsIds by a8_an_event_keeps_its_id, a1_positions_are_the_logs_own;
    reversed_batches: ReversesBatches by a2_events_of_a_key_keep_their_order;
    reordered_buffer: ReordersTheBuffer by a7_the_buffer_drains_in_order;
    silent_drops: DropsWithoutAWord by a5_a_full_buffer_drops_exactly_the_oldest;
    forgotten_tickets: ForgetsTickets by a4_tickets_resolve_when_the_log_is_dropped;
    blocking_while_away: BlocksWhileAway by a6_nothing_blocks_while_the_log_is_away;
    swallowed_oversized: SwallowsOversized by a11_an_oversized_event_comes_back;
    no_backpressure: HasNoBackpressure by a10_a_slow_log_pushes_back, l6_the_buffer_is_bounded;
    one_by_one: SendsOneByOne by a9_waiting_appends_travel_together;
    own_hash: PartitionsByItsOwnHash by a13_keys_go_where_the_partitioner_says;
    silent_close: ClosesWithoutAWord by l3_close_returns_what_it_could_not_send;
    accepting_after_close: AcceptsAfterClose by l3_nothing_is_accepted_after_close;
    ignored_topology: IgnoresTheTopology by l1_another_partition_count_is_a_mismatch;
    off_by_one_commit: CommitsOneLess by c4_commit_is_inclusive_of_the_last_named_record, c3_a_known_group_resumes;
    commit_ignores_its_argument: CommitsItsPosition by c4_commit_is_inclusive_of_the_last_named_record;
    commit_stores_nothing: CommitsNothing by c3_a_known_group_resumes;
    auto_commit: CommitsByItself by c4_nothing_is_committed_for_the_application, c4_uncommitted_records_come_back;
    commit_on_leaving: CommitsOnLeaving by c4_nothing_is_committed_for_the_application, c8_a_leaving_member_hands_over;
    shared_group_offset: SharesTheCursor by c8_groups_are_independent;
    cancelled_polls: LosesCancelledPolls by c9_a_dropped_poll_loses_nothing;
    endless_waiting: WaitsForAnAnswer by c1_a_poll_ends_although_nobody_answers;
    ignored_timeout: IgnoresTheTimeout by c1_an_empty_poll_takes_its_timeout;
    too_many: ReturnsTooMany by c1_poll_returns_at_most_what_was_asked;
    reversed_records: ReversesRecords by c2_partitions_are_read_in_offset_order;
    blindness: CallsBlindnessEmpty by c1_a_consumer_survives_a_lost_connection;
    stopping_poison: StopsAtPoison by c6_a_poisoned_record_is_delivered_as_such, c6_a_foreign_message_stops_nothing;
    swallowed_poison: SwallowsPoison by c6_a_poisoned_record_is_delivered_as_such;
    ignored_start: IgnoresTheStart by c3_a_new_group_starts_where_it_is_told;
    end_off_by_one: SeeksBeforeTheEnd by c5_seek_to_the_end_reads_only_what_follows;
    from_end_off_by_one: CountsOneTooMany by c5_seek_from_the_end;
    early_end: EndsTooEarly by c10_the_end_is_never_before_what_was_delivered;
    hidden_retention: HidesRetention by c7_retention_is_reported_not_hidden, c7_a_purge_is_reported,
        c7_a_log_that_begins_again_is_read_from_there;
    hidden_faults: HidesFaults by c11_a_fault_is_reported_and_hides_nothing;
}

#[test]
fn the_wrapper_itself_breaks_nothing() {
    for case in CASES {
        if let Err(said) = run(case.name, Break::Nothing) {
            panic!("{}: {said}", case.name);
        }
    }
}

#[test]
fn the_broken_logs_are_many_and_different() {
    assert!(CAUGHT.len() >= 30, "{}", CAUGHT.len());
    let faults: BTreeSet<_> = CAUGHT.iter().map(|(fault, _)| format!("{fault:?}")).collect();
    assert_eq!(faults.len(), CAUGHT.len());
    for name in CAUGHT.iter().flat_map(|&(_, cases)| cases) {
        assert!(CASES.iter().any(|case| case.name == *name), "there is no case {name}");
    }
}
