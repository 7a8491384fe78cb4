//! Events move from a task to others: singly and in batches, to more consumers, through more partitions, and
//! longer ones.

use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};

use event_log_core::{EventConsumer, EventLog, EventLogExt, RawEvent};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::contenders::{
    Course, through_a_bounded_log, through_a_vec, through_broadcast, through_flume, through_the_log,
};
use crate::report::{Report, Run};
use crate::support::{PARTITIONS, PAYLOAD_BYTES, batches, end, open};

const EVENTS: usize = 100_000;

const TWO_TASKS: Course = Course {
    events: EVENTS,
    payload_bytes: PAYLOAD_BYTES,
    one_by_one: false,
    consumers: 1,
    partitions: PARTITIONS,
};

/// The bytes that a row with long events moves, more or less.
const ROW_BYTES: usize = 64 << 20;

pub(crate) fn rows(report: &mut Report, runtime: &Runtime) {
    race(report, runtime, "two tasks, one by one", Course { one_by_one: true, ..TWO_TASKS });
    race(report, runtime, "two tasks, batches of 100", TWO_TASKS);
    for consumers in [4, 16, 64] {
        let course = Course { consumers, events: EVENTS / 4, ..TWO_TASKS };
        race(report, runtime, &format!("{consumers} consumers, batches of 100, for each delivery"), course);
    }
    for partitions in [1, 64] {
        let course = Course { partitions, ..TWO_TASKS };
        race(report, runtime, &format!("{partitions} partitions, two tasks, batches of 100"), course);
    }
    for (name, payload_bytes) in [("100 B", 100), ("1 kB", 1_000), ("10 kB", 10_000), ("100 kB", 100_000)] {
        let events = (ROW_BYTES / payload_bytes).min(EVENTS);
        let course = Course { payload_bytes, events, ..TWO_TASKS };
        race(report, runtime, &format!("events of {name}, two tasks, batches of 100"), course);
    }
    backlog(report, runtime);
}

fn race(report: &mut Report, runtime: &Runtime, name: &str, course: Course) {
    fn run<'a, F>(runtime: &'a Runtime, course: Course, race: impl Fn(Course) -> F + 'a) -> Run<'a>
    where
        F: Future<Output = Duration> + 'a,
    {
        Box::new(move || runtime.block_on(race(course)))
    }
    let contenders = vec![
        ("event_log", run(runtime, course, through_the_log)),
        ("event_log_bounded", run(runtime, course, through_a_bounded_log)),
        ("flume", run(runtime, course, through_flume)),
        ("tokio_broadcast", run(runtime, course, through_broadcast)),
        ("mutex_vec", run(runtime, course, through_a_vec)),
    ];
    report.row(name, course.events * course.consumers, contenders);
}

/// Reading what is there already, without a producer beside it.
fn backlog(report: &mut Report, runtime: &Runtime) {
    let log = runtime.block_on(open());
    let vec = Mutex::new(Vec::new());
    for batch in batches(EVENTS) {
        vec.lock().extend(batch.iter().cloned());
        drop(runtime.block_on(log.append_batch(batch)).expect("the batch is appended"));
    }
    let poll = |max_count| {
        let log = &log;
        move || runtime.block_on(read_all(log, max_count))
    };
    let clone = |max_count| {
        let vec = &vec;
        move || clone_all(vec, max_count)
    };
    for (name, max_count) in [("a backlog, 100 at a time", 100), ("a backlog, 1,024 at a time", 1_024)] {
        let contenders: Vec<(&str, Run<'_>)> =
            vec![("event_log", Box::new(poll(max_count))), ("mutex_vec", Box::new(clone(max_count)))];
        report.row(name, EVENTS, contenders);
    }
    runtime.block_on(end(log));
}

async fn read_all(log: &impl EventLog<RawEvent>, max_count: usize) -> Duration {
    let mut consumer = log.consumer("reader").await.expect("a consumer opens");
    let start = Instant::now();
    let mut read = 0;
    while read < EVENTS {
        let batch = consumer.poll(max_count, Duration::from_secs(10)).await.expect("the poll succeeds");
        read += batch.len();
        black_box(batch);
    }
    start.elapsed()
}

fn clone_all(vec: &Mutex<Vec<RawEvent>>, max_count: usize) -> Duration {
    let start = Instant::now();
    let mut read = 0;
    while read < EVENTS {
        let new = vec.lock()[read..].iter().take(max_count).cloned().collect::<Vec<_>>();
        read += new.len();
        black_box(new);
    }
    start.elapsed()
}
