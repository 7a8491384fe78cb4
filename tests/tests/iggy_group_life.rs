//! Lives of groups on a real server. A life takes seconds there, so that each two things that can happen have one start
//! each, and every start its share of them.

use event_log_core::SeekPosition;
use event_log_core::conformance::Harness as _;
use event_log_tests::group_life::{HAPPENS, Happens, live, starts};
use event_log_tests::iggy::IggyHarness;

/// The lives of which the first thing to happen is this one.
async fn lives(first: usize) {
    let starts = starts();
    for second in 0..HAPPENS.len() {
        let harness = IggyHarness::new();
        if harness.ready().is_err() {
            return;
        }
        let start = match &starts[(first + second) % starts.len()] {
            // A consumer that has read nothing does not recognise yet, on Iggy, that the log is another one.
            SeekPosition::End if HAPPENS[first] == Happens::Truncation => SeekPosition::Beginning,
            start => start.clone(),
        };
        live(&harness, start, [HAPPENS[first], HAPPENS[second]], (first + second / 2).is_multiple_of(2))
            .await;
    }
}

macro_rules! lives {
    ($($name:ident: $first:expr,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            lives($first).await;
        }
    )*};
}

lives! {
    a_group_that_restarts_lives_on: 0,
    a_group_that_grows_lives_on: 1,
    a_group_whose_member_dies_lives_on: 2,
    a_group_that_is_rewound_lives_on: 3,
    a_group_whose_log_begins_again_lives_on: 4,
    a_group_with_a_late_commit_lives_on: 5,
}
