//! New attempts to break the producing side: closing.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod attack_producing;

use std::time::Duration;

use attack_producing::{HOUR, Numbered, SECOND, begin, config, cut, numbers, open};
use event_log_core::{EventLog as _, Overflow};
use tokio::time::{sleep, timeout};

/// `close`: "Errors: With what could not be sent. Each event comes back exactly once: in its ticket's error when somebody
/// holds the ticket, else here."
#[tokio::test(start_paused = true)]
async fn l3_an_event_that_expires_while_closing_and_whose_ticket_nobody_holds_comes_back() {
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
