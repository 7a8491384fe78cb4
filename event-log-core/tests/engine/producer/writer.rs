//! The writer against a log that answers when the test says so: what is under way together, and what waits for what.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::scripted_writer::{Numbered, PARTITIONS, Stage, confirm};
use allocation_counter::measure;
use event_log_core::engine::SendError;
use event_log_core::{
    AppendErrorKind, Connection as Away, Error, EventLog as _, Offset, Overflow, ProducerConfig,
};
use futures::FutureExt as _;
use tokio::sync::Semaphore;

#[tokio::test(start_paused = true)]
async fn partitions_do_not_wait_for_each_other() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let slow = stage.submit(0, 0);
    let held = stage.next().await;
    assert_eq!((held.connection, held.partition), (1, 0));
    for number in 0..10 {
        let fast = stage.submit(1, number);
        let asked = stage.next().await;
        assert_eq!((asked.connection, asked.partition), (2, 1), "over the connection that is free");
        confirm(asked);
        assert_eq!(fast.await.unwrap().offset, Some(Offset(number)));
    }
    let slow = slow.try_outcome().expect_err("it has no answer yet");
    confirm(held);
    assert_eq!(slow.await.unwrap().offset, Some(Offset(0)));
}

#[tokio::test(start_paused = true)]
async fn a_partition_has_one_request_under_way_and_what_waits_goes_together() {
    let mut stage = Stage::with(4, ProducerConfig::default()).await;
    let mut tickets = vec![stage.submit(2, 0)];
    let first = stage.next().await;
    tickets.extend((1..4).map(|number| stage.submit(2, number)));
    // Another partition has all connections opened, so that it is not for want of one.
    for partition in [0, 1, 3] {
        tickets.push(stage.submit(partition, 9));
    }
    let others = stage.asked_by_now().await;
    assert!(others.iter().all(|asked| asked.partition != 2), "it waits for the answer");
    assert_eq!(others.len(), 3);
    others.into_iter().for_each(confirm);
    assert_eq!(stage.asked_by_now().await.len(), 0, "although connections are free");
    confirm(first);
    let second = stage.next().await;
    assert_eq!((second.partition, &second.numbers[..]), (2, &[1, 2, 3][..]));
    confirm(second);
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_connection_is_lost_the_answers_of_the_others_count() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let lost = stage.submit(0, 0);
    let on_first = stage.next().await;
    let kept = stage.submit(1, 1);
    let on_second = stage.next().await;
    // It has arrived, but its answer has not.
    stage.scripted.append(0, &on_first.messages);
    let error = Error::Unavailable(None);
    on_first.answer.send(Err(SendError::Lost { error, may_have_taken_effect: true })).unwrap();
    assert!(stage.asked_by_now().await.is_empty(), "nothing is sent before the others are answered");
    confirm(on_second);
    assert_eq!(kept.await.unwrap().offset, Some(Offset(0)));
    assert_eq!(lost.await.unwrap().offset, Some(Offset(0)), "read back");
    assert!(stage.asked_by_now().await.is_empty(), "nothing was sent again");
    assert_eq!(stage.scripted.state.lock().read_back, [0], "nothing else was open");
    assert_eq!(stage.log.state().current().recovered.found, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_told_before_the_others_have_answered() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let _lost = stage.submit(0, 0);
    let on_first = stage.next().await;
    let _open = stage.submit(1, 1);
    let _on_second = stage.next().await;
    let error = Error::Unavailable(None);
    on_first.answer.send(Err(SendError::Lost { error, may_have_taken_effect: true })).unwrap();
    assert!(stage.asked_by_now().await.is_empty());
    let state = stage.log.state().current();
    let told = matches!(state.connection, Away::Reconnecting { last_error: Some(_), .. });
    assert!(told && !state.is_connected(), "{state:?}");
    let appended = stage.log.append(Numbered { partition: 0, number: 2 }).now_or_never();
    assert!(appended.expect("at once").unwrap().is_buffered());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_expires_leaves_the_attempt_to_connect_alone() {
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_secs(1));
    let mut stage = Stage::with(1, config).await;
    let _left_over = stage.submit(0, 0);
    let asked = stage.next().await;
    stage.scripted.lets_in.forget_permits(Semaphore::MAX_PERMITS);
    let error = Error::Unavailable(None);
    asked.answer.send(Err(SendError::Lost { error, may_have_taken_effect: false })).unwrap();
    for number in 1..10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let error = stage.submit(0, number).await.unwrap_err();
        assert!(matches!(error.kind(), AppendErrorKind::Expired(_)), "{error:?}");
    }
    // One that was given up would still be counted.
    assert_eq!(stage.scripted.state.lock().connecting, 1);
    stage.scripted.lets_in.add_permits(1);
    let ticket = stage.submit(0, 10);
    confirm(stage.next().await);
    ticket.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_left_over_goes_before_what_came_later() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let mut tickets = vec![stage.submit(0, 0), stage.submit(0, 1)];
    let asked = stage.next().await;
    assert_eq!(asked.numbers, [0, 1]);
    tickets.push(stage.submit(0, 2));
    // Refused together: each for itself, and in order.
    let refusal = || SendError::Refused(Error::invalid("event", "is not liked"));
    asked.answer.send(Err(refusal())).unwrap();
    let alone = stage.next().await;
    assert_eq!(alone.numbers, [0]);
    alone.answer.send(Err(refusal())).unwrap();
    let alone = stage.next().await;
    assert_eq!(alone.numbers, [1]);
    // Lost on the way, without effect: again, over a new connection.
    let error = Error::Unavailable(None);
    alone.answer.send(Err(SendError::Lost { error, may_have_taken_effect: false })).unwrap();
    let again = stage.next().await;
    assert_eq!((again.connection, &again.numbers[..]), (2, &[1][..]));
    confirm(again);
    let last = stage.next().await;
    assert_eq!(last.numbers, [2]);
    confirm(last);
    let mut outcomes = Vec::new();
    for ticket in tickets {
        outcomes.push(ticket.await);
    }
    let refused = outcomes.remove(0).unwrap_err();
    assert!(matches!(refused.kind(), AppendErrorKind::Refused(_)), "{refused:?}");
    assert_eq!(refused.event().number, 0);
    let offsets: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().offset.unwrap().0).collect();
    assert_eq!(offsets, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn further_connections_are_opened_one_after_the_other_and_only_for_something_to_do() {
    let mut stage = Stage::with(4, ProducerConfig::default()).await;
    for number in 0..3 {
        let ticket = stage.submit(0, number);
        confirm(stage.next().await);
        ticket.await.unwrap();
    }
    assert_eq!(stage.scripted.state.lock().connected, 1, "one partition needs one");
    stage.scripted.lets_in.forget_permits(Semaphore::MAX_PERMITS);
    let tickets: Vec<_> = (0..PARTITIONS).map(|partition| stage.submit(partition, 9)).collect();
    let mut asked = stage.asked_by_now().await;
    assert_eq!(asked.len(), 1, "the others wait for nothing but a connection");
    for connected in 2..=4 {
        stage.scripted.lets_in.add_permits(1);
        asked.extend(stage.asked_by_now().await);
        assert_eq!(asked.len(), connected);
        assert_eq!(stage.scripted.state.lock().connected, connected);
    }
    assert_eq!(stage.scripted.state.lock().most_connecting, 1);
    asked.into_iter().for_each(confirm);
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_every_partition() {
    let mut stage = Stage::with(2, ProducerConfig::default()).await;
    let tickets = [stage.submit(0, 0), stage.submit(1, 1)];
    let (first, second) = (stage.next().await, stage.next().await);
    let log = stage.log.clone();
    let flush = tokio::spawn(async move { log.flush().await });
    assert!(stage.asked_by_now().await.is_empty());
    let later = stage.submit(1, 2);
    confirm(second);
    let third = stage.next().await;
    assert!(stage.asked_by_now().await.is_empty());
    assert!(!flush.is_finished(), "the first event is not in the log");
    confirm(first);
    flush.await.unwrap().unwrap();
    assert!(later.try_outcome().is_err(), "what came after the flush began is not waited for");
    confirm(third);
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_all_partitions_is_dropped() {
    let mut config = ProducerConfig::default();
    (config.buffer_events, config.overflow) = (3, Overflow::DropOldest);
    let stage = Stage::with(0, config).await;
    let tickets: Vec<_> = [3, 1, 3, 0, 1].into_iter().zip(0..).map(|(to, n)| stage.submit(to, n)).collect();
    assert_eq!(stage.log.state().current().dropped, 2);
    let leftover = stage.log.close(Duration::ZERO).await.unwrap_err();
    assert_eq!(leftover.returned_by_ticket, 3);
    let mut failures = Vec::new();
    for ticket in tickets {
        let error = ticket.await.unwrap_err();
        failures.push((error.event().number, matches!(error.kind(), AppendErrorKind::Dropped)));
    }
    assert_eq!(failures, [(0, true), (1, true), (2, false), (3, false), (4, false)]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_waits_allocates_its_ticket_and_a_share_of_a_block() {
    const EVENTS: u64 = 1_000;
    let stage = Stage::with(0, ProducerConfig::default()).await;
    let mut tickets = Vec::with_capacity(2 * EVENTS as usize);
    // The queue, and the buffer to encode in, have grown to their size.
    tickets.extend((0..EVENTS).map(|number| stage.submit(0, number)));
    let counted = measure(|| tickets.extend((0..EVENTS).map(|number| stage.submit(0, number))));
    let bytes: usize =
        (0..EVENTS).map(|number| serde_json::to_vec(&Numbered { partition: 0, number }).unwrap().len()).sum();
    // A block of 4 KiB, and its count of references. The queue doubles at most once.
    let blocks = 2 * bytes.div_ceil(4_096 - 50) as u64;
    println!("{EVENTS} events of {bytes} bytes in all: {} allocations", counted.count_total);
    assert!(counted.count_total <= EVENTS + blocks + 1, "{}", counted.count_total);
}

/// The log takes requests, and does not say where its partitions end.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_looked_for_is_kept_and_holds_up_no_other() {
    let mut stage = Stage::with(1, ProducerConfig::default()).await;
    let ticket = stage.submit(0, 0);
    let asked = stage.next().await;
    stage.scripted.is_half_dead.store(true, Relaxed);
    let error = Error::Unavailable(None);
    asked.answer.send(Err(SendError::Lost { error, may_have_taken_effect: true })).unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let other = stage.submit(1, 0);
    confirm(stage.next().await);
    other.await.unwrap();
    assert_eq!(stage.scripted.state.lock().connected, 2);
    stage.scripted.is_half_dead.store(false, Relaxed);
    confirm(stage.next().await);
    ticket.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_of_no_use_are_made_ever_more_rarely() {
    let mut stage = Stage::with(1, ProducerConfig::default()).await;
    let ticket = stage.submit(0, 0);
    let losing = async {
        loop {
            let error = Error::Unavailable(None);
            let lost = SendError::Lost { error, may_have_taken_effect: false };
            stage.next().await.answer.send(Err(lost)).unwrap();
        }
    };
    let _for_ten_minutes = tokio::time::timeout(Duration::from_secs(600), losing).await;
    let made = stage.scripted.state.lock().connected;
    assert!((5..40).contains(&made), "{made} connections in ten minutes");
    let state = stage.log.state().current();
    let Away::Reconnecting { last_error: Some(_), .. } = state.connection else {
        panic!("it is away, and says why: {state:?}");
    };
    confirm(stage.next().await);
    ticket.await.unwrap();
    // Of use, it counts for the next loss.
    assert!(stage.log.state().current().is_connected());
    drop(stage.submit(0, 1));
    let start = tokio::time::Instant::now();
    let error = Error::Unavailable(None);
    let lost = SendError::Lost { error, may_have_taken_effect: false };
    stage.next().await.answer.send(Err(lost)).unwrap();
    confirm(stage.next().await);
    assert!(start.elapsed() <= Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_waiting_cannot_fix_is_told_apart() {
    let mut stage = Stage::with(1, ProducerConfig::default()).await;
    let ticket = stage.submit(0, 0);
    let asked = stage.next().await;
    stage.scripted.refuses.store(true, Relaxed);
    let error = Error::Unavailable(None);
    asked.answer.send(Err(SendError::Lost { error, may_have_taken_effect: false })).unwrap();
    let state = stage.log.state().wait_for(|state| state.needs_intervention().is_some()).await;
    assert!(matches!(state.needs_intervention(), Some(Error::Unauthorized(_))), "{state:?}");
    // It is tried again all the same: the password may be changed back.
    stage.scripted.refuses.store(false, Relaxed);
    confirm(stage.next().await);
    ticket.await.unwrap();
    let state = stage.log.state().current();
    assert!(state.is_connected() && state.needs_intervention().is_none(), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn what_others_have_appended_is_not_read_back() {
    let mut stage = Stage::with(1, ProducerConfig::default()).await;
    drop(stage.submit(0, 0));
    let first = stage.next().await;
    let messages = first.messages.clone();
    confirm(first);
    // Others append while this handle is idle.
    tokio::time::sleep(Duration::from_secs(10)).await;
    for _ in 0..10_000 {
        stage.scripted.append(0, &messages);
    }
    let ticket = stage.submit(0, 1);
    let asked = stage.next().await;
    let error = Error::Unavailable(None);
    asked.answer.send(Err(SendError::Lost { error, may_have_taken_effect: true })).unwrap();
    confirm(stage.next().await);
    assert_eq!(ticket.await.unwrap().offset, Some(Offset(10_001)));
    let read = stage.scripted.state.lock().records_read;
    assert!(read < 100, "{read} records were read back, of which none was ours");
}
