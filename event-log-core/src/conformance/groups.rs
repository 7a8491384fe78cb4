//! Clause c8: who gets what when a group has several members.

use super::fixture::{Probe, append, numbers, open, read, reader};
use super::{CaseResult, Harness};

pub(super) async fn c8_groups_are_independent(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let mut one = reader(&log, "one").await;
    let mut two = reader(&log, "two").await;
    assert_eq!(numbers(&read(&mut one, 10).await), (0..10).collect::<Vec<_>>());
    let seen = one.position().clone();
    one.commit(&seen).await.expect("the commit succeeds");
    assert_eq!(numbers(&read(&mut two, 10).await), (0..10).collect::<Vec<_>>());
    assert!(two.committed().is_empty(), "the other group's commit is not ours");
    Ok(())
}
