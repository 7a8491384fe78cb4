//! The suite that proves a backend: at least one case for each clause of the contract, named after it.
//!
//! A backend implements [`Harness`] and writes one line in a test file; every case becomes a `#[test]` of
//! its own, and a case that is added here enrols every backend by itself:
//!
//! ```text
//! event_log_core::conformance!(MyHarness::new());
//! ```
//!
//! The clauses stand in the [contract](crate::contract) (`CONTRACT.md`), one sentence each; a test fails when one has no
//! case.
//!
//! A case gets a harness to itself, opens logs of [`Probe`] events on it, and switches on faults where the
//! harness can. What a backend does not support by design ([`Capabilities`]) must fail with
//! [`Error::Unsupported`](crate::Error::Unsupported). A case that a harness cannot run counts as *not run*, never as
//! passed: it fails, unless the harness has declared it with a reason ([`Harness::not_run`]), and is listed.
//!
//! What the engine relies on and no reader of a log could see is proven on the transport itself, by
//! `transport_conformance!`.
//!
//! The suite uses no network. On a harness with [virtual time](Harness::virtual_time) it takes no time either.

mod append;
mod commit;
mod consume;
mod crash;
mod fault;
mod fixture;
mod groups;
mod harness;
mod lifecycle;
mod outage;
mod payload;
mod place;
mod poison;
mod progress;
mod retention;
mod run;
mod seek;
#[cfg(test)]
mod tests;
#[cfg(feature = "engine")]
mod transport;
mod waiting;

use std::future::Future;
use std::pin::Pin;

pub use self::fault::{Fault, Tear};
pub use self::fixture::{Defect, Probe};
pub use self::harness::{Capabilities, CaseResult, Durability, Harness, NotRun, Spec};
pub use self::run::{Ending, list_not_run, run};
#[cfg(feature = "engine")]
pub use self::transport::{TRANSPORT_CASES, TransportHarness, run_transport};

type CaseFn = for<'a> fn(&'a dyn Harness) -> Pin<Box<dyn Future<Output = CaseResult> + 'a>>;

/// One case of the suite.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// Its name, which begins with the clause that it proves.
    pub name: &'static str,
    run: CaseFn,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

impl Case {
    /// The clause that it proves, as `CONTRACT.md` calls it.
    #[must_use]
    pub fn clause(&self) -> &'static str {
        self.name.split('_').next().unwrap_or(self.name)
    }
}

/// The list of cases, and from it the macro that enrols a backend.
macro_rules! cases {
    ($d:tt $($module:ident { $($name:ident),+ $(,)? })+) => {
        /// Every case of the suite.
        pub const CASES: &[Case] = &[
            $($(Case { name: stringify!($name), run: |harness| Box::pin($module::$name(harness)) }),+),+
        ];

        /// Makes one `#[test]` per case of the suite, on the [`Harness`](crate::conformance::Harness) that
        /// the expression makes. It is evaluated once per case, inside a tokio runtime.
        #[macro_export]
        macro_rules! conformance {
            ($d harness:expr) => {
                $($(
                    #[test]
                    fn $name() {
                        match $d crate::conformance::run(stringify!($name), || $d harness) {
                            $d crate::conformance::Ending::Passed => {}
                            // Declared, or nothing to run on: it has said so, and is in the listing.
                            $d crate::conformance::Ending::NotRun(_) => {}
                        }
                    }
                )+)+

                #[test]
                fn what_is_not_run_is_declared() {
                    $d crate::conformance::list_not_run(|| $d harness);
                }
            };
        }
    };
}

