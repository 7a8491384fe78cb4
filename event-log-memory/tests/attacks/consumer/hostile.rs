//! Attempts of outside readers to break the consuming side: the code of hostile callers.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::fixture::{Event, SECOND, SHORT, append, event, open};
use async_trait::async_trait;
use bytes::Bytes;
use event_log_core::{
    AppendError, BatchError, CloseError, Codec, CodecError, ConsumerOptions, DeadLetter, Error,
    EventConsumer, EventLog, EventLogExt as _, Headers, JsonCodec, Lag, PartitionId, PoisonPolicy, Receipt,
    StateReceiver, SubmitError, Ticket, Watermarks,
};
use event_log_memory::MemoryLog;
use futures::FutureExt as _;

/// Panics with something that panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "the payload of the panic panics too");
    }
}

/// An error that cannot be shown.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("an error that panics when it is shown")
    }
}

impl std::error::Error for Unspeakable {}

#[derive(Clone, Copy, Debug)]
enum Evil {
    Bomb,
    Unspeakable,
}

impl Codec<Event> for Evil {
    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), CodecError> {
        JsonCodec.encode(event, out)
    }

    fn decode(&self, payload: &Bytes, headers: &Headers) -> Result<Event, CodecError> {
        let event: Event = Codec::<Event>::decode(&JsonCodec, payload, headers)?;
        match self {
            _ if event.number != 13 => Ok(event),
            Self::Bomb => std::panic::panic_any(Bomb),
            Self::Unspeakable => Err(CodecError::new(Unspeakable)),
        }
    }
}

/// Reads through panics of `poll`, a few of them.
async fn read_through(consumer: &mut Box<dyn EventConsumer<Event>>) -> (Vec<u64>, usize) {
    let (mut seen, mut panics) = (Vec::new(), 0);
    for _ in 0..10 {
        match AssertUnwindSafe(consumer.poll(100, SHORT)).catch_unwind().await {
            Ok(Ok(batch)) => seen.extend(batch.into_events().map(|event| event.number)),
            Ok(Err(_)) => {}
            Err(payload) => {
                std::mem::forget(payload);
                panics += 1;
            }
        }
    }
    (seen, panics)
}

async fn evil(codec: Evil, policy: PoisonPolicy) -> (Vec<u64>, usize) {
    let (log, _, broker) = open().await;
    for number in [1, 2, 13, 3] {
        append(&log, 0, [number]).await;
    }
    append(&log, 1, [4, 5]).await;
    let reader = event_log_memory::builder().broker(&broker).partitions(2).codec(codec).open().await.unwrap();
    let mut consumer = reader.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    let (mut seen, panics) = read_through(&mut consumer).await;
    seen.sort_unstable();
    (seen, panics)
}

/// A dead-letter log of the caller's that panics, once or always.
struct Panicking {
    inner: MemoryLog<DeadLetter>,
    always: bool,
    done: AtomicBool,
}

#[async_trait]
impl EventLog<DeadLetter> for Panicking {
    fn submit(&self, event: DeadLetter) -> Result<Ticket<DeadLetter>, SubmitError<DeadLetter>> {
        assert!(self.done.swap(true, Ordering::SeqCst) && !self.always, "a fault of the caller");
        self.inner.submit(event)
    }
    async fn append(&self, event: DeadLetter) -> Result<Receipt<DeadLetter>, AppendError<DeadLetter>> {
        self.inner.append(event).await
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

/// An error that panics when it is dropped, unless that would abort.
#[derive(Debug)]
struct Grenade(Arc<AtomicBool>);

impl fmt::Display for Grenade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a grenade")
    }
}

impl std::error::Error for Grenade {}

impl Drop for Grenade {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || self.0.swap(true, Ordering::SeqCst), "dropping the error panics");
    }
}

/// Fails for the number 13, with a grenade the first time.
#[derive(Debug, Default)]
struct Armed(Arc<AtomicBool>);

impl Codec<Event> for Armed {
    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), CodecError> {
        JsonCodec.encode(event, out)
    }

    fn decode(&self, payload: &Bytes, headers: &Headers) -> Result<Event, CodecError> {
        let event: Event = Codec::<Event>::decode(&JsonCodec, payload, headers)?;
        if event.number == 13 { Err(CodecError::new(Grenade(Arc::clone(&self.0)))) } else { Ok(event) }
    }
}

