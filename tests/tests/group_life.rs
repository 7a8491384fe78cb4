//! Every life of a group, in memory: every start × every two things that can happen.

use event_log_memory::MemoryHarness;
use event_log_tests::group_life::{HAPPENS, live, starts};

async fn lives(settles_first: bool) {
    for start in starts() {
        for first in HAPPENS {
            for second in HAPPENS {
                live(&MemoryHarness::new(), start.clone(), [first, second], settles_first).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_has_committed_owes_what_it_has_not() {
    lives(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_has_not_committed_owes_everything_from_its_start() {
    lives(false).await;
}
