//! Attempts of outside readers to break the consuming side: threads, runtimes and dropped futures.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::fixture::{SECOND, SHORT, append, event, open};
use event_log_core::{
    EventConsumer, EventLog, EventLogExt as _, Notice, Offset, PartitionId, Position, SeekPosition,
};

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future without any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn outside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join())
        .expect("a thread without a runtime can use the consumer")
}

/// A waker that panics when it is woken, once it is armed.
#[derive(Default)]
struct EvilWaker {
    armed: AtomicBool,
    woken: AtomicBool,
}

impl Wake for EvilWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.armed.load(Ordering::SeqCst) {
            self.woken.store(true, Ordering::SeqCst);
            panic!("waking panics");
        }
    }
}

fn one_worker() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Polls a future `times` times, and drops it then.
async fn poll_and_drop<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}

#[test]
fn l9_a_seek_that_looks_back_works_on_a_thread_without_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, faults, _broker) = runtime.block_on(open());
    runtime.block_on(append(&log, 0, 0..10));
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    for slow in [false, true] {
        if slow {
            faults.slow_fetches(Duration::from_millis(5));
        } else {
            faults.empty_fetches(1);
        }
        outside(|| block_on(consumer.seek(SeekPosition::FromEnd(3)))).unwrap();
        let batch = outside(|| block_on(consumer.poll(10, SECOND))).unwrap();
        assert_eq!(batch.len(), 3);
        outside(|| block_on(consumer.commit(batch.cursor()))).unwrap();
    }
    outside(|| block_on(consumer.leave())).unwrap();
}

#[test]
fn l9_a_consumer_of_a_thread_without_a_runtime_comes_through_an_outage() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, faults, _broker) = runtime.block_on(open());
    runtime.block_on(append(&log, 0, 0..10));
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    faults.disconnect();
    let away = outside(|| block_on(consumer.poll(10, SHORT)));
    assert!(away.is_err());
    faults.reconnect();
    let batch = outside(|| block_on(consumer.poll(10, SECOND))).unwrap();
    assert_eq!(batch.len(), 10);
    outside(|| block_on(consumer.commit(batch.cursor()))).unwrap();
    outside(|| block_on(consumer.end())).unwrap();
}

#[test]
fn l9_a_seek_over_slow_fetches_works_on_a_thread_without_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, faults, _broker) = runtime.block_on(open());
    runtime.block_on(append(&log, 0, 0..10));
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    faults.slow_fetches(Duration::from_millis(5));
    outside(|| block_on(consumer.seek(SeekPosition::FromEnd(3)))).unwrap();
}

#[test]
fn l9_a_waker_that_panics_fails_its_poll_and_blocks_no_thread() {
    let runtime = one_worker();
    let (log, _faults, _broker) = runtime.block_on(open());
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    let evil = EvilWaker { armed: AtomicBool::new(true), woken: AtomicBool::new(false) };
    let waker = Waker::from(Arc::new(evil));
    let start = std::time::Instant::now();
    let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
        consumer.poll(1, Duration::from_secs(3)).as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "one poll of the future took {took:?}: {polled:?}");
    runtime.block_on(append(&log, 0, [1]));
    let batch = runtime.block_on(consumer.poll(1, SHORT)).unwrap();
    assert_eq!(batch.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c9_futures_that_are_dropped_at_any_await_lose_nothing() {
    for seed in 0..60_usize {
        let (log, faults, _broker) = open().await;
        append(&log, 0, 0..40).await;
        append(&log, 1, 40..80).await;
        let mut consumer = log.consumer("g").await.unwrap();
        faults.slow_fetches(Duration::from_millis(3));
        let mut seen = Vec::new();
        for round in 0..60 {
            let times = (seed * 7 + round * 3) % 9;
            if let Some(Ok(batch)) = poll_and_drop(consumer.poll(5, SHORT), times).await {
                let cursor = batch.cursor().clone();
                seen.extend(batch.into_events().map(|event| event.number));
                drop(poll_and_drop(consumer.commit(&cursor), times % 3).await);
            }
            let to = SeekPosition::Position(Position::new(PartitionId(5), Offset(0)));
            drop(poll_and_drop(consumer.seek(to), 2).await);
            if round % 11 == 0 {
                faults.interrupt();
            }
            if round % 7 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        for _ in 0..100 {
            if let Ok(batch) = consumer.poll(5, SHORT).await {
                seen.extend(batch.into_events().map(|event| event.number));
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..80).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn c8_members_on_threads_of_their_own_lose_nothing_and_get_nothing_twice_in_an_epoch() {
    const COUNT: u64 = 4_000;
    let runtime = one_worker();
    let (log, faults, _broker) = runtime.block_on(open());
    let seen = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let until = std::time::Instant::now() + Duration::from_secs(7);
    std::thread::scope(|scope| {
        for nth in 0..3_u64 {
            let (log, seen, handle) = (log.clone(), Arc::clone(&seen), runtime.handle().clone());
            scope.spawn(move || {
                let outside = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let mut rounds = nth;
                let open = || {
                    let _entered = handle.enter();
                    loop {
                        if let Ok(consumer) = outside.block_on(log.consumer("g")) {
                            return consumer;
                        }
                    }
                };
                let mut consumer = open();
                let mut epoch = std::collections::BTreeSet::new();
                while seen.lock().unwrap().len() < COUNT as usize && std::time::Instant::now() < until {
                    rounds += 1;
                    let Ok(batch) = outside.block_on(consumer.poll(50, Duration::from_millis(20))) else {
                        continue;
                    };
                    let cursor = batch.cursor().clone();
                    for notice in &batch.notices {
                        if let Notice::Revoked(partitions) = notice {
                            epoch.retain(|(partition, _)| !partitions.contains(partition));
                        }
                    }
                    for record in batch.records {
                        let number = record.event.unwrap().number;
                        assert!(
                            epoch.insert((record.position.partition, number)),
                            "{number} twice in an epoch"
                        );
                        seen.lock().unwrap().insert(number);
                    }
                    if rounds % 3 == 0 {
                        drop(outside.block_on(consumer.commit(&cursor)));
                    }
                    if rounds % 97 == nth {
                        consumer = open();
                        epoch.clear();
                    }
                }
            });
        }
        scope.spawn(|| {
            for number in 0..COUNT {
                drop(log.submit(event((number % 2) as u32, number)).map(std::mem::forget));
                if number % 500 == 0 {
                    faults.interrupt();
                }
                if number % 10 == 0 {
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
    });
    let missing: Vec<_> = (0..COUNT).filter(|number| !seen.lock().unwrap().contains(number)).collect();
    assert!(missing.is_empty(), "{} are missing, from {:?}", missing.len(), missing.first());
}
