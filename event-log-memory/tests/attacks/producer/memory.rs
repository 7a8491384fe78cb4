//! Memory that is kept, and partitions that there are not.

use std::time::Duration;

use crate::producing::{Numbered, config};
use event_log_core::{EventLog as _, EventLogExt as _, PartitionId};
use event_log_memory::{MemoryBroker, Retention};

/// l8: "every bound holds for batches as for single events"; l6. What a queue keeps when it is empty again.
#[test]
fn l8_a_queue_that_is_empty_again_keeps_no_memory_of_a_large_batch() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder().broker(&broker).partitions(1).retention(Retention::records(1));
    let log = runtime.block_on(builder.config(config(|config| config.buffer_events = 10)).open()).unwrap();
    runtime.block_on(log.append_acked(Numbered(0))).unwrap();
    let faults = broker.faults("events").unwrap();
    let kept = |count: u64| {
        allocation_counter::measure(|| {
            runtime.block_on(async {
                faults.slow_appends(Duration::from_millis(1));
                drop(log.append_batch((0..count).map(Numbered).collect()).await.unwrap());
                faults.slow_appends(Duration::ZERO);
                log.append_acked(Numbered(0)).await.unwrap();
                assert_eq!(log.state().current().buffered, 0);
            });
        })
        .bytes_current
    };
    let (few, many) = (kept(10), kept(200_000));
    assert!(many < few + 1_000_000, "{few} bytes are kept after ten events, {many} after a batch of 200,000");
}

/// `Faults::append_foreign` says "`None` when there is no such partition"; the others say nothing of a panic.
#[tokio::test]
async fn faults_of_a_partition_that_is_not_there() {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder::<Numbered>().broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let none = PartitionId(9);
    assert!(faults.append_foreign(none, "x").is_none());
    faults.fail_fetches(none, 1);
    let gap = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| faults.skip_offsets(none, 1)));
    drop(log);
    assert!(gap.is_ok(), "it panics");
}
