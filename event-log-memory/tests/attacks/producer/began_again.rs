//! A partition that begins again, or is purged, before a request.

use crate::producing::{HOUR, Numbered};
use event_log_core::{EventLog as _, EventLogExt as _};
use event_log_memory::{MemoryBroker, MemoryLog, Retention};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// An answer without records is no proof of anything, says the contract of the transport.
#[tokio::test(start_paused = true)]
async fn a8_an_empty_answer_does_not_hide_that_a_partition_began_again() {
    began_again(true, 1).await;
}

/// The control.
#[tokio::test(start_paused = true)]
async fn a8_a_partition_that_began_again_is_known_by_what_was_acknowledged() {
    began_again(true, 0).await;
}

async fn began_again(by_queue: bool, empty: usize) {
    {
        let broker = MemoryBroker::new();
        let log: MemoryLog<Numbered> =
            event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
        let other: MemoryLog<Numbered> =
            event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
        let faults = broker.faults("events").unwrap();
        for number in 0..10 {
            log.append_acked(Numbered(number)).await.unwrap();
        }
        faults.slow_appends(Duration::from_millis(100));
        if by_queue {
            // Through the queue, so that the writer knows a record of the partition.
            log.append_acked(Numbered(10)).await.unwrap();
        }
        faults.lose_replies(1);
        let ticket = log.submit(Numbered(100)).unwrap();
        sleep(Duration::from_millis(50)).await;
        // The request is on its way.
        faults.begin_again();
        sleep(Duration::from_millis(100)).await;
        faults.slow_appends(Duration::ZERO);
        for number in 1_000..1_100 {
            other.append_acked(Numbered(number)).await.unwrap();
        }
        faults.empty_fetches(empty);
        let outcome = timeout(HOUR, ticket).await.unwrap();
        let copies = crate::producing::numbers(&broker).into_iter().filter(|&number| number == 100).count();
        assert_eq!(copies, 1, "{empty} empty answers: {outcome:?}");
    }
}

/// The same with a partition that was purged by an operator (the offsets go on), and one whose records expired.
#[tokio::test(start_paused = true)]
async fn a17_a_purge_before_the_request_makes_no_outcome_unknown() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder().broker(&broker).partitions(1).retention(Retention::records(5));
    let log: MemoryLog<Numbered> = builder.open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    for number in 0..10 {
        log.append_acked(Numbered(number)).await.unwrap();
    }
    faults.purge();
    faults.lose_requests(1);
    log.append_acked(Numbered(100)).await.unwrap();
}
