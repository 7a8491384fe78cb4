//! Clauses a1–a5 and a9–a15: what an append promises while the log is there.

use super::fixture::{Probe, append, open, read, reader};
use super::{CaseResult, Harness};

pub(super) async fn a1_positions_are_the_logs_own(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let mut reader = reader(&log, "readers").await;
    for number in 0..50 {
        let committed = append(&log, Probe::new(&format!("key-{}", number % 7), number)).await;
        let record = read(&mut reader, 1).await.remove(0);
        assert_eq!(record.event.as_ref().expect("a probe").number, number);
        assert_eq!(record.id, committed.id);
        if let Some(position) = committed.position() {
            assert_eq!(record.position, position);
        }
    }
    Ok(())
}
