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

/// Shows every record of the range that is still retained to `visit`.
///
/// # Errors
///
/// [`Error::Unavailable`] when the log does not return what lies below its high watermark, and whatever `fetch` fails with.
pub(super) async fn scan<F>(
    mut fetch: impl FnMut(FetchRequest) -> F,
    Scan { partition, offsets }: Scan,
    mut visit: impl FnMut(&StoredMessage),
) -> Result<(), Error>
where
    F: Future<Output = Result<FetchResponse, Error>>,
{
    let (mut next, mut empty) = (offsets.start, 0);
    while next < offsets.end {
        let answer = fetch(FetchRequest::new(partition, next)).await?;
        if let Some(low) = answer.low.filter(|&low| low > next) {
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventId, Headers, Timestamp};

    const P: PartitionId = PartitionId(0);

    fn record(offset: u64) -> StoredMessage {
        let id = EventId::from_u128(u128::from(offset));
        let (headers, payload) = (Headers::new(), bytes::Bytes::new());
        StoredMessage { offset: Offset(offset), id, timestamp: Timestamp(0), headers, payload }
    }

    /// The offsets that a scan of this range shows, where `answer` is what the log answers from an offset on, and how often it
    /// was asked.
    async fn scanned(
        offsets: Range<u64>,
        answer: impl Fn(u64) -> FetchResponse,
    ) -> (Result<Vec<u64>, Error>, u32) {
        let (mut seen, mut asked) = (Vec::new(), 0);
        let fetch = |request: FetchRequest| {
            asked += 1;
            std::future::ready(Ok(answer(request.from.0)))
        };
        let scan = scan(
            fetch,
            Scan { partition: P, offsets: Offset(offsets.start)..Offset(offsets.end) },
            |record| seen.push(record.offset.0),
        );
        let ended = tokio::time::timeout(Duration::from_secs(3_600), scan).await.expect("it ends");
        (ended.map(|()| seen), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_longer_retained_is_passed_over() {
        let answer = |from: u64| FetchResponse {
            // An answer that only says so is one, too.
            records: if from < 5 { Vec::new() } else { (from..9).map(record).collect() },
            low: Some(Offset(5)),
            ..FetchResponse::default()
        };
        let (seen, asked) = scanned(0..8, answer).await;
        assert_eq!((seen.unwrap(), asked), (vec![5, 6, 7], 2), "and nothing behind the range");
        let (seen, asked) = scanned(0..5, answer).await;
        assert_eq!((seen.unwrap(), asked), (vec![], 1));
        let (seen, _) = scanned(6..8, answer).await;
        assert_eq!(seen.unwrap(), [6, 7], "the low watermark leads nowhere back");
    }

    #[tokio::test(start_paused = true)]
    async fn offsets_that_have_no_record_are_passed_over() {
        let answer = |from: u64| FetchResponse {
            records: (from == 0).then(|| record(0)).into_iter().collect(),
            scanned_to: (from > 0).then_some(Offset(10)),
            ..FetchResponse::default()
        };
        let (seen, asked) = scanned(0..10, answer).await;
        assert_eq!((seen.unwrap(), asked), (vec![0], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_lead_nowhere_end_in_an_error() {
        let empty = |_: u64| FetchResponse::default();
        let up_to_here = |from| FetchResponse { scanned_to: Some(Offset(from)), ..FetchResponse::default() };
        for (ended, asked) in [scanned(0..10, empty).await, scanned(3..10, up_to_here).await] {
            assert!(matches!(ended, Err(Error::Unavailable(Some(_)))), "{ended:?}");
            assert_eq!(asked, EMPTY_ANSWERS + 1);
        }
    }
}
