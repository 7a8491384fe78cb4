//! Clause c5: every way to seek.

use super::fixture::{Probe, append, numbers, open, read, reader};
use super::{CaseResult, Harness};
use crate::position::SeekPosition;

pub(super) async fn c5_seek_to_the_beginning_reads_everything_again(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let mut reader = reader(&log, "readers").await;
    let first = read(&mut reader, 10).await;
    reader.seek(SeekPosition::Beginning).await.expect("the seek succeeds");
    assert_eq!(numbers(&read(&mut reader, 10).await), numbers(&first));
    Ok(())
}
