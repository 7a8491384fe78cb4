//! What closing sends, gives back, and warns about.

use crate::producing::{HOUR, Numbered, SECOND, begin, config, cut, numbers, open};
use event_log_core::{EventLog as _, Overflow};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// `close`: "Errors: With what could not be sent. Each event comes back exactly once: in its ticket's error when somebody
/// holds the ticket, else here."
#[tokio::test(start_paused = true)]
async fn l3_an_event_that_expires_while_closing_and_without_a_ticket_comes_back() {
    let (log, faults, broker) = open(config(|config| config.expiry = Some(SECOND))).await;
    cut(&log, &faults).await;
    drop(log.submit(Numbered(1)).unwrap());
    let closed = timeout(HOUR, log.close(10 * SECOND)).await.unwrap();
    assert!(numbers(&broker).is_empty(), "it was not sent");
    let left = closed.expect_err("close says that all was sent, and the event is nowhere");
    assert_eq!((left.not_appended.len(), left.returned_by_ticket), (1, 0));
}

/// The same with a ticket: "`returned_by_ticket`: How many more events came back through their tickets".
#[tokio::test(start_paused = true)]
async fn l3_an_event_that_expires_while_closing_and_whose_ticket_is_held_is_counted() {
    let (log, faults, _broker) = open(config(|config| config.expiry = Some(SECOND))).await;
    cut(&log, &faults).await;
    let ticket = log.submit(Numbered(1)).unwrap();
    let closed = timeout(HOUR, log.close(10 * SECOND)).await.unwrap();
    assert!(ticket.await.is_err(), "it was not sent");
    let left = closed.expect_err("close says that all was sent");
    assert_eq!(left.returned_by_ticket, 1);
}

/// "Closing again waits for the first close and returns `Ok`."
#[tokio::test(start_paused = true)]
async fn l3_a_second_close_that_is_polled_first_returns_ok_and_the_first_what_was_left() {
    let (log, faults, _broker) = open(config(|_| ())).await;
    cut(&log, &faults).await;
    drop(log.submit(Numbered(1)).unwrap());
    let mut first = Box::pin(log.close(SECOND));
    assert!(begin(&mut first).is_none());
    let mut second = Box::pin(log.close(SECOND));
    assert!(begin(&mut second).is_none());
    sleep(2 * SECOND).await;
    let second = second.await;
    let first = first.await;
    assert!(second.is_ok(), "closing again returns Ok, and not {second:?}; the first got {first:?}");
    assert!(first.is_err());
}

/// A batch whose future is dropped while the log closes: every event comes back from `close`.
#[tokio::test(start_paused = true)]
async fn l3_events_of_a_dropped_batch_come_back_from_close() {
    let (log, faults, _broker) = open(config(|_| ())).await;
    faults.slow_appends(HOUR);
    let mut batch = Box::pin(log.append_batch((0..100).map(Numbered).collect()));
    assert!(begin(&mut batch).is_none());
    sleep(SECOND).await;
    drop(batch);
    let left = log.close(SECOND).await.unwrap_err();
    assert_eq!(left.not_appended.len() + left.unknown.len(), 100);
}

/// Closing while `append` waits for space, in each policy, and while its future is dropped in that moment.
#[tokio::test(start_paused = true)]
async fn l3_an_append_that_waits_for_space_comes_back_when_the_log_closes() {
    for overflow in [Overflow::DropOldest, Overflow::Reject, Overflow::Block { deadline: HOUR }] {
        let (log, faults, _broker) =
            open(config(|config| (config.buffer_events, config.overflow) = (1, overflow))).await;
        faults.slow_appends(HOUR);
        let _one = log.submit(Numbered(1)).unwrap();
        sleep(Duration::from_millis(1)).await;
        let _two = log.submit(Numbered(2)).unwrap();
        let mut waits = Box::pin(log.append(Numbered(3)));
        let mut gone = Box::pin(log.append(Numbered(4)));
        assert!(begin(&mut waits).is_none() && begin(&mut gone).is_none());
        let mut close = Box::pin(log.close(SECOND));
        assert!(begin(&mut close).is_none());
        drop(gone);
        let error = waits.await.unwrap_err();
        assert_eq!(error.event().0, 3);
        let left = close.await.unwrap_err();
        assert_eq!(left.len(), 2, "{overflow:?} {left:?}");
    }
}

