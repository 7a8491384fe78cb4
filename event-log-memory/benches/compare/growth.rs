//! What an append costs with ten thousand to ten million events retained.
//!
//! The log itself does the same work at every size; but what it retains is in memory that is touched for the
//! first time, for which the operating system has its price. `first_touch` is the control: the bytes that
//! the log retains for each event, written into fresh memory in pieces of the same size, and nothing else. It
//! grows along, and is measured in the same rounds.

use std::hint::black_box;
use std::time::Instant;

use event_log_core::{EventLog, RawEvent};
use event_log_memory::MemoryLog;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::report::{Report, quartiles};
use crate::support::{BATCH, PAYLOAD_BYTES, batches, open};

const SAMPLES: usize = 101;
/// In each sample; few, so that the log hardly grows by being measured.
const EVENTS: usize = 1_000;

/// What the log keeps of each event besides its payload.
const RECORD_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 1_024 * RECORD_BYTES;

pub(crate) fn rows(report: &mut Report, runtime: &Runtime) {
    if !report.wants("growth") {
        return;
    }
    let _guard = runtime.enter();
    let mut all = All { log: runtime.block_on(open()), vec: Mutex::default(), arena: Arena::default() };
    let (mut filled, mut first) = (0, None);
    let sizes: &[usize] =
        if report.quick { &[10_000, 1_000_000] } else { &[10_000, 100_000, 1_000_000, 10_000_000] };
    for &retained in sizes {
        while filled < retained {
            let _warmup = all.each(10 * EVENTS);
            filled += 10 * EVENTS;
        }
        let mut samples = [const { Vec::new() }; 3];
        for _ in 0..SAMPLES {
            for (samples, taken) in samples.iter_mut().zip(all.each(EVENTS)) {
                samples.push(taken);
            }
        }
        filled += SAMPLES * EVENTS;
        let names = ["event_log", "mutex_vec", "first_touch"];
        report.show(&format!("growth, batches of 100 with {retained} retained"), EVENTS, &names, &samples);
        let medians = samples.map(|samples| quartiles(&samples)[1]);
        let first = *first.get_or_insert(medians);
        for ((name, now), then) in names.iter().zip(medians).zip(first) {
            println!("    {name:<18} {:.2} of what it was with {}", now / then, sizes[0]);
        }
    }
}

struct All {
    log: MemoryLog<RawEvent>,
    vec: Mutex<Vec<RawEvent>>,
    arena: Arena,
}

impl All {
    /// Appends as many events to each, and returns the nanoseconds that an event took.
    fn each(&mut self, events: usize) -> [f64; 3] {
        let per_event = |start: Instant| start.elapsed().as_nanos() as f64 / events as f64;
        let batches_of_log = batches(events);
        let start = Instant::now();
        for batch in batches_of_log {
            let receipts = self.log.append_batch(batch).now_or_never().expect("nothing waits");
            drop(black_box(receipts.expect("they are appended")));
        }
        let log = per_event(start);
        let batches_of_vec = batches(events);
        let start = Instant::now();
        for batch in batches_of_vec {
            self.vec.lock().extend(batch);
        }
        let vec = per_event(start);
        let start = Instant::now();
        (0..events / BATCH).for_each(|_| self.arena.write_batch());
        [log, vec, per_event(start)]
    }
}

/// Memory as the log takes it, written once.
#[derive(Default)]
struct Arena {
    blocks: Vec<Vec<u8>>,
    segment: Vec<u8>,
}

impl Arena {
    fn write_batch(&mut self) {
        self.blocks.push(vec![b'x'; BATCH * PAYLOAD_BYTES]);
        if self.segment.capacity() - self.segment.len() < BATCH * RECORD_BYTES {
            let full = std::mem::replace(&mut self.segment, Vec::with_capacity(SEGMENT_BYTES));
            self.blocks.push(full);
        }
        let end = self.segment.len() + BATCH * RECORD_BYTES;
        self.segment.resize(end, 1);
    }
}
