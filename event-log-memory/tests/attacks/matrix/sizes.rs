//! Every number that comes in, at its edges: a typed error or the right behaviour, and no panic.

use std::time::Duration;

use event_log_core::{
    AppendErrorKind, ConsumerOptions, Cursor, Error, EventConsumer as _, EventLog as _, EventLogExt as _,
    Offset, Overflow, PartitionId, Position, ProducerConfig, Receipt, SeekPosition, SubmitErrorKind,
    Timestamp, limits,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};

use crate::fixture::{Event, HOUR, SECOND, SHORT, append, event, open, open_with, read_all, starting_at};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Connected,
    Away,
    /// The connection is there again, and what was sent before is read back.
    Recovering,
}

const LINKS: [Link; 3] = [Link::Connected, Link::Away, Link::Recovering];

async fn bring(link: Link, log: &MemoryLog<Event>, faults: &Faults) {
    match link {
        Link::Connected => {}
        Link::Away => {
            faults.disconnect();
            log.state().wait_for(|state| !state.is_connected()).await;
        }
        Link::Recovering => {
            faults.lose_replies(1);
            drop(log.submit(event(0, u64::MAX)).expect("it is taken"));
            log.state().wait_for(|state| !state.is_connected()).await;
            faults.reconnect();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_takes_any_count_and_any_timeout() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    for timeout in [Duration::ZERO, Duration::from_nanos(1), SECOND, limits::LONGEST_WAIT, Duration::MAX] {
        for count in [0, 1, 9, 10, 11, limits::FETCH_RECORDS, limits::FETCH_RECORDS + 1, usize::MAX] {
            let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
            // A count of zero has nothing to wait for.
            let polled = tokio::time::timeout(HOUR, consumer.poll(count, timeout)).await;
            match polled {
                Ok(Ok(batch)) => {
                    assert!(batch.len() <= count, "{count} {timeout:?}");
                    assert!(
                        count == 0 || batch.len() == count.min(10),
                        "{count} {timeout:?}: {}",
                        batch.len()
                    );
                }
                Ok(Err(Error::InvalidArgument { .. })) => assert_eq!(count, 0),
                Ok(Err(error)) => panic!("{count} {timeout:?}: {error}"),
                Err(_) => assert!(count == 0 && timeout > HOUR, "{count} {timeout:?} hangs"),
            }
            assert_eq!(
                read_all(&mut consumer).await.0.len(),
                10_usize.saturating_sub(count),
                "{count} {timeout:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_seek_takes_any_number() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    for (count, rest) in [(0, 0), (1, 1), (9, 9), (10, 10), (11, 10), (limits::FROM_END_RECORDS, 10)] {
        consumer.seek(SeekPosition::FromEnd(count)).await.unwrap();
        assert_eq!(read_all(&mut consumer).await.0.len(), rest, "the last {count}");
    }
    for count in [limits::FROM_END_RECORDS + 1, usize::MAX] {
        match consumer.seek(SeekPosition::FromEnd(count)).await {
            Ok(()) => assert_eq!(read_all(&mut consumer).await.0.len(), 10, "the last {count}"),
            Err(Error::InvalidArgument { .. }) => {}
            Err(error) => panic!("{count}: {error}"),
        }
    }
    for (time, rest) in [(0, 10), (1, 10), (u64::MAX - 1, 0), (u64::MAX, 0)] {
        consumer.seek(SeekPosition::Timestamp(Timestamp(time))).await.unwrap();
        assert_eq!(read_all(&mut consumer).await.0.len(), rest, "from {time}");
    }
    for partition in [2, 3, u32::MAX] {
        let nowhere = Position::new(PartitionId(partition), Offset::ZERO);
        let sought = consumer.seek(SeekPosition::Position(nowhere)).await;
        assert!(matches!(sought, Err(Error::InvalidArgument { .. })), "{partition}: {sought:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_offset_is_reached_or_told_to_be_beyond_the_end() {
    for as_start in [false, true] {
        for offset in [0, 1, 9, 10, 11, u64::MAX - 1, u64::MAX] {
            let (log, ..) = open().await;
            append(&log, 0, 0..10).await;
            let cursor: Cursor = [(PartitionId(0), Offset(offset))].into_iter().collect();
            let to = SeekPosition::Cursor(cursor);
            let mut consumer = if as_start {
                log.consumer_with("g", starting_at(to)).await.unwrap()
            } else {
                let mut consumer = log.consumer("g").await.unwrap();
                consumer.seek(to).await.unwrap();
                consumer
            };
            let (seen, notices) = read_all(&mut consumer).await;
            let is_beyond = offset > 10;
            let expected = if is_beyond { (0..10).collect() } else { (offset..10).collect::<Vec<_>>() };
            assert_eq!(seen, expected, "{offset}, start: {as_start}, {notices:?}");
            let told =
                notices.iter().any(|notice| matches!(notice, event_log_core::Notice::Truncated { .. }));
            assert_eq!(told, is_beyond, "{offset}, start: {as_start}, {notices:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_beyond_what_was_delivered_stores_nothing() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(5, SHORT).await.unwrap().len(), 5);
    for offset in [6, 10, 11, u64::MAX - 1, u64::MAX] {
        let cursor: Cursor = [(PartitionId(0), Offset(offset))].into_iter().collect();
        assert!(consumer.commit(&cursor).await.is_err(), "{offset}");
        assert_eq!(log.lag("g").await.unwrap().total(), 10, "{offset}");
    }
    consumer.commit(&Cursor::new()).await.unwrap();
    let cursor: Cursor = [(PartitionId(0), Offset(5))].into_iter().collect();
    consumer.commit(&cursor).await.unwrap();
    assert_eq!(log.lag("g").await.unwrap().total(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_group_has_bounds() {
    let (log, ..) = open().await;
    for bytes in
        [0, 1, limits::GROUP_NAME_BYTES - 1, limits::GROUP_NAME_BYTES, limits::GROUP_NAME_BYTES + 1, 1 << 20]
    {
        let opened = log.consumer(&"g".repeat(bytes)).await.map(drop);
        let is_legal = (1..=limits::GROUP_NAME_BYTES).contains(&bytes);
        match opened {
            Ok(()) => assert!(is_legal, "{bytes}"),
            Err(Error::InvalidArgument { .. }) => assert!(!is_legal, "{bytes}"),
            Err(error) => panic!("{bytes}: {error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_length_of_an_event_has_a_bound_in_every_state() {
    let encoded = |number| serde_json::to_vec(&event(0, number)).unwrap().len();
    let limit = encoded(u64::MAX);
    for link in LINKS {
        for over in [0_usize, 1] {
            let mut config = ProducerConfig::default();
            config.max_event_bytes = limit - over;
            // What recovers needs a short event.
            let (log, faults, _broker) = open_with(config).await;
            if link != Link::Recovering || over == 0 {
                bring(link, &log, &faults).await;
            }
            let fits = over == 0;
            let submitted = log.submit(event(0, u64::MAX));
            assert_eq!(submitted.is_ok(), fits, "{link:?}");
            if let Err(error) = &submitted {
                assert!(
                    matches!(error.kind, SubmitErrorKind::TooLarge { bytes, .. } if bytes == limit),
                    "{error:?}"
                );
            }
            let batch = log.append_batch(vec![event(0, 1), event(0, u64::MAX), event(0, 2)]);
            let batch = tokio::time::timeout(HOUR, batch).await.expect("it ends");
            assert_eq!(batch.is_ok(), fits, "{link:?}");
            faults.reconnect();
            log.flush().await.unwrap();
            let mut consumer = log.consumer("g").await.unwrap();
            let before = usize::from(link == Link::Recovering && fits);
            let seen = read_all(&mut consumer).await.0;
            assert_eq!(seen.len(), if fits { 4 + before } else { 0 }, "{link:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_any_length_is_taken_whole_or_not_at_all() {
    for link in LINKS {
        for overflow in [Overflow::DropOldest, Overflow::Reject, Overflow::Block { deadline: SECOND }] {
            for length in [0, 1, 9, 10, 11, 1_000] {
                let mut config = ProducerConfig::default();
                (config.buffer_events, config.overflow) = (10, overflow);
                let (log, faults, _broker) = open_with(config).await;
                bring(link, &log, &faults).await;
                let name = format!("{link:?} {overflow:?} {length}");
                let events = (0..length).map(|number| event(0, number)).collect();
                let appended = tokio::time::timeout(HOUR, log.append_batch(events)).await.expect(&name);
                assert!(log.state().current().buffered <= 11, "{name}: {:?}", log.state().current());
                if link == Link::Away {
                    assert_eq!(appended.is_ok(), length <= 10, "{name}");
                }
                let is_taken = match appended {
                    Ok(receipts) => {
                        assert_eq!(receipts.len() as u64, length, "{name}");
                        assert!(link != Link::Away || receipts.iter().all(Receipt::is_buffered), "{name}");
                        true
                    }
                    Err(error) => {
                        let outcomes = error.into_outcomes();
                        assert_eq!(outcomes.len() as u64, length, "{name}");
                        let is_refused =
                            |kind: &AppendErrorKind| matches!(kind, AppendErrorKind::Rejected(_));
                        let refused =
                            outcomes.iter().filter(|one| one.as_ref().is_err_and(|e| is_refused(e.kind())));
                        assert_eq!(refused.count() as u64, length, "{name}: all of them or none");
                        false
                    }
                };
                faults.reconnect();
                log.flush().await.unwrap();
                let mut consumer = log.consumer("g").await.unwrap();
                let seen = read_all(&mut consumer).await.0;
                let of_batch = seen.iter().filter(|&&number| number < u64::MAX).count() as u64;
                assert_eq!(of_batch, if is_taken { length } else { 0 }, "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_in_events_or_bytes_may_be_as_small_or_as_large_as_it_is() {
    let bytes = serde_json::to_vec(&event(0, 7)).unwrap().len();
    for link in LINKS {
        for small in [1, bytes - 1, bytes, bytes + 1, usize::MAX] {
            for what in ["request_events", "request_bytes", "buffer_events", "buffer_bytes"] {
                let mut config = ProducerConfig::default();
                config.max_event_bytes = 64;
                match what {
                    "request_events" => config.request_events = small,
                    "request_bytes" => config.request_bytes = small,
                    "buffer_events" => config.buffer_events = small,
                    _ => config.buffer_bytes = small.max(64),
                }
                let (log, faults, _broker) = open_with(config).await;
                bring(link, &log, &faults).await;
                let name = format!("{link:?}, {what} = {small}");
                let tickets: Vec<_> = (0..20).map(|_| log.submit(event(0, 7))).collect();
                faults.reconnect();
                let mut acknowledged = 0;
                for ticket in tickets {
                    match ticket {
                        Ok(ticket) => match tokio::time::timeout(HOUR, ticket).await.expect(&name) {
                            Ok(_) => acknowledged += 1,
                            Err(error) => {
                                assert!(
                                    matches!(error.kind(), AppendErrorKind::Dropped),
                                    "{name}: {error:?}"
                                );
                            }
                        },
                        Err(error) => {
                            assert!(matches!(error.kind, SubmitErrorKind::Full), "{name}: {error:?}");
                        }
                    }
                }
                assert!(acknowledged > 0 || link == Link::Recovering, "{name}");
                log.append_acked(event(0, 8)).await.expect(&name);
                let mut consumer = log.consumer("g").await.unwrap();
                let seen = read_all(&mut consumer).await.0;
                assert_eq!(seen.iter().filter(|&&number| number == 7).count(), acknowledged, "{name}");
            }
        }
    }
}

type Change = fn(&mut ProducerConfig);

#[tokio::test(start_paused = true)]
async fn a_setting_that_is_zero_is_refused_by_name() {
    let settings: [(&str, Change); 5] = [
        ("max_event_bytes", |config| config.max_event_bytes = 0),
        ("buffer_events", |config| config.buffer_events = 0),
        ("buffer_bytes", |config| config.buffer_bytes = 0),
        ("request_events", |config| config.request_events = 0),
        ("request_bytes", |config| config.request_bytes = 0),
    ];
    for (setting, change) in settings {
        let mut config = ProducerConfig::default();
        change(&mut config);
        let opened = event_log_memory::builder::<Event>().config(config).open().await.map(drop);
        assert!(matches!(opened, Err(Error::InvalidArgument { name, .. }) if name == setting), "{setting}");
    }
    for partitions in [0, 1, 1_000] {
        let broker = MemoryBroker::new();
        let opened = event_log_memory::builder::<Event>().broker(&broker).partitions(partitions).open().await;
        match opened {
            Ok(log) => drop(log.append_acked(event(0, 1)).await.unwrap()),
            Err(Error::InvalidArgument { .. }) => assert_eq!(partitions, 0),
            Err(error) => panic!("{partitions}: {error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_duration_may_be_zero_or_the_longest_there_is() {
    for link in LINKS {
        for length in [Duration::ZERO, Duration::from_nanos(1), limits::LONGEST_WAIT, Duration::MAX] {
            let name = format!("{link:?} {length:?}");
            let mut config = ProducerConfig::default();
            (config.expiry, config.overflow) = (Some(length), Overflow::Block { deadline: length });
            config.buffer_events = 1;
            let (log, faults, _broker) = open_with(config).await;
            // An event that expires at once leaves nothing to read back.
            if link != Link::Recovering {
                bring(link, &log, &faults).await;
            }
            let first = log.append(event(0, 1)).await;
            let second = tokio::time::timeout(SECOND, log.append(event(0, 2))).await;
            if link == Link::Away && length > SECOND {
                assert!(second.is_err(), "{name}: it waits for space");
            }
            faults.reconnect();
            if let Ok(receipt) = first {
                let outcome = tokio::time::timeout(HOUR, receipt.acked()).await.expect(&name);
                let is_expired = |kind: &AppendErrorKind| matches!(kind, AppendErrorKind::Expired(_));
                assert!(
                    outcome.is_ok() || length < SECOND && is_expired(outcome.unwrap_err().kind()),
                    "{name}"
                );
            }
            tokio::time::timeout(HOUR, log.close(length)).await.expect(&name).ok();
            assert!(log.state().current().is_closed(), "{name}");
        }
    }
}
