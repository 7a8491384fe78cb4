//! The same race for each contender: a task that produces, tasks that each read everything.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use event_log_core::{EventConsumer, EventLog, EventLogExt, RawEvent};
use event_log_memory::Retention;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use crate::support::{batches_of, end, open_with};

/// How many events may be under way in the channels: as many as the log's own buffer would hold.
const CHANNEL: usize = 10_000;

/// How far the producer of a bounded log may be ahead of its slowest reader, who must not miss anything. A
/// channel does that by itself.
const AHEAD: usize = 4_096;

/// What such a log retains in all: no partition of the benchmark gets more than its share of those ahead.
const RETAINED: usize = 16_384;

/// What is taken at once.
const POLL: usize = 1_024;

/// What there is to do.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    pub(crate) events: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) one_by_one: bool,
    pub(crate) consumers: usize,
    pub(crate) partitions: u32,
}

type Batches = Box<dyn Iterator<Item = Vec<RawEvent>> + Send>;
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Measures until every consumer has seen all events. The producer makes a batch of its events and hands them over, as
/// producers do; all made beforehand would lie in memory that no cache holds, and whoever frees them would pay for it.
async fn race<P>(
    course: Course,
    produce: impl FnOnce(Batches) -> P + Send + 'static,
    readers: Vec<Task>,
) -> Duration
where
    P: Future<Output: Send + 'static> + Send,
{
    let start = Instant::now();
    let events = Box::new(batches_of(course.events, course.payload_bytes));
    let producer = tokio::spawn(async move { produce(events).await });
    let readers: Vec<_> = readers.into_iter().map(tokio::spawn).collect();
    for reader in readers {
        reader.await.expect("the consumer ends");
    }
    let elapsed = start.elapsed();
    drop(producer.await);
    elapsed
}

pub(crate) async fn through_the_log(course: Course) -> Duration {
    log(course, Retention::FOREVER, usize::MAX).await
}

pub(crate) async fn through_a_bounded_log(course: Course) -> Duration {
    let records = (RETAINED / course.partitions as usize).max(1_024);
    log(course, Retention::records(records as u64), AHEAD).await
}

async fn log(course: Course, retention: Retention, ahead: usize) -> Duration {
    let log = open_with(course.partitions, retention).await;
    let reads: Arc<[AtomicUsize]> = (0..course.consumers).map(|_| AtomicUsize::new(0)).collect();
    let mut readers: Vec<Task> = Vec::new();
    for nth in 0..course.consumers {
        let mut consumer = log.consumer(&format!("group-{nth}")).await.expect("a consumer opens");
        let reads = Arc::clone(&reads);
        readers.push(Box::pin(async move {
            let mut read = 0;
            while read < course.events {
                let batch = consumer.poll(POLL, Duration::from_secs(10)).await.expect("the poll succeeds");
                assert!(batch.notices.is_empty(), "nothing is missing");
                read += batch.len();
                black_box(batch);
                reads[nth].store(read, Ordering::Relaxed);
            }
        }));
    }
    let handle = log.clone();
    let produce = async move |batches: Batches| {
        let slowest = || reads.iter().map(|read| read.load(Ordering::Relaxed)).min().unwrap_or(0);
        let mut sent = 0;
        for batch in batches {
            sent += batch.len();
            while ahead != usize::MAX && sent > slowest() + ahead {
                tokio::task::yield_now().await;
            }
            if course.one_by_one {
                for event in batch {
                    drop(log.append(event).await.expect("the event is appended"));
                }
            } else {
                drop(log.append_batch(batch).await.expect("the batch is appended"));
            }
        }
        log
    };
    let elapsed = race(course, produce, readers).await;
    end(handle).await;
    elapsed
}

/// A channel for each consumer, since each event goes to one receiver only.
pub(crate) async fn through_flume(course: Course) -> Duration {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..course.consumers).map(|_| flume::bounded(CHANNEL)).unzip();
    let produce = async move |batches: Batches| {
        let (last, others) = senders.split_last().expect("somebody reads");
        for event in batches.flatten() {
            for sender in others {
                sender.send_async(event.clone()).await.expect("the receiver is there");
            }
            last.send_async(event).await.expect("the receiver is there");
        }
    };
    let reader = |receiver: flume::Receiver<RawEvent>| async move {
        for _ in 0..course.events {
            black_box(receiver.recv_async().await.expect("the sender is there"));
        }
    };
    race(course, produce, receivers.into_iter().map(|one| Box::pin(reader(one)) as Task).collect()).await
}

/// Broadcast has no backpressure: room for everything, so that it loses nothing either.
pub(crate) async fn through_broadcast(course: Course) -> Duration {
    let (sender, _) = broadcast::channel(course.events);
    let reader = |mut receiver: broadcast::Receiver<RawEvent>| async move {
        for _ in 0..course.events {
            black_box(receiver.recv().await.expect("the sender is there"));
        }
    };
    let readers = (0..course.consumers).map(|_| Box::pin(reader(sender.subscribe())) as Task).collect();
    let produce = async move |batches: Batches| {
        for event in batches.flatten() {
            sender.send(event).expect("a receiver is there");
        }
        sender
    };
    race(course, produce, readers).await
}

/// What one would write by hand: a vector that retains everything, a cursor for each reader, and a wake-up.
pub(crate) async fn through_a_vec(course: Course) -> Duration {
    let shared = Arc::new((Mutex::new(Vec::<RawEvent>::new()), Notify::new()));
    let reader = |shared: Arc<(Mutex<Vec<RawEvent>>, Notify)>| async move {
        let mut read = 0;
        while read < course.events {
            let look = || shared.0.lock()[read..].iter().take(POLL).cloned().collect::<Vec<_>>();
            let mut new = look();
            if new.is_empty() {
                let mut notified = std::pin::pin!(shared.1.notified());
                notified.as_mut().enable();
                new = look();
                if new.is_empty() {
                    notified.await;
                }
            }
            read += new.len();
            black_box(new);
        }
    };
    let readers = (0..course.consumers).map(|_| Box::pin(reader(Arc::clone(&shared))) as Task).collect();
    let produce = async move |batches: Batches| {
        for batch in batches {
            if course.one_by_one {
                for event in batch {
                    shared.0.lock().push(event);
                    shared.1.notify_waiters();
                }
            } else {
                shared.0.lock().extend(batch);
                shared.1.notify_waiters();
            }
        }
        shared
    };
    race(course, produce, readers).await
}
