//! New attempts to break the producing side: `append_all`.

use std::time::Duration;

use crate::producing::{HOUR, Numbered, SECOND, begin, config, cut, numbers, open};
use event_log_core::{EventLog as _, EventLogExt as _, Overflow};
use tokio::time::{sleep, timeout};

/// "While the log is away it is one at a time, so that none of them drops another out of the reconnect buffer."
#[test]
fn a5_append_all_drops_none_of_its_own_events_out_of_the_buffer() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (log, faults, broker) =
            open(config(|config| (config.buffer_events, config.overflow) = (10, Overflow::DropOldest))).await;
        faults.slow_appends(HOUR);
        // The one that is in flight.
        let first = log.submit(Numbered(0)).unwrap();
        sleep(Duration::from_millis(50)).await;
        let (inner, fault) = (log.clone(), faults.clone());
        // Where the events come from takes its time, and meanwhile the connection is lost.
        let mut events = (1..=30).map(move |number| {
            if number == 11 {
                fault.slow_appends(Duration::ZERO);
                fault.disconnect();
                while inner.state().current().is_connected() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Numbered(number)
        });
        let reconnecting = tokio::spawn({
            let faults = faults.clone();
            async move {
                sleep(Duration::from_millis(500)).await;
                faults.reconnect();
            }
        });
        let appended = timeout(30 * SECOND, log.append_all(&mut events)).await.expect("it ends");
        reconnecting.await.unwrap();
        first.await.unwrap();
        let state = log.state().current();
        let seen = numbers(&broker);
        assert!(
            appended.is_ok() && state.dropped == 0,
            "{appended:?}, {} dropped, in the log: {seen:?}",
            state.dropped
        );
    });
}

/// "After a failure nothing more is drawn: the rest is still in `events`."
#[tokio::test(start_paused = true)]
async fn a11_append_all_draws_nothing_after_an_event_was_dropped() {
    let (log, faults, _broker) =
        open(config(|config| (config.buffer_events, config.overflow) = (10, Overflow::DropOldest))).await;
    cut(&log, &faults).await;
    let mut events = (0..1_000).map(Numbered);
    let mut all = Box::pin(log.append_all(&mut events));
    assert!(begin(&mut all).is_none());
    let _others: Vec<_> = (2_000..2_020).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    let error = timeout(HOUR, all).await.expect("it ends at once").unwrap_err();
    assert_eq!((error.appended, error.failures.len()), (0, 1));
    assert_eq!(events.count(), 999);
}