cases! { $
    append {
        a1_positions_are_the_logs_own,
        a2_events_of_a_key_keep_their_order,
        a2_a_completed_append_precedes_a_later_one,
        a3_offsets_may_have_gaps,
        a4_every_append_has_one_outcome,
        a4_tickets_resolve_when_the_log_is_dropped,
        a9_a_lone_append_does_not_wait_for_company,
        a9_waiting_appends_travel_together,
        a10_a_slow_log_pushes_back,
        a11_an_oversized_event_comes_back,
        a11_an_unencodable_event_comes_back,
        a11_a_batch_is_taken_whole_or_not_at_all,
        a11_any_key_is_legal,
        a12_keyless_events_are_spread,
        a13_keys_go_where_the_partitioner_says,
        a14_a_dropped_append_leaves_the_log_usable,
        a15_appending_asks_nothing_of_decoding,
    }
    outage {
        a2_order_survives_a_reconnection,
        a4_an_expired_event_comes_back,
        a5_a_full_buffer_drops_exactly_the_oldest,
        a5_drops_are_counted_in_the_state,
        a5_the_byte_bound_counts,
        a5_a_full_buffer_can_reject,
        a5_a_full_buffer_can_block_until_a_deadline,
        a6_nothing_blocks_while_the_log_is_away,
        a6_an_append_under_way_learns_that_it_is_buffered,
        a7_the_buffer_drains_in_order,
        a7_a_failure_half_way_through_a_drain_loses_nothing,
        a7_reconnecting_is_visible_in_the_state,
        a7_recovery_is_counted,
        a8_a_lost_reply_makes_no_second_copy,
        a8_a_lost_request_is_sent_again,
        a8_a_late_request_is_delivered_once,
        a8_whoever_takes_over_knows_a_second_copy,
        a8_a_log_that_began_again_leaves_the_outcome_unknown,
        a8_a_log_that_has_grown_again_is_not_taken_for_the_old_one,
        a8_an_event_keeps_its_id,
    }
    consume {
        c1_poll_returns_as_soon_as_something_is_there,
        c1_poll_returns_at_most_what_was_asked,
        c1_an_empty_poll_takes_its_timeout,
        c1_a_zero_timeout_polls_once,
        c1_an_empty_answer_is_not_the_end,
        c1_a_poll_ends_although_nobody_answers,
        c1_a_consumer_survives_a_lost_connection,
        c2_partitions_are_read_in_offset_order,
        c2_partitions_are_merged_by_append_time,
        c2_no_partition_starves,
        c3_a_new_group_starts_where_it_is_told,
        c3_a_known_group_resumes,
        c3_lag_counts_from_the_committed_cursor,
        c9_a_dropped_poll_loses_nothing,
        c10_history_then_tail_misses_and_repeats_nothing,
        c10_the_end_is_never_before_what_was_delivered,
        c11_a_fault_is_reported_and_hides_nothing,
    }
    retention {
        c7_retention_is_reported_not_hidden,
        c7_retention_by_age,
        c7_a_purge_is_reported,
        c7_a_log_that_begins_again_is_read_from_there,
        c7_a_log_that_has_grown_again_is_noticed,
        c7_a_purged_reader_commits_and_resumes,
        c7_a_log_that_begins_again_under_a_newcomer_is_read,
        c7_whoever_is_far_behind_gets_nothing_old_after_a_cut,
    }
    commit {
        c4_commit_stores_only_what_was_delivered,
        c4_commit_is_inclusive_of_the_last_named_record,
        c4_committing_again_changes_nothing,
        c4_an_older_cursor_changes_nothing,
        c4_only_a_seek_back_lets_a_commit_go_back,
        c4_an_untouched_partition_is_not_committed,
        c4_a_partial_failure_says_what_is_stored,
        c4_uncommitted_records_come_back,
        c4_a_deleted_group_is_new_again,
        c4_nothing_is_committed_for_the_application,
    }
    poison {
        c6_a_poisoned_record_is_delivered_as_such,
        c6_a_poisoned_record_can_be_skipped,
        c6_a_poisoned_record_can_be_parked,
        c6_a_poisoned_record_can_halt,
        c6_a_foreign_message_stops_nothing,
    }
    seek {
        c5_seek_to_the_beginning_reads_everything_again,
        c5_seek_to_the_end_reads_only_what_follows,
        c5_seek_away_from_a_backlog,
        c5_seek_to_the_end_of_a_log_that_began_again,
        c5_seek_to_a_position,
        c5_seek_to_a_cursor,
        c5_seek_to_a_timestamp,
        c5_seek_from_the_end,
        c5_seek_from_the_end_counts_records_and_not_offsets,
        c5_seek_to_an_unknown_partition_is_refused,
        c5_seek_moves_no_committed_cursor,
    }
    groups {
        c8_groups_are_independent,
        c8_a_single_member_has_every_partition,
        c8_members_share_the_partitions,
        c8_a_leaving_member_hands_over,
        c8_a_revoked_partition_cannot_be_committed,
    }
    lifecycle {
        l1_opening_again_finds_the_same_log,
        l1_opening_at_once_from_many_sides_is_safe,
        l1_another_partition_count_is_a_mismatch,
        l1_another_retention_is_a_mismatch,
        l2_errors_answer_both_questions,
        l3_flush_waits_for_every_ticket,
        l3_close_drains,
        l3_close_returns_what_it_could_not_send,
        l3_nothing_is_accepted_after_close,
        l3_closing_twice_is_fine,
        l4_committed_events_survive_their_handles,
        l5_debug_output_shows_no_events,
        l6_the_buffer_is_bounded,
    }
    payload {
        a18_a_large_event_is_read_back,
        a18_awkward_events_are_read_as_they_were,
        a18_headers_are_read_as_they_were,
        l8_extreme_numbers_of_a_caller_are_taken,
        l8_a_batch_of_one_large_and_many_small_events,
        l10_ids_are_unique_over_handles,
        a3_a_gap_behind_the_last_record_is_passed,
        a18_a_number_that_json_has_not_is_refused,
        l8_a_batch_beyond_the_buffer_is_refused,
        l10_ids_are_unique_with_one_seed,
    }
    waiting {
        a16_what_waits_in_the_buffer_expires,
        a17_what_others_have_appended_is_read_past,
        a19_the_state_says_since_when_and_how_often,
        a16_what_comes_while_the_log_is_away_expires,
        a16_what_waits_behind_a_slow_log_expires,
        a16_what_expires_does_not_keep_the_log_away,
        a17_retention_leaves_no_outcome_unknown,
        a19_close_attempts_at_once,
        a19_flush_attempts_at_once,
    }
    place {
        c8_a_partition_that_was_away_goes_on_at_the_groups_place,
        c8_a_member_that_looked_away_moves_no_place_back,
        c8_a_leave_wakes_the_other_member,
        c8_names_that_look_alike_are_different_groups,
        c12_a_group_that_has_committed_ignores_another_start,
        c13_ok_means_that_it_is_stored,
        c14_a_committed_place_beyond_the_end_is_told,
        c12_the_start_is_the_groups_place,
        c12_a_start_at_the_end_survives_a_restart,
        c12_a_start_at_the_end_holds_for_later_members,
        c12_a_death_before_the_first_commit_loses_nothing,
        c13_a_place_that_was_sought_is_stored,
        c13_a_seek_concerns_its_partition_alone,
        c13_a_cursor_of_another_consumer_is_an_error,
        c13_a_partition_that_came_back_is_committed,
        c14_a_seek_beyond_the_end_is_not_silent,
        c14_a_start_beyond_the_end_is_not_silent,
    }
    progress {
        c15_a_failing_partition_hides_no_other,
        c15_a_poisoned_partition_hides_no_other,
        c16_what_hung_is_delivered_by_a_later_poll,
        l7_a_panic_while_encoding_concerns_its_own_call,
        l9_a_thread_without_a_runtime_can_append,
        c15_a_notice_ends_a_poll,
        c15_a_letter_that_cannot_be_parked_hides_no_other,
        c16_a_fetch_slower_than_a_poll_is_delivered,
        l7_a_panic_while_decoding_is_a_poisoned_record,
        l9_appending_and_polling_let_others_run,
    }
    crash {
        l11_what_was_acknowledged_survives_a_crash,
        l11_what_was_acknowledged_survives_a_restart,
        l11_a_power_failure_takes_no_more_than_is_claimed,
        l11_what_was_not_acknowledged_is_there_whole_or_not_at_all,
        l11_a_torn_record_is_cut_off,
        l11_groups_stand_where_their_last_commit_left_them,
        l11_committed_places_survive_a_power_failure,
        l11_a_request_that_a_crash_left_unanswered_is_there_once,
        l11_what_was_purged_stays_purged,
        l11_a_consumer_goes_on_after_a_crash,
        l11_a_deleted_group_stays_deleted,
        l11_offsets_go_on_behind_what_was_there,
    }
}
