//! Attack: catching up with a log that began again, in a group whose members come and go.

use crate::fixture::{Event, SECOND, SHORT, append, open};
use event_log_core::{
    ConsumerOptions, Error, EventBatch, EventConsumer as _, EventConsumerExt as _, EventLog as _,
    EventLogExt as _, Notice, PartitionId, PoisonPolicy, SeekPosition,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;

/// The question for the end has shown that the log began again, which takes no fetch.
async fn is_told(stream: &mut BoxStream<'_, Result<EventBatch<Event>, Error>>) {
    let told = stream.next().await.unwrap().unwrap();
    assert!(told.is_empty(), "{told:?}");
    assert!(matches!(told.notices[..], [Notice::Truncated { .. }]), "{:?}", told.notices);
}

/// "Everything from here on up to the high watermark of this moment; then the stream ends." "Partitions that go to other
/// members meanwhile are not waited for."
#[tokio::test(start_paused = true)]
async fn c10_catching_up_ends_although_a_truncated_partition_went_and_came_back() {
    let (log, faults, _) = open().await;
    append(&log, 1, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(100, SECOND).await.unwrap().len(), 10);
    faults.begin_again();
    append(&log, 1, 10..13).await;
    let mut numbers = Vec::new();
    let caught_up = {
        let mut stream = consumer.until_caught_up(100);
        // It is to look for the end, and to find out nothing else.
        let mut other = None;
        tokio::time::timeout(600 * SECOND, async {
            faults.stall_fetches(true);
            is_told(&mut stream).await;
            // The end is known, and the log takes a while to answer.
            let mut first = stream.next();
            assert!(tokio::time::timeout(SECOND / 10, &mut first).await.is_err());
            other = Some(log.consumer("g").await.unwrap());
            drop(other.take());
            faults.stall_fetches(false);
            let item = first.await;
            if let Some(batch) = item {
                numbers.extend(batch.unwrap().into_events().map(|event| event.number));
            }
            while let Some(batch) = stream.next().await {
                numbers.extend(batch.unwrap().into_events().map(|event| event.number));
            }
        })
        .await
    };
    assert!(
        caught_up.is_ok(),
        "still catching up after ten minutes, with {numbers:?}, at {}",
        consumer.position()
    );
}

/// The same in a log of one partition, whose consumer was cut off while another one had it.
#[tokio::test(start_paused = true)]
async fn c10_catching_up_ends_although_the_truncated_partition_was_another_members_meanwhile() {
    let broker = event_log_memory::MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    append(&log, 1, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(100, SECOND).await.unwrap().len(), 10);
    faults.begin_again();
    append(&log, 1, 10..13).await;
    let mut numbers = Vec::new();
    let caught_up = {
        let mut stream = consumer.until_caught_up(100);
        tokio::time::timeout(3_600 * SECOND, async {
            faults.stall_fetches(true);
            is_told(&mut stream).await;
            // The end is known, and the log takes a while to answer.
            let mut first = stream.next();
            assert!(tokio::time::timeout(SECOND / 10, &mut first).await.is_err());
            faults.interrupt();
            drop(log.consumer("g").await.unwrap());
            faults.stall_fetches(false);
            let mut item = first.await;
            while let Some(batch) = item {
                numbers.extend(batch.unwrap().into_events().map(|event| event.number));
                item = stream.next().await;
            }
        })
        .await
    };
    let at = consumer.position().clone();
    assert!(caught_up.is_ok(), "still catching up after an hour, with {numbers:?}, at {at}");
}

/// The same without another member: the server is started again, and has forgotten which member had a partition.
#[tokio::test(start_paused = true)]
async fn c10_catching_up_with_a_truncated_log_ends_through_a_restart_of_the_server() {
    let (log, faults, _) = open().await;
    append(&log, 1, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(100, SECOND).await.unwrap().len(), 10);
    faults.begin_again();
    append(&log, 1, 10..13).await;
    faults.stall_fetches(true);
    let caught_up = {
        let mut stream = consumer.until_caught_up(100);
        is_told(&mut stream).await;
        assert!(tokio::time::timeout(SECOND / 10, stream.next()).await.is_err());
        faults.restart();
        faults.stall_fetches(false);
        tokio::time::timeout(3_600 * SECOND, stream.map(|batch| batch.unwrap().len()).collect::<Vec<_>>())
            .await
    };
    assert!(caught_up.is_ok(), "still catching up after an hour, at {}", consumer.position());
}

/// The log begins again before anything was read of it: that cannot be noticed, but what was to be caught up with is gone.
#[tokio::test(start_paused = true)]
async fn c10_catching_up_ends_although_the_log_began_again_before_anything_was_read() {
    let (log, faults, _) = open().await;
    append(&log, 1, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    faults.stall_fetches(true);
    let caught_up = {
        let mut stream = consumer.until_caught_up(100);
        assert!(tokio::time::timeout(SECOND / 10, stream.next()).await.is_err());
        faults.begin_again();
        append(&log, 1, 10..13).await;
        faults.stall_fetches(false);
        tokio::time::timeout(3_600 * SECOND, stream.map(|batch| batch.unwrap().len()).collect::<Vec<_>>())
            .await
    };
    assert!(caught_up.is_ok(), "still catching up after an hour, at {}", consumer.position());
}

/// Sought to the end meanwhile? The stream borrows the consumer; here the seek is from before.
#[tokio::test(start_paused = true)]
async fn c10_catching_up_ends_behind_a_seek_beyond_the_end() {
    let (log, _, _) = open().await;
    append(&log, 1, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let beyond = [(event_log_core::PartitionId(1), event_log_core::Offset(50))].into_iter().collect();
    consumer.seek(SeekPosition::Cursor(beyond)).await.unwrap();
    let caught = consumer.until_caught_up(3).collect::<Vec<_>>();
    let caught = tokio::time::timeout(600 * SECOND, caught).await.expect("it ends");
    let count: usize = caught.into_iter().map(|batch| batch.unwrap().len()).sum();
    assert_eq!(count, 10);
}

/// c1: "waiting keeps no processor busy".
#[tokio::test(start_paused = true)]
async fn c1_catching_up_with_a_halted_partition_while_the_log_is_away_keeps_no_processor_busy() {
    let (log, faults, _broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert!(matches!(consumer.poll(10, SHORT).await, Err(Error::Poisoned { .. })));
    faults.disconnect();
    let reconnecting = tokio::spawn({
        let faults = faults.clone();
        async move {
            tokio::time::sleep(5 * SECOND).await;
            faults.reconnect();
        }
    });
    let start = tokio::time::Instant::now();
    let mut errors = 0;
    let mut stream = consumer.until_caught_up(100);
    while let Some(item) = stream.next().await {
        errors += usize::from(item.is_err_and(|error| error.is_retryable()));
        assert!(errors < 100_000, "{errors} errors in {:?}", start.elapsed());
    }
    reconnecting.await.unwrap();
}

/// A mistake of the caller is one while the log is away, too.
#[tokio::test(start_paused = true)]
async fn c10_catching_up_by_no_records_at_a_time_ends_with_an_error_while_the_log_is_away() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    faults.disconnect();
    let items: Vec<_> = consumer.until_caught_up(0).take(1_000).collect().await;
    assert!(matches!(items.as_slice(), [Err(Error::InvalidArgument { .. })]), "{} items", items.len());
}
