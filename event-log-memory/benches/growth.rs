//! What stays the same however much is retained: a new consumer, the last hundred records, and dropping the
//! oldest buffered event. And how many bytes a retained event takes. What an append costs is in `compare`.
//!
//! `cargo bench -p event-log-memory --bench growth`

#[allow(dead_code, reason = "shared with the other benchmark")]
mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use event_log_core::{
    ConsumerOptions, EventConsumer, EventLog, EventLogExt, ProducerConfig, RawCodec, RawEvent, SeekPosition,
};
use event_log_memory::{MemoryBroker, MemoryLog};
use support::{PAYLOAD_BYTES, batches, event, open, runtime};

const RETAINED: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// Appends until the log retains this many.
async fn fill(log: &MemoryLog<RawEvent>, from: usize, to: usize) {
    let mut left = to - from;
    while left > 0 {
        let count = left.min(100_000);
        for batch in batches(count) {
            drop(log.append_batch(batch).await.expect("the batch is appended"));
        }
        left -= count;
    }
}

/// The process's resident memory, where the operating system tells it.
fn resident_bytes() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

fn retained(criterion: &mut Criterion) {
    let runtime = runtime();
    let _guard = runtime.enter();
    let log = runtime.block_on(open());
    let before = resident_bytes();
    let mut filled = 0;
    let quick = std::env::args().any(|arg| arg == "--quick");
    for &count in if quick { &RETAINED[..3] } else { &RETAINED[..] } {
        runtime.block_on(fill(&log, filled, count));
        filled = count;
        // With fewer, the benchmark's own memory would be most of it.
        if let (Some(before), Some(now), 1_000_000..) = (before, resident_bytes(), count) {
            let each = now.saturating_sub(before) as f64 / count as f64;
            println!("retained/{count}: {each:.0} bytes resident for an event of {PAYLOAD_BYTES} bytes");
        }
        read(criterion, &runtime, &log, count);
    }
}

fn read(
    criterion: &mut Criterion,
    runtime: &tokio::runtime::Runtime,
    log: &MemoryLog<RawEvent>,
    retained: usize,
) {
    let mut group = criterion.benchmark_group("read_with_retained");
    group.bench_with_input(BenchmarkId::new("open_a_consumer", retained), &retained, |bencher, _| {
        bencher.iter(|| runtime.block_on(log.consumer("readers")).expect("a consumer opens"));
    });
    group.bench_with_input(BenchmarkId::new("the_last_hundred", retained), &retained, |bencher, _| {
        bencher.iter(|| {
            runtime.block_on(async {
                let options = ConsumerOptions::starting_at(SeekPosition::FromEnd(100));
                let mut consumer = log.consumer_with("fresh", options).await.expect("a consumer opens");
                let batch = consumer.poll(100, Duration::ZERO).await.expect("the poll succeeds");
                assert_eq!(batch.len(), 100);
                black_box(batch);
            });
        });
    });
    group.finish();
}

/// Submitting to a log that is away and whose buffer is full: each one drops the oldest.
fn dropping(criterion: &mut Criterion) {
    let runtime = runtime();
    let _guard = runtime.enter();
    let mut group = criterion.benchmark_group("drop_the_oldest_of");
    for buffered in [100, 10_000, 1_000_000] {
        let broker = MemoryBroker::new();
        let mut config = ProducerConfig::default();
        (config.buffer_events, config.buffer_bytes) = (buffered, usize::MAX);
        let log = event_log_memory::builder().broker(&broker).codec(RawCodec).config(config);
        let log = runtime.block_on(log.open()).expect("a log opens");
        broker.faults("events").expect("the topic is there").disconnect();
        let mut state = log.state();
        let away = state.wait_for(|state| !state.is_connected());
        runtime.block_on(away);
        for n in 0..=buffered {
            drop(log.submit(event(n)).expect("it is buffered"));
        }
        group.bench_with_input(BenchmarkId::from_parameter(buffered), &buffered, |bencher, _| {
            bencher.iter_batched(
                || event(7),
                |event| drop(log.submit(event).expect("it is buffered")),
                criterion::BatchSize::SmallInput,
            );
        });
        let dropped = log.state().current().dropped;
        assert!(dropped > 0, "the buffer was full");
    }
    group.finish();
}

// In this order: what the other has given back would hide what is retained.
criterion_group!(benches, retained, dropping);
criterion_main!(benches);
