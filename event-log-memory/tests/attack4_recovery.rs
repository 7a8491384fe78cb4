//! Attempts to break reading back on the reference backend, with its fault switches alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use event_log_core::{EventLog as _, EventLogExt as _, PartitionId, RawCodec, RawEvent};
use event_log_memory::MemoryBroker;
use tokio::time::{sleep, timeout};

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
