//! What reading back finds: copies, partitions that begin again, answers that are empty.

use std::time::Duration;

use crate::served::{Event, Fate, FetchFate, HOUR, MS, SECOND, Server, alone, busy, event, message};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{sleep, timeout};

/// Read-back of two partitions at once, one after the other lost; everything comes out right, once.
#[tokio::test(start_paused = true)]
async fn a8_two_partitions_lost_together_are_read_back_each_for_itself() {
    for (one, other) in
        [(Fate::Lost, Fate::ReplyLost), (Fate::ReplyLost, Fate::Lost), (Fate::Lost, Fate::Lost)]
    {
        let server = Server::new(true, 2);
        let log = server.open(ProducerConfig::default()).await;
        server.fate(0, one);
        server.fate(1, other);
        server.others(0, 5_000);
        let tickets: Vec<_> =
            (0..10).map(|number| log.submit(event(number as u32 % 2, number)).unwrap()).collect();
        for ticket in tickets {
            timeout(HOUR, ticket).await.unwrap().unwrap();
        }
        assert_eq!(server.numbers(0), [0, 2, 4, 6, 8]);
        assert_eq!(server.numbers(1), [1, 3, 5, 7, 9]);
    }
}

/// A log that comes back is told of once, and what waits for space in front of it goes in order.
#[tokio::test(start_paused = true)]
async fn a2_appends_that_wait_for_space_go_in_order_through_losses() {
    for overflow in [
        event_log_core::Overflow::Reject,
        event_log_core::Overflow::DropOldest,
        event_log_core::Overflow::Block { deadline: HOUR },
    ] {
        let server = Server::new(true, 2);
        let mut config = ProducerConfig::default();
        (config.buffer_events, config.request_events, config.overflow) = (3, 2, overflow);
        let log = server.open(config).await;
        for fate in [Fate::Confirmed(100), Fate::ReplyLost, Fate::Lost, Fate::Cut(100), Fate::Confirmed(100)]
        {
            server.fate(0, fate);
        }
        let mut tasks = Vec::new();
        for number in 0..30 {
            let log = log.clone();
            tasks.push(tokio::spawn(async move { log.append(event(0, number)).await?.acked().await }));
            tokio::task::yield_now().await;
        }
        let (mut acked, mut failed) = (Vec::new(), 0);
        for (number, task) in (0..).zip(tasks) {
            match timeout(HOUR, task).await.unwrap().unwrap() {
                Ok(_) => acked.push(number),
                Err(error) => {
                    assert!(!error.may_have_taken_effect(), "{error:?}");
                    failed += 1;
                }
            }
        }
        assert_eq!(server.numbers(0), acked, "{overflow:?} {failed}");
    }
}

/// The question of every minute is answered late: what was acknowledged meanwhile is forgotten.
#[tokio::test(start_paused = true)]
async fn a1_a_second_copy_is_not_acknowledged_by_the_first_after_a_late_answer() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    let busy = busy(&log, &server);
    sleep(58 * SECOND).await;
    server.state.lock().watermarks_take = 5 * SECOND;
    sleep(4 * SECOND).await;
    // The question is under way.
    let with_id = |number| Event { id: Some(7), ..event(0, number) };
    let first = log.append_acked(with_id(1)).await.unwrap();
    sleep(4 * SECOND).await;
    server.state.lock().watermarks_take = Duration::ZERO;
    server.fate(0, Fate::Lost);
    let second = log.append_acked(with_id(2)).await.unwrap();
    busy.abort();
    assert_eq!(server.numbers(0), [0, 1, 2], "{first:?} {second:?}");
}

