//! The suite catches what a log in files can get wrong: each mistake fails the cases that name it, which the log without
//! a mistake passes.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use event_log_core::conformance::{self, CASES, Ending, TRANSPORT_CASES};
use event_log_tests::journal::{JournalBug, JournalHarness};

/// Whether the case, of a log or of its transport, finds something wrong.
fn catches(case: &str, bug: Option<JournalBug>) -> bool {
    let harness = || JournalHarness::broken(bug);
    let run = || {
        if TRANSPORT_CASES.contains(&case) {
            conformance::run_transport(case, harness)
        } else {
            conformance::run(case, harness)
        }
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ending::Passed) => false,
        Ok(Ending::NotRun(reason)) => panic!("{case} was not run: {}", reason.0),
        Err(_) => true,
    }
}

macro_rules! caught {
    ($($name:ident: $bug:ident by $($case:ident),+;)+) => {
        const CAUGHT: &[(JournalBug, &[&str])] = &[$((JournalBug::$bug, &[$(stringify!($case)),+])),+];

        $(
            #[test]
            fn $name() {
                for case in [$(stringify!($case)),+] {
                    assert!(!catches(case, None), "{case} fails without a mistake");
                    let bug = JournalBug::$bug;
                    assert!(catches(case, Some(bug)), "{case} has not caught {bug:?}");
                }
            }
        )+

        /// Does not compile when a mistake has no case.
        #[test]
        fn no_mistake_is_without_a_case() {
            let name = |bug| match bug {
                $(JournalBug::$bug => stringify!($bug)),+
            };
            let names: BTreeSet<_> = CAUGHT.iter().map(|(bug, _)| name(*bug)).collect();
            assert_eq!(names.len(), CAUGHT.len());
        }
    };
}

caught! {
    no_sync_before_the_confirmation: NoSyncBeforeAck by l11_a_power_failure_takes_no_more_than_is_claimed;
    no_sync_of_commits: NoSyncOfCommits by l11_committed_places_survive_a_power_failure;
    torn_tail_kept: TornTailKept by l11_a_torn_record_is_cut_off;
    checksum_ignored: ChecksumIgnored by l11_a_torn_record_is_cut_off;
    large_records_cut: LargeRecordsCut by a18_a_large_event_is_read_back, a18_ids_and_headers_are_kept;
    headers_lost: HeadersLost by a18_headers_are_read_as_they_were, a18_ids_and_headers_are_kept;
    ids_forgotten: IdsForgotten by l11_a_request_that_a_crash_left_unanswered_is_there_once;
    offsets_counted: OffsetsCounted by l11_what_was_purged_stays_purged;
    purge_in_memory: PurgeInMemory by l11_what_was_purged_stays_purged;
    commits_in_memory: CommitsInMemory by l11_groups_stand_where_their_last_commit_left_them;
    deletion_in_memory: DeletionInMemory by l11_a_deleted_group_stays_deleted;
    places_only_grow_on_disk: PlacesOnlyGrowOnDisk by l11_groups_stand_where_their_last_commit_left_them;
    names_folded: NamesFolded by c8_names_that_look_alike_are_different_groups;
    epoch_never_changes: EpochNeverChanges by c8_a_member_that_looked_away_moves_no_place_back,
        c13_an_epoch_shows_that_another_had_the_partition;
    leave_wakes_none: LeaveWakesNone by c8_a_leave_wakes_the_other_member, c8_a_leave_ends_a_wait;
    commits_for_others: CommitsForOthers by c8_a_member_commits_only_for_its_partitions;
    initialise_replaces: InitialiseReplaces by c12_initialising_keeps_the_place_of_a_group;
    fetch_ignores_records: FetchIgnoresRecords by l8_a_fetch_honours_its_bounds;
    fetch_ignores_bytes: FetchIgnoresBytes by l8_a_fetch_honours_its_bounds;
    fetch_skips_one: FetchSkipsOne by l8_a_fetch_from_anywhere_begins_there;
    landmark_ignored: LandmarkIgnored by c7_a_landmark_shows_another_log;
    given_up_arrives: GivenUpArrives by a8_nothing_arrives_over_a_closed_connection;
    places_by_number: PlacesByNumber by c13_places_are_in_the_order_of_the_question;
    landmark_ignored_apart: LandmarkIgnoredApart by c15_a_fetch_over_a_connection_of_its_own_says_the_same;
}

#[test]
fn the_cases_are_there() {
    for name in CAUGHT.iter().flat_map(|(_, cases)| *cases) {
        let there = TRANSPORT_CASES.contains(name) || CASES.iter().any(|case| case.name == *name);
        assert!(there, "there is no case {name}");
    }
}
