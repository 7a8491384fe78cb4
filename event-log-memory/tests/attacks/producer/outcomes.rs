//! What outcomes, state and settings say.

use crate::producing::{HOUR, Numbered, SECOND, begin, config, cut, open};
use event_log_core::{EventLog as _, Overflow, ReconnectPolicy, limits};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::sleep;

/// a18: what is acknowledged can be read; floats of both widths, also where serde keeps them in between.
#[tokio::test]
async fn a18_short_floats_are_read_as_they_were() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t")]
    enum Tagged {
        Short { value: f32 },
        Long { value: f64 },
    }
    use event_log_core::{Codec, Headers, JsonCodec};
    let mut bits = 1_u64;
    for _ in 0..300_000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for event in [
            Tagged::Short { value: f32::from_bits((bits >> 32) as u32) },
            Tagged::Long { value: f64::from_bits(bits) },
        ] {
            let mut out = Vec::new();
            if JsonCodec.encode(&event, &mut out).is_ok() {
                let back: Tagged = JsonCodec.decode(&out.into(), &Headers::new()).unwrap();
                assert_eq!(back, event);
            }
        }
    }
}

/// a6 and a16 for a log that is away with a full buffer that blocks.
#[tokio::test(start_paused = true)]
async fn a16_what_waits_for_space_comes_in_when_the_others_expire_while_away() {
    let config = config(|config| {
        (config.buffer_events, config.expiry) = (2, Some(SECOND));
        config.overflow = Overflow::Block { deadline: HOUR };
    });
    let (log, faults, _broker) = open(config).await;
    cut(&log, &faults).await;
    let old: Vec<_> = (0..2).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    let mut waits: Vec<_> = (2..6).map(|number| Box::pin(log.append(Numbered(number)))).collect();
    for wait in &mut waits {
        assert!(begin(wait).is_none());
    }
    sleep(SECOND + Duration::from_millis(10)).await;
    for ticket in old {
        assert!(ticket.try_outcome().expect("it has expired").is_err());
    }
    let receipts: Vec<_> = waits.iter_mut().map(|wait| begin(wait).is_some()).collect();
    assert_eq!(receipts, [true, true, false, false]);
    assert_eq!(log.state().current().buffered, 2);
    let _ = limits::WARN_INTERVAL;
}

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