/// A partition that began again, and has grown since, after a late answer: it is not known again, so that the event is
/// sent twice.
#[tokio::test(start_paused = true)]
async fn a8_no_duplicate_after_a_late_answer_and_a_partition_that_began_again() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    server.others(0, 10);
    let busy = busy(&log, &server);
    sleep(58 * SECOND).await;
    server.state.lock().watermarks_take = 5 * SECOND;
    sleep(4 * SECOND).await;
    log.append_acked(event(0, 1)).await.unwrap();
    sleep(4 * SECOND).await;
    server.state.lock().watermarks_take = Duration::ZERO;
    server.begin_again(0);
    server.fate(0, Fate::ReplyLost);
    let ticket = log.submit(event(0, 2)).unwrap();
    sleep(Duration::from_millis(200)).await;
    server.others(0, 100);
    let outcome = ticket.await;
    busy.abort();
    assert_eq!(server.numbers(0), [2], "{outcome:?}");
}

/// The control: without a late answer it is known again.
#[tokio::test(start_paused = true)]
async fn a8_no_duplicate_after_a_partition_that_began_again() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    server.others(0, 10);
    let busy = busy(&log, &server);
    log.append_acked(event(0, 1)).await.unwrap();
    server.begin_again(0);
    server.fate(0, Fate::ReplyLost);
    let ticket = log.submit(event(0, 2)).unwrap();
    sleep(Duration::from_millis(200)).await;
    server.others(0, 100);
    let outcome = ticket.await;
    busy.abort();
    assert_eq!(server.numbers(0), [2], "{outcome:?}");
}

/// a4: "no ticket stays pending for ever". The partition is purged while what became of a request is read back, over a
/// connection that stays good; nothing was acknowledged before.
#[tokio::test(start_paused = true)]
async fn a4_a_partition_that_begins_again_while_it_is_read_back() {
    let server = Server::new(true, 2);
    server.others(0, 10);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::Lost);
    server.fetch_fate(0, FetchFate::After(200));
    server.others(0, 10);
    let ticket = log.submit(event(0, 1)).unwrap();
    server.others(0, 10);
    // Away for about a second, then reading back.
    while server.with(0, |partition| partition.fetched) == 0 {
        sleep(10 * MS).await;
    }
    server.begin_again(0);
    let outcome = timeout(HOUR, ticket).await;
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "pending after an hour, in which {fetched} fetches were made");
}

/// The same where an event was acknowledged before, and the answer says that the partition was truncated.
#[tokio::test(start_paused = true)]
async fn a4_a_partition_that_begins_again_while_its_landmark_is_looked_for() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.others(0, 10);
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(0, Fate::Lost);
    server.fetch_fate(0, FetchFate::After(200));
    let ticket = log.submit(event(0, 1)).unwrap();
    while server.with(0, |partition| partition.fetched) == 0 {
        sleep(10 * MS).await;
    }
    server.begin_again(0);
    let outcome = timeout(HOUR, ticket).await;
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "pending after an hour, in which {fetched} fetches were made");
}

/// `READ_BACK_PATIENCE`: empty answers from below the high watermark, without an end.
#[tokio::test(start_paused = true)]
async fn a4_empty_answers_without_an_end() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::ReplyLost);
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::Empty));
    let ticket = log.submit(event(0, 1)).unwrap();
    let outcome = timeout(HOUR, ticket).await;
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "pending after an hour, in which {fetched} fetches were made");
}

/// a8: an event of a request of two was appended by another handle too, under the same id of its own. Answers have one record.
#[tokio::test(start_paused = true)]
async fn a8_a_copy_of_another_producer_counts_for_no_other_event() {
    let server = Server::new(true, 2);
    server.state.lock().most = 1;
    let log = server.open(ProducerConfig::default()).await;
    let with_id = |number, id| crate::served::Event { id: Some(id), ..event(0, number) };
    server.fate(0, Fate::Confirmed(100));
    let first = log.submit(event(0, 0)).unwrap();
    sleep(10 * MS).await;
    server.fate(0, Fate::ReplyLostAfter(100));
    let one = log.submit(with_id(1, 7)).unwrap();
    let two = log.submit(with_id(2, 8)).unwrap();
    first.await.unwrap();
    sleep(10 * MS).await;
    // Behind the first, before the two.
    let copy = message(&with_id(crate::served::OTHERS, 7), 7);
    server.with(0, |partition| partition.append(&[copy]));
    let (one, two) = (one.await, two.await);
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?} {:?}", server.numbers(0));
}