async fn through_a_grenade(policy: PoisonPolicy) -> Vec<u64> {
    let (log, _, broker) = open().await;
    for number in [1, 2, 13, 3] {
        append(&log, 0, [number]).await;
    }
    append(&log, 1, [4, 5]).await;
    let reader = event_log_memory::builder().broker(&broker).partitions(2).codec(Armed::default());
    let reader = reader.open().await.unwrap();
    let mut consumer = reader.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let poll = AssertUnwindSafe(consumer.poll(100, SHORT)).catch_unwind().await;
        if let Ok(Ok(batch)) = poll {
            for notice in batch.notices {
                drop(std::panic::catch_unwind(AssertUnwindSafe(|| drop(notice))));
            }
            seen.extend(
                batch.records.into_iter().filter_map(|record| record.event.ok()).map(|event| event.number),
            );
        }
    }
    seen.sort_unstable();
    seen
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

#[tokio::test(start_paused = true)]
async fn l7_a_panic_of_the_codec_whose_payload_panics_is_a_poisoned_record() {
    assert_eq!(evil(Evil::Bomb, PoisonPolicy::Skip).await, (vec![1, 2, 3, 4, 5], 0));
}

#[tokio::test(start_paused = true)]
async fn l7_an_error_of_the_codec_that_cannot_be_shown_is_parked() {
    let letters = event_log_memory::builder::<DeadLetter>().partitions(1).open().await.unwrap();
    let parked = evil(Evil::Unspeakable, PoisonPolicy::Park(Arc::new(letters))).await;
    assert_eq!(parked, (vec![1, 2, 3, 4, 5], 0));
}

#[tokio::test(start_paused = true)]
async fn l7_a_dead_letter_log_that_panics_keeps_its_partition_alone_waiting() {
    for always in [false, true] {
        let (log, faults, _broker) = open().await;
        faults.append_foreign(PartitionId(0), "garbage").unwrap();
        append(&log, 0, [1]).await;
        append(&log, 1, [2]).await;
        let inner = event_log_memory::builder().partitions(1).open().await.unwrap();
        let letters = Panicking { inner, always, done: AtomicBool::new(false) };
        let options = ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::new(letters)));
        let mut consumer = log.consumer_with("g", options).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..10 {
            let polled = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await;
            if let Ok(Ok(batch)) = polled {
                seen.extend(batch.into_events().map(|event| event.number));
            }
        }
        seen.sort_unstable();
        assert!(seen.contains(&2), "always: {always}: the other partition is hidden: {seen:?}");
        assert!(always || seen.contains(&1), "one panic stopped the partition for good: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn l7_an_error_of_the_codec_that_cannot_be_shown_is_skipped_or_halts() {
    assert_eq!(evil(Evil::Unspeakable, PoisonPolicy::Skip).await, (vec![1, 2, 3, 4, 5], 0));
    assert_eq!(evil(Evil::Unspeakable, PoisonPolicy::Halt).await, (vec![1, 2, 4, 5], 0));
}

#[tokio::test(start_paused = true)]
async fn l7_a_dead_letter_log_that_always_panics_hides_no_other_partition() {
    let (log, faults, _broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    let inner = event_log_memory::builder().partitions(1).open().await.unwrap();
    let letters = Panicking { inner, always: true, done: AtomicBool::new(false) };
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::new(letters)));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let mut seen = Vec::new();
    for number in 0..5 {
        append(&log, 1, [number]).await;
        let polled = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await;
        if let Ok(Ok(batch)) = polled {
            seen.extend(batch.into_events().map(|event| event.number));
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn l7_an_error_of_the_codec_that_panics_when_it_is_dropped_loses_no_record_when_parked() {
    let letters = event_log_memory::builder::<DeadLetter>().partitions(1).open().await.unwrap();
    assert_eq!(through_a_grenade(PoisonPolicy::Park(Arc::new(letters))).await, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn l7_an_error_of_the_codec_that_panics_when_it_is_dropped_loses_no_record_when_halting() {
    let seen = through_a_grenade(PoisonPolicy::Halt).await;
    assert_eq!(seen, [1, 2, 4, 5]);
}

#[test]
fn l7_a_waker_that_panics_when_a_poll_times_out_harms_no_other() {
    let runtime = one_worker();
    let (log, faults, _broker) = runtime.block_on(open());
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    let evil = Arc::new(EvilWaker::default());
    let waker = Waker::from(Arc::clone(&evil));
    let mut poll = consumer.poll(1, Duration::from_millis(200));
    for _ in 0..50 {
        assert!(poll.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    evil.armed.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(500));
    assert!(evil.woken.load(Ordering::SeqCst), "the timeout was told");
    drop(poll);
    // The event of another caller, through an outage that takes a timer.
    faults.disconnect();
    let ticket = log.submit(event(0, 1)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    faults.reconnect();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        sender.send(other.block_on(ticket).is_ok())
    });
    let acked = receiver.recv_timeout(Duration::from_secs(6));
    std::mem::forget(runtime);
    assert_eq!(acked, Ok(true), "the event of another caller is stuck");
}
