//! Attempts of an outside reader to break the producing side: recovery, attempts, tickets, closing and runtimes.

use event_log_core::engine::{Clock, TokioClock};
use event_log_core::{
    AppendErrorKind, Connection, EventConsumer as _, EventLog as _, EventLogExt as _, Overflow, PartitionId,
    ProducerConfig, ReconnectPolicy, SubmitErrorKind, Timestamp,
};
use event_log_memory::MemoryBroker;
use futures::FutureExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

use crate::producing::{HOUR, Numbered, SECOND, begin, block_on, config, cut, numbers, open};

#[tokio::test(start_paused = true)]
async fn a7_a_flush_of_one_outage_does_not_hasten_the_next() {
    let (log, faults, _broker) = open(config(|config| {
        config.reconnect = ReconnectPolicy::new(SECOND, 30 * SECOND);
        config.reconnect.jitter_percent = 0;
    }))
    .await;
    cut(&log, &faults).await;
    faults.slow_connects(5 * SECOND);
    faults.reconnect();
    sleep(2 * SECOND).await;
    // An attempt is under way: there is nothing to hasten.
    log.flush().await.unwrap();
    log.state().wait_for(|state| state.is_connected()).await;
    faults.slow_connects(Duration::ZERO);
    sleep(HOUR).await;
    let start = Instant::now();
    faults.interrupt();
    log.state().wait_for(|state| !state.is_connected()).await;
    log.state().wait_for(|state| state.is_connected()).await;
    assert!(start.elapsed() >= SECOND, "it reconnected after {:?} instead of 1 s", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a19_the_state_says_when_the_attempt_is_that_a_flush_asked_for() {
    let clock = Arc::new(TokioClock::starting_at(Timestamp(1_700_000_000_000_000)));
    let broker = MemoryBroker::with_clock(clock.clone());
    let mut config = ProducerConfig::default();
    config.reconnect = ReconnectPolicy::new(10 * SECOND, 30 * SECOND);
    let builder = event_log_memory::builder::<Numbered>().broker(&broker).partitions(1).config(config);
    let log = builder.open().await.unwrap();
    broker.faults("events").unwrap().disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
    drop(log.submit(Numbered(0)).unwrap());
    let mut flush = Box::pin(log.flush());
    assert!((&mut flush).now_or_never().is_none());
    sleep(Duration::from_millis(10)).await;
    let Connection::Reconnecting { next_attempt, attempt, .. } = log.state().current().connection else {
        panic!("it is away");
    };
    let wait = next_attempt.map(|next| next.0.saturating_sub(clock.now().0) / 1_000);
    let mut state = log.state();
    let start = Instant::now();
    state
        .wait_for(|state| matches!(state.connection, Connection::Reconnecting { attempt: now, .. } if now > attempt))
        .await;
    let took = start.elapsed().as_millis() as u64;
    assert!(wait.is_none_or(|wait| wait <= took + 5), "said to be in {wait:?} ms, and was after {took} ms");
}

#[tokio::test(start_paused = true)]
async fn a6_a_connection_that_is_cut_while_a_request_is_slow_is_noticed() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.slow_appends(HOUR);
    let _ticket = log.submit(Numbered(0)).unwrap();
    sleep(Duration::from_millis(10)).await;
    faults.disconnect();
    sleep(SECOND).await;
    assert!(!log.state().current().is_connected(), "cut for a second");
    let appended = timeout(SECOND, log.append(Numbered(1))).await;
    assert!(appended.is_ok_and(|receipt| receipt.is_ok_and(|receipt| receipt.is_buffered())));
}

#[tokio::test(start_paused = true)]
async fn a7_a_log_that_takes_connections_and_loses_every_request_is_not_asked_every_second() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.lose_requests(1_000_000);
    let _ticket = log.submit(Numbered(0)).unwrap();
    sleep(600 * SECOND).await;
    let reconnects = log.state().current().reconnects;
    // Doubling from 1 s to 30 s, less the jitter, makes about thirty.
    assert!(reconnects < 60, "{reconnects} reconnections in ten minutes: no backoff");
}

#[tokio::test(start_paused = true)]
async fn a6_an_append_that_is_queued_when_a_closing_log_goes_away_is_told_that_it_is_buffered() {
    let (log, faults, _broker) = open(config(|config| config.request_events = 1)).await;
    faults.slow_appends(SECOND);
    let mut first = Box::pin(log.append(Numbered(0)));
    assert!(begin(&mut first).is_none());
    sleep(Duration::from_millis(10)).await;
    let mut second = Box::pin(log.append(Numbered(1)));
    assert!(begin(&mut second).is_none());
    let mut close = Box::pin(log.close(HOUR));
    assert!(begin(&mut close).is_none());
    faults.disconnect();
    sleep(10 * SECOND).await;
    assert!(!log.state().current().is_connected());
    assert!(begin(&mut first).is_some_and(|receipt| receipt.is_ok_and(|receipt| receipt.is_buffered())));
    assert!(
        begin(&mut second).is_some_and(|receipt| receipt.is_ok_and(|receipt| receipt.is_buffered())),
        "the first is told, the one behind it waits"
    );
}

