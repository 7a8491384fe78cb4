//! Clauses c15, c16, l7 and l9: one partition does not hold up the others, and what is slow still comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use super::fixture::{
    PATIENCE, Probe, append, assert_dry, keys_of_two_partitions, numbers, open_with, partitions, poll, read,
    reader, reader_with,
};
use super::poison::parking::Letters;
use super::{CaseResult, Defect, Fault, Harness};
use crate::consumer::{ConsumerOptions, PoisonPolicy};
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

pub(super) async fn c15_a_notice_ends_a_poll(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    let mut reader = reader(&log, "readers").await;
    assert_dry(&mut reader).await;
    harness.inject(Fault::FailFetches(PartitionId(0), 100_000)).await?;
    append(&log, Probe::new(&keys_of_two_partitions()[0], 1)).await;
    let told = tokio::time::timeout(PATIENCE / 2, reader.poll(10, 3 * PATIENCE)).await;
    let batch = told.expect("a notice ends a poll").expect("the poll succeeds");
    let of_first = |notice: &Notice| matches!(notice, Notice::Fault { partition: PartitionId(0), .. });
    assert!(batch.notices.iter().any(of_first), "{batch:?}");
    harness.inject(Fault::FailFetches(PartitionId(0), 0)).await?;
    Ok(())
}

pub(super) async fn c15_a_letter_that_cannot_be_parked_hides_no_other(harness: &dyn Harness) -> CaseResult {
    let keys = keys_of_two_partitions();
    let log = open_with(harness, &partitions(2)).await;
    append(&log, Probe::new(&keys[0], 0).with_defect(Defect::DecodeError)).await;
    // It is the oldest, which a merge by append time comes to first.
    tokio::time::sleep(Duration::from_millis(5)).await;
    for number in 0..10 {
        append(&log, Probe::new(&keys[1], number)).await;
    }
    let letters = Arc::new(Letters::default());
    letters.fail(true);
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(letters.clone()));
    let mut reader = reader_with(&log, "readers", options).await;
    let mut seen = Vec::new();
    let healthy = async {
        while seen.len() < 10 {
            match reader.poll(4, Duration::from_millis(200)).await {
                Ok(batch) => seen.extend(numbers(&batch)),
                Err(error) => {
                    assert!(matches!(error, Error::DeadLetter { .. }), "{error:?}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    };
    let delivered = tokio::time::timeout(Duration::from_secs(10), healthy).await;
    assert!(delivered.is_ok(), "only {seen:?} of the healthy partition came within 10 s");
    letters.fail(false);
    let parked = async {
        while letters.take().is_empty() {
            let _ = reader.poll(4, Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, parked).await.expect("the letter is parked in the end");
    Ok(())
}

pub(super) async fn c16_a_fetch_slower_than_a_poll_is_delivered(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    harness.inject(Fault::SlowFetches(Duration::from_millis(1_500))).await?;
    let mut polled = reader(&log, "polled").await;
    let mut seen = Vec::new();
    let polling = async {
        while seen.len() < 10 {
            match polled.poll(100, Duration::from_millis(200)).await {
                Ok(batch) => seen.extend(numbers(&batch)),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    };
    assert!(tokio::time::timeout(PATIENCE, polling).await.is_ok(), "only {seen:?} came");
    let mut ticked = reader(&log, "ticked").await;
    let mut seen = Vec::new();
    let ticking = async {
        while seen.len() < 10 {
            tokio::select! {
                batch = poll(&mut ticked, 100, 2 * PATIENCE) => seen.extend(numbers(&batch)),
                () = tokio::time::sleep(Duration::from_millis(300)) => {}
            }
        }
    };
    assert!(tokio::time::timeout(PATIENCE, ticking).await.is_ok(), "only {seen:?} came");
    harness.inject(Fault::SlowFetches(Duration::ZERO)).await?;
    Ok(())
}

pub(super) async fn l7_a_panic_while_decoding_is_a_poisoned_record(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        let probe = Probe::new("k", number);
        append(&log, if number == 3 { probe.with_defect(Defect::PanicsInDecoding) } else { probe }).await;
    }
    let mut reader = reader(&log, "readers").await;
    let records = read(&mut reader, 10).await;
    for (record, number) in records.into_iter().zip(0..) {
        match record.event {
            Ok(probe) => assert_eq!(probe.number, number),
            Err(poisoned) => {
                assert_eq!(number, 3);
                assert!(!poisoned.payload.is_empty(), "its bytes are there");
            }
        }
    }
    let position = reader.position().clone();
    reader.commit(&position).await.expect("the commit succeeds");
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 0);
    Ok(())
}

pub(super) async fn l9_appending_and_polling_let_others_run(harness: &dyn Harness) -> CaseResult {
    const EVENTS: u64 = 3_000;
    let log = open_with(harness, &partitions(1)).await;
    let mut others = spawn_counter();
    let before = *others.borrow_and_update();
    for number in 0..EVENTS {
        append(&log, Probe::new("k", number)).await;
    }
    let while_appending = *others.borrow_and_update() - before;
    assert!(while_appending >= 3, "another task ran {while_appending} times during {EVENTS} appends");
    let mut reader = reader(&log, "readers").await;
    let before = *others.borrow_and_update();
    for number in 0..EVENTS {
        assert_eq!(numbers(&poll(&mut reader, 1, PATIENCE).await), [number]);
    }
    let while_polling = *others.borrow_and_update() - before;
    assert!(while_polling >= 3, "another task ran {while_polling} times during {EVENTS} polls");
    Ok(())
}

/// A task that counts how often it runs, for as long as its receiver is there.
fn spawn_counter() -> tokio::sync::watch::Receiver<u64> {
    let (runs, counted) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while !runs.is_closed() {
            runs.send_modify(|runs| *runs += 1);
            tokio::task::yield_now().await;
        }
    });
    counted
}
