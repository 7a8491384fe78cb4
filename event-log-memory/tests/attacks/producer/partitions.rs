//! One partition that is busy, or that cannot be read back, beside others; and one that begins again meanwhile.

use event_log_core::{
    EventLog as _, EventLogExt as _, PartitionId, Partitionable, ProducerConfig, RawCodec, RawEvent,
    partition_of,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog, Retention};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Serialize, Deserialize)]
struct Event(u32, u64);

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        ["a", "b", "c", "d", "e"].into_iter().find(|key| partition_of(key, 2).0 == self.0)
    }
}

async fn open(retention: Retention) -> (MemoryLog<Event>, MemoryLog<Event>, Faults, MemoryBroker) {
    let broker = MemoryBroker::new();
    let builder = || {
        let mut config = ProducerConfig::default();
        config.request_events = 1;
        event_log_memory::builder::<Event>().broker(&broker).partitions(2).retention(retention).config(config)
    };
    let (log, other) = (builder().open().await.unwrap(), builder().open().await.unwrap());
    let faults = broker.faults("events").unwrap();
    (log, other, faults, broker)
}

/// The request of partition 0 is lost: the one of partition 1 that goes before it is answered.
async fn lose(log: &MemoryLog<Event>, faults: &Faults, number: u64) -> event_log_core::Ticket<Event> {
    let ticket = log.submit(Event(0, number)).unwrap();
    loop {
        // Until its own request is under way, a tenth of a second before it is answered.
        let before = log.state().current().buffered;
        sleep(Duration::from_millis(10)).await;
        if log.state().current().buffered < before {
            break;
        }
    }
    sleep(Duration::from_millis(20)).await;
    faults.lose_requests(1);
    ticket
}

/// a17: "retention before the first open request makes no outcome unknown".
#[tokio::test(start_paused = true)]
async fn a17_retention_while_another_partition_is_busy_makes_no_outcome_unknown() {
    let (log, other, faults, broker) = open(Retention::records(50)).await;
    faults.slow_appends(Duration::from_millis(1));
    log.append_acked(Event(0, 0)).await.unwrap();
    faults.slow_appends(Duration::from_millis(100));
    for number in 0..300 {
        drop(log.submit(Event(1, number)).unwrap());
    }
    sleep(SECOND).await;
    // Others append a hundred, of which fifty are kept.
    faults.slow_appends(Duration::ZERO);
    for number in 0..100 {
        other.append_acked(Event(0, 1_000 + number)).await.unwrap();
    }
    faults.slow_appends(Duration::from_millis(100));
    sleep(2 * SECOND).await;
    let ticket = lose(&log, &faults, 1).await;
    let outcome = timeout(HOUR, ticket).await.unwrap();
    let there = broker.contents("events").iter().filter(|content| content.position.partition.0 == 0).count();
    assert!(outcome.is_ok(), "{:?}, {there}", outcome.unwrap_err().kind());
}

/// ARCHITECTURE, 8: "Partitions do not wait for one another." a7: "a failure half way through loses nothing".
#[tokio::test(start_paused = true)]
async fn a7_a_partition_that_cannot_be_read_back_keeps_no_other_away() {
    let (log, _other, faults, _broker) = open(Retention::FOREVER).await;
    faults.fail_fetches(event_log_core::PartitionId(0), usize::MAX);
    faults.lose_replies(1);
    let _stuck = log.submit(Event(0, 1)).unwrap();
    sleep(SECOND).await;
    let outcome = timeout(HOUR, log.append_acked(Event(1, 1))).await;
    assert!(outcome.is_ok(), "nothing of partition 1 for an hour: {:?}", log.state().current());
}

/// `append_all`: "After a failure nothing more is drawn: the rest is still in `events`."
#[tokio::test(start_paused = true)]
async fn a11_append_all_draws_nothing_after_an_event_has_failed() {
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    (config.request_events, config.expiry) = (1, Some(30 * SECOND));
    let log: MemoryLog<Event> =
        event_log_memory::builder().broker(&broker).partitions(2).config(config).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    faults.slow_appends(Duration::from_millis(100));
    // What waits for longer than half a minute comes back: with ten a second, whatever is behind the first three hundred.
    let mut drawn = Vec::new();
    let start = tokio::time::Instant::now();
    let mut events = (0..100_000).map(|number| {
        drawn.push(start.elapsed());
        Event(0, number)
    });
    let error = timeout(HOUR, log.append_all(&mut events)).await.unwrap().unwrap_err();
    drop(events);
    let late = drawn.iter().filter(|&&at| at > 31 * SECOND).count();
    assert_eq!(
        late,
        0,
        "drawn after the first had failed, {} appended, {}",
        error.appended,
        error.failures.len()
    );
}

const MINUTES: Duration = Duration::from_secs(300);

fn event(text: &str) -> RawEvent {
    RawEvent::new("k".to_owned(), text.to_owned())
}

/// a4: "no ticket stays pending for ever". The topic is purged while a request is read back; `acked` events before.
async fn begins_again(acked: usize, lose_request: bool) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().codec(RawCodec).broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    for n in 0..acked {
        log.append_acked(event(&format!("before {n}"))).await.unwrap();
    }
    if lose_request {
        faults.lose_requests(1);
    } else {
        faults.lose_replies(1);
    }
    faults.fail_fetches(PartitionId(0), 1);
    let ticket = log.submit(event("lost")).unwrap();
    sleep(Duration::from_millis(10)).await;
    // Others append, so that there is something to read back.
    faults.append_foreign(PartitionId(0), "another").unwrap();
    while log.state().current().reconnects == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // The first fetch has failed, and is made again.
    faults.begin_again();
    let outcome = timeout(MINUTES, ticket).await;
    assert!(outcome.is_ok(), "pending after five minutes: {:?}", log.state().current());
    let next = timeout(MINUTES, log.append_acked(event("next"))).await;
    assert!(next.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a4_a_reply_is_lost_and_the_log_begins_again_while_it_is_read_back() {
    begins_again(5, false).await;
}

#[tokio::test(start_paused = true)]
async fn a4_a_request_is_lost_and_the_log_begins_again_while_it_is_read_back() {
    begins_again(5, true).await;
}

#[tokio::test(start_paused = true)]
async fn a4_nothing_was_acknowledged_and_the_log_begins_again_while_it_is_read_back() {
    begins_again(0, false).await;
}

/// a4, a7: the reply to a request of partition 0 is lost, and one fetch fails; from then on requests are lost, and fetches are
/// answered. The event is in the log, which one fetch would show.
#[tokio::test(start_paused = true)]
async fn a4_an_event_that_is_in_the_log_is_found_although_requests_are_lost() {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder::<Event>().broker(&broker).partitions(2).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    sleep(Duration::from_millis(10)).await;
    faults.lose_replies(1);
    faults.fail_fetches(PartitionId(0), 1);
    let ours = log.submit(Event(0, 0)).unwrap();
    log.state().wait_for(|state| !state.is_connected()).await;
    faults.lose_requests(usize::MAX);
    let _other = log.submit(Event(1, 1)).unwrap();
    let outcome = timeout(HOUR, ours).await;
    assert!(outcome.is_ok(), "pending after an hour: {:?}", log.state().current());
}
