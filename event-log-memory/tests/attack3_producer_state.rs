//! New attempts to break the producing side: what state, tickets and settings say.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod attack_producing;

use std::time::Duration;

use attack_producing::{Numbered, SECOND, begin, config, cut, open};
use event_log_core::{EventLog as _, ReconnectPolicy};

/// l8: "No number of a caller, a configuration or a server is used for an allocation or a sum unchecked".
#[test]
fn l8_a_policy_with_the_longest_waits_says_how_long_it_waits() {
    let policy = ReconnectPolicy::new(Duration::MAX, Duration::MAX);
    assert_eq!(policy.wait(0, 0), event_log_core::limits::LONGEST_WAIT);
}

#[test]
fn l8_a_policy_with_any_jitter_says_how_long_it_waits() {
    let mut policy = ReconnectPolicy::new(Duration::from_secs(1), Duration::from_secs(1));
    policy.jitter_percent = u32::MAX;
    assert_eq!(policy.wait(0, u32::MAX), Duration::ZERO);
    assert_eq!(policy.wait(u32::MAX, 0), Duration::from_secs(1));
}

/// A flush that was begun before the log closes and ends after; and tickets are resolved then.
#[tokio::test(start_paused = true)]
async fn a_flush_of_a_log_that_closes_meanwhile_ends_when_the_tickets_are_resolved() {
    let (log, faults, _broker) = open(config(|_| ())).await;
    cut(&log, &faults).await;
    let ticket = log.submit(Numbered(1)).unwrap();
    let mut flush = Box::pin(log.flush());
    assert!(begin(&mut flush).is_none());
    let left = log.close(SECOND).await.unwrap_err();
    assert_eq!(left.returned_by_ticket, 1);
    let flushed = begin(&mut flush).expect("at once");
    assert!(flushed.is_err());
    assert!(ticket.try_outcome().expect("it is resolved").is_err());
}

/// l5: no event appears in Debug.
#[test]
fn l5_no_payload_appears_in_debug_output() {
    use bytes::Bytes;
    use event_log_core::engine::{Message, StoredMessage};
    use event_log_core::{EventId, Headers, Offset, RawEvent, Timestamp};
    let payload = Bytes::from_static(b"the-password");
    let id = EventId::from_u128(1);
    let message = Message { id, headers: Headers::new(), payload: payload.clone() };
    let stored = StoredMessage {
        offset: Offset(0),
        id,
        timestamp: Timestamp(0),
        headers: Headers::new(),
        payload: payload.clone(),
    };
    let shown = [
        ("Message", format!("{message:?}")),
        ("StoredMessage", format!("{stored:?}")),
        ("RawEvent", format!("{:?}", RawEvent::new(None, payload))),
    ];
    let leaks: Vec<_> = shown.iter().filter(|(_, text)| text.contains("password")).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
}
