//! Clauses c1–c4, c6, c7, c9–c11: what a consumer promises.

use super::fixture::{PATIENCE, Probe, append, assert_dry, numbers, open, poll, reader};
use super::{CaseResult, Harness};

pub(super) async fn c1_poll_returns_as_soon_as_something_is_there(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let mut reader = reader(&log, "readers").await;
    assert_dry(&mut reader).await;
    let (batch, _) = tokio::join!(poll(&mut reader, 100, PATIENCE), append(&log, Probe::new("k", 1)));
    assert_eq!(numbers(&batch), [1]);
    Ok(())
}