#[tokio::test(start_paused = true)]
async fn l5_what_cannot_be_decoded_does_not_appear_in_debug_output() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.append_foreign(PartitionId(0), "\"top-secret\"").unwrap();
    let batch = log.consumer("g").await.unwrap().poll(10, SECOND).await.unwrap();
    let shown = format!("{batch:?} {:?} {:?}", batch.records, batch.records[0].event);
    assert!(!shown.contains("top-secret"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a19_however_often_a_log_is_flushed_there_is_no_storm_of_attempts() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    cut(&log, &faults).await;
    drop(log.submit(Numbered(0)).unwrap());
    for _ in 0..10_000 {
        drop(timeout(Duration::from_millis(1), log.flush()).await);
    }
    let Connection::Reconnecting { attempt, .. } = log.state().current().connection else {
        panic!("it is away");
    };
    assert!((50..=110).contains(&attempt), "{attempt} attempts in ten seconds of flushing");
}

#[tokio::test(start_paused = true)]
async fn a4_a_ticket_that_returned_its_ack_has_it_for_try_outcome_too() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.slow_appends(SECOND);
    let mut ticket = log.submit(Numbered(0)).unwrap();
    let ack = (&mut ticket).await.unwrap();
    assert_eq!(ticket.try_outcome().expect("there is an outcome").unwrap(), ack);
}

#[tokio::test(start_paused = true)]
async fn l3_closing_reaches_a_log_that_comes_back_shortly_before_the_deadline() {
    for back in [10, 1_000, 5_100, 9_500, 9_900] {
        let (log, faults, _broker) = open(ProducerConfig::default()).await;
        faults.disconnect();
        sleep(300 * SECOND).await;
        drop(log.submit(Numbered(0)).unwrap());
        let closing = log.clone();
        let close = tokio::spawn(async move { closing.close(10 * SECOND).await });
        sleep(Duration::from_millis(back)).await;
        faults.reconnect();
        assert!(close.await.unwrap().is_ok(), "back after {back} ms of 10 s");
    }
}

#[tokio::test(start_paused = true)]
async fn l3_what_a_cancelled_close_left_goes_to_the_next_one_exactly_once() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    cut(&log, &faults).await;
    drop(log.submit(Numbered(0)).unwrap());
    let held = log.submit(Numbered(1)).unwrap();
    assert!(timeout(Duration::from_millis(1), log.close(SECOND)).await.is_err());
    sleep(2 * SECOND).await;
    let (one, two) = tokio::join!(log.close(SECOND), log.close(SECOND));
    let left: usize = [one, two].into_iter().filter_map(Result::err).map(|error| error.len()).sum();
    assert_eq!(left, 2);
    assert!(matches!(held.await.unwrap_err().kind(), AppendErrorKind::Closed));
}

#[test]
fn a4_everything_ends_when_the_runtime_does() {
    for overflow in [Overflow::DropOldest, Overflow::Block { deadline: HOUR }] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = config(|config| {
            (config.buffer_events, config.request_events, config.overflow) = (1, 1, overflow);
        });
        let (log, faults, broker) = runtime.block_on(open(config));
        faults.slow_appends(HOUR);
        let first = log.submit(Numbered(0)).unwrap();
        runtime.block_on(async { sleep(Duration::from_millis(10)).await });
        let second = log.submit(Numbered(1)).unwrap();
        let mut waits = Box::pin(log.append(Numbered(2)));
        let mut flush = Box::pin(log.flush());
        assert!((&mut waits).now_or_never().is_none());
        assert!((&mut flush).now_or_never().is_none());
        drop(runtime);
        let error = first.now_or_never().expect("at once").unwrap_err();
        assert!(matches!(error.kind(), AppendErrorKind::Unknown(_)), "{error:?}");
        let error = second.now_or_never().expect("at once").unwrap_err();
        assert!(matches!(error.kind(), AppendErrorKind::Closed), "{error:?}");
        let error = waits.now_or_never().expect("at once").unwrap_err();
        assert!(matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Closed)), "{error:?}");
        assert!(flush.now_or_never().expect("at once").is_err());
        assert!(log.submit(Numbered(3)).is_err());
        assert!(log.append(Numbered(4)).now_or_never().expect("at once").is_err());
        assert!(log.append_batch(vec![Numbered(5)]).now_or_never().expect("at once").is_err());
        assert!(log.state().current().is_closed());
        drop(log.close(HOUR).now_or_never().expect("at once"));
        assert!(broker.contents("events").is_empty());
    }
}

#[test]
fn l9_an_append_waits_for_space_and_gives_up_on_a_thread_without_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = config(|config| {
        (config.buffer_events, config.request_events) = (1, 1);
        config.overflow = Overflow::Block { deadline: Duration::from_millis(50) };
    });
    let (log, faults, _broker) = runtime.block_on(open(config));
    faults.slow_appends(Duration::from_millis(300));
    let _first = log.submit(Numbered(0)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let _second = log.submit(Numbered(1)).unwrap();
    let error = block_on(log.append(Numbered(2))).unwrap_err();
    assert!(matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Full)));
    block_on(log.append_acked(Numbered(3))).map(drop).unwrap_err();
    block_on(log.flush()).unwrap();
    block_on(log.close(SECOND)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a14_appends_that_are_dropped_while_they_wait_leave_no_gap_for_those_behind() {
    let (log, faults, broker) =
        open(config(|config| (config.buffer_events, config.request_events) = (2, 2))).await;
    faults.slow_appends(SECOND);
    drop(log.submit(Numbered(0)).unwrap());
    sleep(Duration::from_millis(10)).await;
    drop((log.submit(Numbered(1)).unwrap(), log.submit(Numbered(2)).unwrap()));
    let mut waiting: Vec<_> = (3..10).map(|number| Box::pin(log.append(Numbered(number)))).collect();
    assert!(waiting.iter_mut().all(|append| begin(append).is_none()));
    // Every other one, the first among them.
    let mut kept = Vec::new();
    for (at, append) in waiting.into_iter().enumerate() {
        if at % 2 == 1 {
            kept.push(append);
        }
    }
    let outcomes = timeout(HOUR, futures::future::join_all(kept)).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(numbers(&broker), [0, 1, 2, 4, 6, 8]);
    // And the way is free again.
    faults.clear();
    log.flush().await.unwrap();
    assert!(log.append(Numbered(10)).now_or_never().is_some());
}
