//! Attempts of a second outside reader to break the consuming side through a dead-letter log of the caller's own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fixture::{SECOND, SHORT, append, open};
use async_trait::async_trait;
use event_log_core::{
    AppendError, BatchError, CloseError, ConsumerOptions, DeadLetter, Error, EventConsumer, EventLog,
    EventLogExt as _, Lag, Notice, PartitionId, PoisonPolicy, Receipt, SeekPosition, StateReceiver,
    SubmitError, SubmitErrorKind, Ticket, Watermarks,
};
use event_log_memory::MemoryLog;
use futures::FutureExt as _;

/// A dead-letter log that takes for ever, and panics once when it is given up.
struct Stubborn {
    inner: MemoryLog<DeadLetter>,
    done: Arc<AtomicBool>,
}

struct Trap(Arc<AtomicBool>);

impl Drop for Trap {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || self.0.swap(true, Ordering::SeqCst), "giving it up panics");
    }
}

#[async_trait]
impl EventLog<DeadLetter> for Stubborn {
    fn submit(&self, event: DeadLetter) -> Result<Ticket<DeadLetter>, SubmitError<DeadLetter>> {
        Err(SubmitError { event, kind: SubmitErrorKind::Full })
    }
    async fn append(&self, _: DeadLetter) -> Result<Receipt<DeadLetter>, AppendError<DeadLetter>> {
        let _trap = Trap(Arc::clone(&self.done));
        std::future::pending().await
    }
    async fn append_batch(
        &self,
        events: Vec<DeadLetter>,
    ) -> Result<Vec<Receipt<DeadLetter>>, BatchError<DeadLetter>> {
        self.inner.append_batch(events).await
    }
    async fn consumer_with(
        &self,
        group: &str,
        options: ConsumerOptions,
    ) -> Result<Box<dyn EventConsumer<DeadLetter>>, Error> {
        self.inner.consumer_with(group, options).await
    }
    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.inner.watermarks().await
    }
    async fn lag(&self, group: &str) -> Result<Lag, Error> {
        self.inner.lag(group).await
    }
    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        self.inner.delete_group(group).await
    }
    fn state(&self) -> StateReceiver {
        self.inner.state()
    }
    async fn flush(&self) -> Result<(), Error> {
        self.inner.flush().await
    }
    async fn close(&self, deadline: Duration) -> Result<(), CloseError<DeadLetter>> {
        self.inner.close(deadline).await
    }
}

async fn stubborn() -> ConsumerOptions {
    let inner = event_log_memory::builder().partitions(1).open().await.unwrap();
    let letters = Stubborn { inner, done: Arc::default() };
    ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::new(letters)))
}

#[tokio::test(start_paused = true)]
async fn l7_a_letter_that_panics_when_it_is_given_up_leaves_no_partition_without_a_reader() {
    let (log, faults, _broker) = open().await;
    let mut one = log.consumer_with("g", stubborn().await).await.unwrap();
    let mut two = log.consumer("g").await.unwrap();
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    for _ in 0..3 {
        drop(one.poll(10, SHORT).await);
        drop(two.poll(10, SHORT).await);
    }
    // They change places.
    faults.interrupt();
    drop(two.poll(10, SHORT).await);
    let mut seen = Vec::new();
    append(&log, 1, [1]).await;
    for _ in 0..10 {
        let polled = AssertUnwindSafe(one.poll(100, SECOND)).catch_unwind().await;
        if let Ok(Ok(batch)) = polled {
            seen.extend(batch.into_events().map(|event| event.number));
        }
    }
    assert_eq!(seen, [1], "partition 1 is the member's, and has no reader");
}

#[tokio::test(start_paused = true)]
async fn l7_a_letter_that_panics_when_it_is_given_up_moves_no_consumer_by_half() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..3).await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 1, 10..13).await;
    let mut consumer = log.consumer_with("g", stubborn().await).await.unwrap();
    let mut seen = 0;
    while seen < 6 {
        seen += consumer.poll(100, SHORT).await.unwrap().len();
    }
    drop(consumer.poll(100, SHORT).await);
    let before = consumer.position().clone();
    let sought = AssertUnwindSafe(consumer.seek(SeekPosition::Beginning)).catch_unwind().await;
    let moved = matches!(sought, Ok(Ok(())));
    let mut seen = Vec::new();
    for _ in 0..5 {
        if let Ok(batch) = consumer.poll(100, SHORT).await {
            assert!(batch.notices.iter().all(|notice| !matches!(notice, Notice::Truncated { .. })));
            let cursor = batch.cursor().clone();
            assert!(
                moved || cursor == before,
                "the seek failed, and the consumer went from {before} to {cursor}"
            );
            seen.extend(batch.into_events().map(|event| event.number));
        }
    }
    seen.sort_unstable();
    let expected: &[u64] = if moved { &[0, 1, 2, 10, 11, 12] } else { &[] };
    assert_eq!(seen, expected);
}
