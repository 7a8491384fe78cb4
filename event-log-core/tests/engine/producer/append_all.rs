//! `append_all` and the state, beside what earlier attempts have looked at.

use std::sync::Arc;
use std::time::Duration;

use crate::served::{Fate, HOUR, MS, PARTITIONS, Scripted, Server, alone, event};
use event_log_core::engine::LogBuilder;
use event_log_core::{
    EventLog as _, EventLogExt as _, JsonCodec, Partitionable, ProducerConfig, partition_of,
};
use serde::Serialize;
use tokio::time::{sleep, timeout};

#[derive(Debug, Serialize)]
struct Padded {
    partition: u32,
    number: u64,
    padding: String,
}

impl Partitionable for Padded {
    fn partition_key(&self) -> Option<&str> {
        let mut keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].into_iter();
        keys.find(|key| partition_of(key, PARTITIONS).0 == self.partition)
    }
}

/// `append_all`: "While the log is away it is one at a time, so that none of them drops another out of the reconnect buffer."
/// The event that was handed over last went to another partition and is in the log already when the connection is lost.
#[tokio::test(start_paused = true)]
async fn a5_append_all_drops_none_of_its_own_events() {
    let server = Server::new(true, 1);
    let mut config = alone();
    (config.max_event_bytes, config.buffer_bytes) = (1_000, 1_000);
    let transport = Arc::new(Scripted(server.clone()));
    let log = LogBuilder::new(Arc::new(JsonCodec)).config(config).open(transport).await.unwrap();
    sleep(MS).await;
    let padded = |partition, number, padding| Padded { partition, number, padding: "x".repeat(padding) };
    for fate in [Fate::Confirmed(10), Fate::Confirmed(10), Fate::Lost] {
        server.fate(0, fate);
    }
    // Nine short events of partition 0, one of partition 1, and a long one.
    let short = (0..9).map(|number| padded(0, number, 50));
    let mut events = short.chain([padded(1, 9, 50), padded(0, 10, 800), padded(0, 11, 50)]);
    let reconnects = tokio::spawn({
        let server = server.clone();
        async move {
            server.state.lock().refuses_connections = true;
            sleep(Duration::from_secs(60)).await;
            server.state.lock().refuses_connections = false;
        }
    });
    let appended = timeout(HOUR, log.append_all(&mut events)).await.unwrap();
    reconnects.await.unwrap();
    let dropped = log.state().current().dropped;
    assert!(
        appended.is_ok() && dropped == 0,
        "{appended:?}, {dropped} dropped, in the log: {:?}",
        server.numbers(0)
    );
}

/// The first of the events that failed says whether it is worth while to append them again.
#[tokio::test(start_paused = true)]
async fn a4_append_all_says_whether_to_try_again() {
    let server = Server::new(true, 1);
    let log = server.open(alone()).await;
    server.fate(0, Fate::Refused);
    let refused = log.append_all(&mut [event(0, 0), event(0, 1)].into_iter()).await.unwrap_err();
    assert_eq!((refused.failures.len(), refused.appended), (1, 1));
    assert!(!refused.is_retryable() && !refused.may_have_taken_effect());
    let mut config = alone();
    config.expiry = Some(Duration::from_secs(1));
    let log = server.open(config).await;
    server.state.lock().down = true;
    let expired = log.append_all(&mut [event(0, 2)].into_iter()).await.unwrap_err();
    assert!(expired.is_retryable() && !expired.may_have_taken_effect(), "{expired:?}");
}

/// `StateReceiver::changed`: "Waits until the state has changed since this receiver has waited for one last".
#[tokio::test(start_paused = true)]
async fn a_new_receiver_is_told_of_no_change_that_was_before_it() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::Confirmed(60_000));
    let _tickets = [0, 1, 2].map(|number| log.submit(event(0, number)).unwrap());
    sleep(MS).await;
    let mut state = log.state();
    let before = state.current();
    let changed = timeout(Duration::from_secs(10), state.changed()).await;
    if let Ok(Some(after)) = changed {
        assert!(before != after, "nothing has changed: {before:?}");
    }
}
