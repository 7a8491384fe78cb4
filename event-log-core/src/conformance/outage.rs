//! Clauses a2, a4–a8 through a lost connection.

use super::fixture::{Probe, open};
use super::{CaseResult, Fault, Harness};

pub(super) async fn a6_nothing_blocks_while_the_log_is_away(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    harness.inject(Fault::Disconnect).await?;
    let receipt = log.append(Probe::new("k", 1)).await.expect("the event is buffered");
    assert!(receipt.is_buffered());
    assert_eq!(receipt.position(), None, "no position is invented");
    let ticket = log.submit(Probe::new("k", 2)).expect("the event is buffered");
    assert!(!log.state().borrow().is_connected());
    harness.inject(Fault::Reconnect).await?;
    receipt.committed().await.expect("the first event is appended");
    ticket.await.expect("the second event is appended");
    Ok(())
}
