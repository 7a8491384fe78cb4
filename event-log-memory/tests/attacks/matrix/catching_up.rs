//! Catching up ends with what the log has, also when the log began again meanwhile.

use event_log_core::{EventConsumerExt as _, EventLogExt as _};
use futures::StreamExt as _;

use crate::fixture::{HOUR, append, open};

#[tokio::test(start_paused = true)]
async fn catching_up_ends_although_the_log_began_again() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10_000).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut history = consumer.until_caught_up(5);
    history.next().await.unwrap().unwrap();
    faults.begin_again();
    append(&log, 0, [77_777]).await;
    let rest = tokio::time::timeout(HOUR, history.collect::<Vec<_>>()).await.expect("catching up ends");
    let mut numbers = rest
        .into_iter()
        .flatten()
        .flat_map(event_log_core::EventBatch::into_events)
        .map(|event| event.number);
    assert!(numbers.any(|number| number == 77_777), "and it has read the new log");
}
