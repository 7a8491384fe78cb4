//! Clauses l1–l6: opening, closing, errors, secrets and bounds.

use super::fixture::{Probe, append, numbers, open, read, reader};
use super::{CaseResult, Harness};

pub(super) async fn l1_opening_again_finds_the_same_log(harness: &dyn Harness) -> CaseResult {
    let first = open(harness).await;
    append(&first, Probe::new("k", 1)).await;
    let second = open(harness).await;
    append(&second, Probe::new("k", 2)).await;
    let mut reader = reader(&first, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 2).await), [1, 2]);
    Ok(())
}