/// Counts warnings about events that are given up.
struct Warnings(Arc<AtomicUsize>);

struct Given(bool);

impl tracing::field::Visit for Given {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        self.0 |= field.name() == "message"
            && ["given up", "gave up", "unsent", "not sent", "lost for good"]
                .iter()
                .any(|words| text.contains(words));
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut given = Given(false);
        event.record(&mut given);
        if *event.metadata().level() <= tracing::Level::WARN && given.0 {
            self.0.fetch_add(1, SeqCst);
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// l3: "dropping a log without closing it gives up what is queued, which it warns about"; a5: "never silently lost".
#[tokio::test(start_paused = true)]
async fn l3_what_a_close_that_was_dropped_gives_up_is_warned_about() {
    let count = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Warnings(count.clone()));
    let config = config(|config| {
        (config.reconnect.initial, config.reconnect.max) = (HOUR, HOUR);
    });
    let (log, faults, _broker) = open(config).await;
    cut(&log, &faults).await;
    for number in 0..10 {
        drop(log.submit(Numbered(number)).unwrap());
    }
    let mut close = Box::pin(log.close(Duration::from_millis(10)));
    assert!(begin(&mut close).is_none());
    drop(close);
    let before = count.load(SeqCst);
    drop(log);
    sleep(SECOND).await;
    assert!(count.load(SeqCst) > before, "ten events are given up, and nothing is reported");
}

/// The control: dropped without `close`.
#[tokio::test(start_paused = true)]
async fn l3_what_a_dropped_log_gives_up_is_warned_about() {
    let count = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Warnings(count.clone()));
    let (log, faults, _broker) = open(config(|_| ())).await;
    cut(&log, &faults).await;
    drop(log.submit(Numbered(1)).unwrap());
    drop(log);
    sleep(SECOND).await;
    assert_eq!(count.load(SeqCst), 1);
}

/// l3: "`close` sends what is queued until its deadline and returns the rest", on the log in memory.
#[tokio::test]
async fn l3_close_keeps_its_deadline_although_the_log_takes_everything_at_once() {
    const EVENTS: u64 = 300_000;
    let config = config(|config| (config.buffer_events, config.request_events) = (EVENTS as usize, 1));
    let (log, faults, broker) = open(config).await;
    faults.slow_appends(Duration::from_millis(1));
    for number in 0..EVENTS {
        drop(log.submit(Numbered(number)).unwrap());
    }
    faults.slow_appends(Duration::ZERO);
    let start = std::time::Instant::now();
    let closed = log.close(Duration::from_millis(10)).await;
    let took = start.elapsed();
    let there = broker.contents("events").len();
    assert!(took < SECOND, "{took:?} {closed:?}, {there} in the log");
}

/// A ticket that is dropped by its own waker, an event that is submitted by the waker of another.
#[tokio::test(start_paused = true)]
async fn a4_a_flush_and_a_close_at_the_same_time_end() {
    let (log, faults, _broker) = open(config(|_| ())).await;
    faults.slow_appends(SECOND);
    let tickets: Vec<_> = (0..3).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    let (flushed, closed, flushed_again) = tokio::join!(log.flush(), log.close(HOUR), log.flush());
    assert!(closed.is_ok() && flushed.is_err() && flushed_again.is_err(), "{flushed:?} {flushed_again:?}");
    for ticket in tickets {
        ticket.try_outcome().expect("it is resolved").unwrap();
    }
}
