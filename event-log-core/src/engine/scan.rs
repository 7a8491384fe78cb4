//! Reading a known range of a partition: for looking back from its end, and for finding out what became of a request.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use super::transport::{FetchRequest, FetchResponse, StoredMessage};
use crate::error::Error;
use crate::position::{Offset, PartitionId};

/// How often an empty answer from below the high watermark is asked again, and how long to wait in between. An empty answer
/// is no proof of the end; a second of them is a fault.
pub(super) const EMPTY_ANSWERS: u32 = 100;
pub(super) const EMPTY_ANSWER_WAIT: Duration = Duration::from_millis(10);

/// What to read.
pub(super) struct Scan {
    pub(super) partition: PartitionId,
    pub(super) offsets: Range<Offset>,
}

/// Shows every record of the range to `visit`. Returns whether part of the range was no longer retained.
///
/// # Errors
///
/// [`Error::Unavailable`] when the log does not return what lies below its high watermark, and whatever `fetch` fails with.
pub(super) async fn scan<F>(
    mut fetch: impl FnMut(FetchRequest) -> F,
    Scan { partition, offsets }: Scan,
    mut visit: impl FnMut(&StoredMessage),
) -> Result<bool, Error>
where
    F: Future<Output = Result<FetchResponse, Error>>,
{
    let (mut next, mut empty, mut is_incomplete) = (offsets.start, 0, false);
    while next < offsets.end {
        let answer = fetch(FetchRequest::new(partition, next)).await?;
        if let Some(low) = answer.low.filter(|&low| low > next) {
            is_incomplete = true;
            next = low;
        }
        for record in answer.records.iter().take_while(|record| record.offset < offsets.end) {
            visit(record);
        }
        let read_to = answer.records.last().map(|last| last.offset.next()).max(answer.scanned_to);
        match read_to.filter(|&read_to| read_to > next) {
            Some(read_to) => next = read_to,
            None if next >= offsets.end => {}
            None => {
                empty += 1;
                if empty > EMPTY_ANSWERS {
                    let reason = "the log returns no records below its high watermark";
                    return Err(Error::Unavailable(Some(reason.into())));
                }
                tokio::time::sleep(EMPTY_ANSWER_WAIT).await;
            }
        }
        tokio::task::coop::consume_budget().await;
    }
    Ok(is_incomplete)
}
