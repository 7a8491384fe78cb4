//! How fast events move from a producer task to a consumer task, against what else moves events between
//! tasks. The others forget what they have moved; the log retains everything.
//!
//! `cargo bench -p event-log-memory --bench throughput`

mod support;

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use event_log_core::{EventConsumer, EventLog, EventLogExt, RawEvent};
use event_log_memory::MemoryLog;
use futures::FutureExt;
use parking_lot::Mutex;
use support::{BATCH, batches, open, runtime};
use tokio::sync::{Notify, broadcast, oneshot};

const EVENTS: usize = 100_000;

/// How many events may be under way in the channels: as many as the log's own buffer would hold.
const CHANNEL: usize = 10_000;

/// Runs a producer and a consumer as two tasks, and measures from the moment the events are ready (the
/// producer makes its own, as producers do) until the consumer has seen them all.
async fn race<P, C>(produce: impl FnOnce(Vec<Vec<RawEvent>>) -> P + Send + 'static, consume: C) -> Duration
where
    P: Future<Output: Send + 'static> + Send,
    C: Future<Output = ()> + Send + 'static,
{
    let (ready, started) = oneshot::channel();
    let producer = tokio::spawn(async move {
        let events = batches(EVENTS);
        ready.send(Instant::now()).expect("the race waits");
        produce(events).await
    });
    let start = started.await.expect("the producer is ready");
    tokio::spawn(consume).await.expect("the consumer ends");
    let elapsed = start.elapsed();
    drop(producer.await);
    elapsed
}

async fn through_the_log() -> Duration {
    let log = open().await;
    let mut consumer = log.consumer("bench").await.expect("a consumer opens");
    let produce = async move |batches| {
        for batch in batches {
            log.append_batch(batch).await.expect("the batch is appended");
        }
        log
    };
    let consume = async move {
        let mut read = 0;
        while read < EVENTS {
            let batch = consumer.poll(1_024, Duration::from_secs(10)).await.expect("the poll succeeds");
            read += batch.len();
            black_box(batch);
        }
    };
    race(produce, consume).await
}

async fn through_flume() -> Duration {
    let (sender, receiver) = flume::bounded(CHANNEL);
    let produce = async move |batches: Vec<Vec<RawEvent>>| {
        for event in batches.into_iter().flatten() {
            sender.send_async(event).await.expect("the receiver is there");
        }
    };
    let consume = async move {
        for _ in 0..EVENTS {
            black_box(receiver.recv_async().await.expect("the sender is there"));
        }
    };
    race(produce, consume).await
}

async fn through_broadcast() -> Duration {
    // Broadcast has no backpressure: room for everything, so that it loses nothing either.
    let (sender, mut receiver) = broadcast::channel(EVENTS);
    let produce = async move |batches: Vec<Vec<RawEvent>>| {
        for event in batches.into_iter().flatten() {
            sender.send(event).expect("the receiver is there");
        }
        sender
    };
    let consume = async move {
        for _ in 0..EVENTS {
            black_box(receiver.recv().await.expect("the sender is there"));
        }
    };
    race(produce, consume).await
}

/// What one would write by hand: a vector that retains everything, a cursor, and a wake-up.
async fn through_a_vec() -> Duration {
    let shared = Arc::new((Mutex::new(Vec::<RawEvent>::new()), Notify::new()));
    let produce = {
        let shared = Arc::clone(&shared);
        async move |batches| {
            for batch in batches {
                shared.0.lock().extend::<Vec<_>>(batch);
                shared.1.notify_one();
            }
        }
    };
    let consume = async move {
        let mut read = 0;
        while read < EVENTS {
            let new = shared.0.lock()[read..].iter().take(1_024).cloned().collect::<Vec<_>>();
            if new.is_empty() {
                shared.1.notified().await;
            }
            read += new.len();
            black_box(new);
        }
    };
    race(produce, consume).await
}

fn moving(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("moving_batches_of_100");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
    let mut contend = |name, run: &dyn Fn() -> Duration| {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| (0..iterations).map(|_| run()).sum());
        });
    };
    contend("event_log", &|| runtime.block_on(through_the_log()));
    contend("flume", &|| runtime.block_on(through_flume()));
    contend("tokio_broadcast", &|| runtime.block_on(through_broadcast()));
    contend("mutex_vec", &|| runtime.block_on(through_a_vec()));
    group.finish();
}

/// Appends from one thread to a log that is opened anew for every sample, so that memory is reused: growing
/// into fresh memory is the operating system's cost, and shown by the growth benchmark.
fn appending(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("appending_one_thread");
    let mut measure = |name, append: &dyn Fn(&MemoryLog<RawEvent>, Vec<RawEvent>)| {
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let _guard = runtime.enter();
                let log = runtime.block_on(open());
                let batches = batches((iterations as usize).div_ceil(BATCH) * BATCH);
                let start = Instant::now();
                for batch in batches {
                    append(&log, batch);
                }
                start.elapsed()
            });
        });
    };
    measure("append", &|log, batch| {
        for event in batch {
            let receipt = log.append(event).now_or_never().expect("nothing waits");
            drop(black_box(receipt.expect("it is appended")));
        }
    });
    measure("submit", &|log, batch| {
        for event in batch {
            drop(black_box(log.submit(event).expect("it is taken")));
        }
    });
    measure("append_batch_of_100", &|log, batch| {
        let receipts = log.append_batch(batch).now_or_never().expect("nothing waits");
        drop(black_box(receipts.expect("they are appended")));
    });
    group.finish();
}

/// Reading a backlog, without a producer beside it.
fn reading(criterion: &mut Criterion) {
    let runtime = runtime();
    let log = runtime.block_on(open());
    for batch in batches(EVENTS) {
        runtime.block_on(log.append_batch(batch)).expect("the batch is appended");
    }
    let mut group = criterion.benchmark_group("reading_a_backlog");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
    for max_count in [100, 1_024] {
        group.bench_function(format!("poll_{max_count}"), |bencher| {
            bencher.iter(|| runtime.block_on(read_all(&log, max_count)));
        });
    }
    group.finish();
}

async fn read_all(log: &MemoryLog<RawEvent>, max_count: usize) {
    let mut consumer = log.consumer("reader").await.expect("a consumer opens");
    let mut read = 0;
    while read < EVENTS {
        let batch = consumer.poll(max_count, Duration::from_secs(10)).await.expect("the poll succeeds");
        read += batch.len();
        black_box(batch);
    }
}

criterion_group!(benches, moving, appending, reading);
criterion_main!(benches);
