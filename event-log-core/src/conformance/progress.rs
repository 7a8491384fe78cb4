//! Clauses c15, c16, l7 and l9: one partition does not hold up the others, and what is slow still comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use super::fixture::{
    PATIENCE, Probe, append, assert_dry, keys_of_two_partitions, numbers, open_with, partitions, poll, read,
    reader,
};
use super::{CaseResult, Defect, Fault, Harness};
use crate::error::Error;
use crate::position::PartitionId;
use crate::record::Notice;

pub(super) async fn c15_a_failing_partition_hides_no_other(harness: &dyn Harness) -> CaseResult {
    let keys = keys_of_two_partitions();
    let log = open_with(harness, &partitions(2)).await;
    for number in 0..20 {
        append(&log, Probe::new(&keys[number as usize % 2], number)).await;
    }
    harness.inject(Fault::FailFetches(PartitionId(0), 1_000)).await?;
    let mut reader = reader(&log, "readers").await;
    let (mut seen, mut faults) = (Vec::new(), 0);
    let healthy = async {
        while seen.len() < 10 || faults == 0 {
            let batch = poll(&mut reader, 100, Duration::from_millis(500)).await;
            seen.extend(numbers(&batch));
            let of_first =
                |notice: &&Notice| matches!(notice, Notice::Fault { partition: PartitionId(0), .. });
            faults += batch.notices.iter().filter(of_first).count();
        }
    };
    let within = Duration::from_secs(10);
    tokio::time::timeout(within, healthy).await.expect("the healthy partition is delivered within 10 s");
    assert_eq!(seen, (0..20).filter(|number| number % 2 == 1).collect::<Vec<_>>());
    harness.inject(Fault::FailFetches(PartitionId(0), 0)).await?;
    assert_eq!(numbers(&read(&mut reader, 10).await), (0..20).step_by(2).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn c15_a_poisoned_partition_hides_no_other(harness: &dyn Harness) -> CaseResult {
    let keys = keys_of_two_partitions();
    let log = open_with(harness, &partitions(2)).await;
    for number in 0..10 {
        append(&log, Probe::new(&keys[0], number).with_defect(Defect::DecodeError)).await;
        append(&log, Probe::new(&keys[1], number)).await;
    }
    let mut reader = reader(&log, "readers").await;
    let mut records = Vec::new();
    while records.len() < 20 {
        let batch = poll(&mut reader, 3, PATIENCE).await;
        assert!(!batch.is_empty(), "only {} records came", records.len());
        records.extend(batch);
    }
    let (good, poisoned): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.event.is_ok());
    assert_eq!(numbers(&good), (0..10).collect::<Vec<_>>());
    assert_eq!(poisoned.len(), 10);
    assert!(poisoned.iter().all(|record| record.position.partition == PartitionId(0)));
    Ok(())
}

pub(super) async fn c16_what_hung_is_delivered_by_a_later_poll(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let mut reader = reader(&log, "readers").await;
    harness.inject(Fault::StallFetches(true)).await?;
    // Submitted: with some backends the whole log hangs, and not only its fetches.
    let ticket = log.submit(Probe::new("k", 1)).expect("it is taken");
    for _ in 0..3 {
        match reader.poll(10, Duration::from_millis(100)).await {
            Ok(batch) => assert!(batch.is_empty(), "the log does not answer: {batch:?}"),
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    harness.inject(Fault::StallFetches(false)).await?;
    let seen = async {
        loop {
            match reader.poll(10, PATIENCE).await {
                Ok(batch) if !batch.is_empty() => break numbers(&batch),
                Ok(_) | Err(Error::Timeout(_) | Error::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(4 * PATIENCE, seen).await.expect("the record comes"), [1]);
    ticket.await.expect("the event is appended");
    Ok(())
}

pub(super) async fn l7_a_panic_while_encoding_concerns_its_own_call(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let before = log.submit(Probe::new("k", 0)).expect("it is taken");
    let hostile = || Probe::new("k", 1).with_defect(Defect::PanicsInEncoding);
    let submitted = catch_unwind(AssertUnwindSafe(|| log.submit(hostile()).map(drop)));
    assert!(!matches!(submitted, Ok(Ok(()))), "what cannot be encoded is not taken");
    let after = log.submit(Probe::new("k", 2)).expect("it is taken");
    before.await.expect("it is appended");
    after.await.expect("it is appended");
    let mut reader = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 2).await), [0, 2]);
    assert_dry(&mut reader).await;
    log.close(PATIENCE).await.expect("nothing is left");
    Ok(())
}

pub(super) async fn l9_a_thread_without_a_runtime_can_append(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let theirs = Arc::clone(&log);
    let append_all = move || {
        for number in 0..20 {
            let receipt = block_on(theirs.append(Probe::new("k", number))).expect("the event is accepted");
            block_on(receipt.acked()).expect("the event is appended");
        }
    };
    // A thread of its own: those of the runtime have one. It is awaited on one that keeps a paused clock from running on.
    let joined = tokio::task::spawn_blocking(|| std::thread::spawn(append_all).join());
    joined.await.expect("it is awaited").expect("the thread has not panicked");
    assert_eq!(numbers(&read(&mut reader(&log, "readers").await, 20).await), (0..20).collect::<Vec<_>>());
    Ok(())
}

/// Runs a future on a thread that has no runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
