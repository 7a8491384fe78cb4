//! Questions for where the partitions end, and which requests their answers say something of.

use std::time::Duration;

use crate::served::{Event, Fate, FetchFate, HOUR, MS, SECOND, Scripted, Server, event, steady};
use event_log_core::engine::TransportLog;
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig, ReconnectPolicy, Ticket};
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

/// The answer to a fetch for a request that has expired comes together with the loss of the next request.
async fn late_fetch(micros: u64, expiry: u64) -> Vec<u64> {
    let server = Server::new(true, 2);
    let mut config = steady();
    let expiry = Duration::from_millis(expiry);
    config.expiry = Some(expiry);
    config.reconnect.initial = 50 * MS;
    let log = server.open(config).await;
    server.others(0, 1);
    server.fate(0, Fate::Lost);
    server.fetch_fate(0, FetchFate::Gate(micros));
    let first = log.submit(event(0, 1)).unwrap();
    let error = first.await.unwrap_err();
    assert!(error.may_have_taken_effect());
    assert_eq!(server.with(0, |partition| partition.fetched), 1, "it is being read back");
    server.fate(0, Fate::ReplyLostAtGate(20));
    let second = log.submit(event(0, 2)).unwrap();
    let _outcome = timeout(10 * expiry, second).await.unwrap();
    server.numbers(0)
}

#[tokio::test(start_paused = true)]
async fn a8_an_answer_about_an_expired_request_says_nothing_of_the_next_one() {
    assert_eq!(late_fetch(0, 5_000).await, [2]);
}

#[tokio::test]
async fn a8_the_same_in_real_time_where_the_answer_comes_a_little_later() {
    let delays = [0, 50, 100, 200, 300, 500, 700, 900, 1_200, 1_500];
    let all = join_all(delays.map(|micros| late_fetch(micros, 2_000))).await;
    assert!(all.iter().all(|numbers| *numbers == [2]), "{all:?}");
}

/// The partition began again and grew to where it was; it cannot be read for some minutes.
#[tokio::test(start_paused = true)]
async fn a8_a_partition_that_is_not_recognised_is_not_taken_for_read() {
    let server = Server::new(true, 1);
    let log = server.open(steady()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.begin_again(0);
    server.fate(0, Fate::ReplyLost);
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::Fault));
    let ticket = log.submit(event(0, 1)).unwrap();
    let outcome = timeout(HOUR, ticket).await.unwrap();
    assert_eq!(server.numbers(0), [1], "{outcome:?}");
}

/// The end of a request and the question for where the partitions end have the same time on the clock, in this order: the
/// question, the request.
#[tokio::test(start_paused = true)]
async fn a8_a_question_of_the_same_moment_says_nothing_of_a_request() {
    let server = Server::new(true, 2);
    let mut config = steady();
    config.reconnect.initial = 100 * MS;
    let log = server.open(config).await;
    server.state.lock().watermarks_take = 50 * MS;
    server.fate(1, Fate::Cut(100));
    server.fate(2, Fate::ReplyLostAfter(200));
    let one = log.submit(event(1, 1)).unwrap();
    let two = log.submit(event(2, 2)).unwrap();
    timeout(HOUR, one).await.unwrap().unwrap();
    let outcome = timeout(HOUR, two).await.unwrap();
    assert_eq!(server.numbers(2), [2], "{outcome:?}");
}

/// A slow request of partition 1 is lost while one of partition 0 waits for the answer where that ends.
async fn lost_while_it_is_asked(server: &Server, log: &TransportLog<Event, Scripted>) -> [Ticket<Event>; 2] {
    server.fate(1, Fate::LostAfter(2_000));
    let slow = log.submit(event(1, 1)).unwrap();
    log.append_acked(event(0, 1)).await.unwrap();
    sleep(1_900 * MS).await;
    server.state.lock().watermarks_take = 300 * MS;
    [slow, log.submit(event(0, 2)).unwrap()]
}

/// A transport that has one connection for questions, used by one at a time, each with a deadline.
#[tokio::test(start_paused = true)]
async fn a7_a_question_that_is_left_alone_keeps_no_other_waiting() {
    let server = Server::with_one_connection_for_questions(2);
    let log = server.open(steady()).await;
    let [slow, asking] = lost_while_it_is_asked(&server, &log).await;
    let outcome = timeout(HOUR, slow).await;
    assert!(outcome.is_ok(), "pending after an hour; {:?}", log.state().current());
    timeout(HOUR, asking).await.unwrap().unwrap();
}

/// A question whose requests were all given up is asked again minutes later.
#[tokio::test(start_paused = true)]
async fn a17_an_old_question_is_not_used_again() {
    let server = Server::new(true, 2);
    let log = server.open(steady()).await;
    server.others(2, 10);
    let [slow, asking] = lost_while_it_is_asked(&server, &log).await;
    timeout(HOUR, slow).await.unwrap().unwrap();
    timeout(HOUR, asking).await.unwrap().unwrap();
    server.state.lock().watermarks_take = Duration::ZERO;
    sleep(60 * SECOND).await;
    server.others(2, 10_000);
    server.trim(2, 9_000);
    sleep(600 * SECOND).await;
    server.fate(2, Fate::Lost);
    let outcome = timeout(HOUR, log.append_acked(event(2, 3))).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}; {read} records were read", outcome.unwrap_err().kind());
    assert!(read < 100, "{read} records were read");
}

/// Watermarks are slow, and another partition loses each connection: the question before a request is never answered in time. The
/// first one, of the new handle, was, or was not either.
async fn asked_beside_a_bad_one(config: ProducerConfig) {
    let bad = [Fate::Cut(0), Fate::Cut(10), Fate::Cut(300), Fate::Lost];
    for (bad, fails) in bad.into_iter().flat_map(|bad| [(bad, 0), (bad, 1)]) {
        let server = Server::new(true, 2);
        server.state.lock().fails_watermarks = fails;
        let log = server.open(config.clone()).await;
        server.state.lock().watermarks_take = 1_200 * MS;
        server.with(1, |partition| partition.every_send = Some(bad));
        let _bad = log.submit(event(1, 0)).unwrap();
        sleep(5 * SECOND).await;
        let outcome = timeout(HOUR, log.submit(event(2, 0)).unwrap()).await;
        assert!(outcome.is_ok(), "{bad:?}, {fails}: pending after an hour");
    }
}

#[tokio::test(start_paused = true)]
async fn a7_a_request_that_waits_for_a_question_is_sent_at_last() {
    let mut config = steady();
    config.reconnect = ReconnectPolicy::new(10 * MS, 10 * MS);
    asked_beside_a_bad_one(config).await;
}

#[tokio::test(start_paused = true)]
async fn a7_a_request_that_waits_for_a_question_is_sent_also_where_reconnecting_takes_a_while() {
    asked_beside_a_bad_one(steady()).await;
    asked_beside_a_bad_one(ProducerConfig::default()).await;
    // Longer than none is asked after one that had no answer.
    let mut config = steady();
    config.reconnect = ReconnectPolicy::new(5 * SECOND, 5 * SECOND);
    asked_beside_a_bad_one(config).await;
}

/// A request is given up beside the only connection that is good, and the question where its partition ends takes ten minutes.
#[tokio::test(start_paused = true)]
async fn a7_a_question_of_reading_back_needs_no_connection() {
    let server = Server::new(true, 2);
    let mut config = steady();
    config.reconnect = ReconnectPolicy::new(10 * MS, 10 * MS);
    let log = server.open(config).await;
    server.fate(0, Fate::Confirmed(3_600_000));
    let _slow = log.submit(event(0, 0)).unwrap();
    sleep(MS).await;
    server.fate(1, Fate::Cut(0));
    log.append_acked(event(1, 0)).await.unwrap();
    {
        let mut state = server.state.lock();
        (state.refuses_connections, state.watermarks_take) = (true, 600 * SECOND);
    }
    sleep(5 * SECOND).await;
    let start = Instant::now();
    timeout(HOUR, log.submit(event(2, 0)).unwrap()).await.unwrap().unwrap();
    assert!(start.elapsed() <= SECOND, "sent after {:?}", start.elapsed());
}

/// An event is found not to have arrived in an outage, and sent again; the next one is read back from there again.
async fn behind_one_sent_again(says_where: bool, again: Fate) {
    let server = Server::new(says_where, 1);
    let log = server.open(steady()).await;
    server.fate(0, Fate::Lost);
    server.fate(0, again);
    server.fate(0, Fate::Lost);
    server.state.lock().refuses_connections = true;
    let first = log.submit(event(0, 1)).unwrap();
    sleep(600 * SECOND).await;
    server.others(0, 50_000);
    server.state.lock().refuses_connections = false;
    let outcome = timeout(HOUR, first).await.unwrap();
    let before = server.state.lock().records_read;
    sleep(100 * MS).await;
    let second = timeout(HOUR, log.append_acked(event(0, 2))).await.unwrap();
    let read = server.state.lock().records_read - before;
    assert!(second.is_ok(), "{second:?}");
    assert!(
        read < 1_100,
        "{read} records were read back for the second ({before} for the first, {outcome:?})"
    );
}

#[tokio::test(start_paused = true)]
async fn a17_behind_one_that_was_sent_again_and_refused() {
    behind_one_sent_again(true, Fate::Refused).await;
}

#[tokio::test(start_paused = true)]
async fn a17_behind_one_that_was_sent_again_to_a_log_that_does_not_say_where() {
    behind_one_sent_again(false, Fate::Confirmed(10)).await;
}

#[tokio::test(start_paused = true)]
async fn control_a17_behind_one_that_was_sent_again() {
    behind_one_sent_again(true, Fate::Confirmed(10)).await;
}

/// Retention five seconds before the second one is sent.
#[tokio::test(start_paused = true)]
async fn a17_retention_before_the_next_one_behind_one_that_was_sent_again() {
    let server = Server::new(false, 1);
    let log = server.open(steady()).await;
    server.others(0, 10);
    server.fate(0, Fate::Lost);
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::After(500)));
    let first = log.submit(event(0, 1)).unwrap();
    // While it is read back, a slow request takes the only connection.
    while server.with(0, |partition| partition.fetched) == 0 {
        sleep(MS).await;
    }
    server.others(0, 10);
    server.fate(1, Fate::Confirmed(10_000));
    let slow = log.submit(event(1, 1)).unwrap();
    sleep(5 * SECOND).await;
    server.trim(0, 15);
    timeout(HOUR, slow).await.unwrap().unwrap();
    let first = timeout(HOUR, first).await.unwrap();
    server.fate(0, Fate::Lost);
    let second = timeout(HOUR, log.append_acked(event(0, 2))).await.unwrap();
    assert!(second.is_ok(), "{second:?}; {first:?}");
}

/// The question hangs, and there is nothing to send.
#[tokio::test(start_paused = true)]
async fn l3_close_does_not_wait_for_the_first_question_of_a_connection() {
    let server = Server::new(true, 1);
    server.state.lock().watermarks_take = HOUR;
    let log = server.open(steady()).await;
    let start = Instant::now();
    log.close(60 * SECOND).await.unwrap();
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// A request was given up while it waited for where its partition ends, and has its turn on the new connection much later.
async fn given_up_while_it_is_asked(gives_up: bool, trim: bool) {
    let server = Server::new(true, 2);
    let log = server.open(steady()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    sleep(2 * SECOND).await;
    server.fate(1, Fate::Cut(2_000));
    server.fate(1, Fate::Confirmed(30_000));
    server.fate(0, Fate::Lost);
    let bad = log.submit(event(1, 0)).unwrap();
    sleep(1_800 * MS).await;
    server.state.lock().watermarks_take = 400 * MS;
    let early = gives_up.then(|| log.submit(event(0, 1)).unwrap());
    sleep(300 * MS).await;
    assert!(!log.state().current().is_connected());
    assert_eq!(server.with(0, |partition| partition.sends), 1);
    let ours = early.unwrap_or_else(|| log.submit(event(0, 1)).unwrap());
    // There is no further connection for half a minute, and what loses the last one has the new one first.
    {
        let mut state = server.state.lock();
        (state.connects_left, state.watermarks_take) = (1, Duration::ZERO);
    }
    log.state().wait_for(|state| state.is_connected()).await;
    sleep(5 * SECOND).await;
    server.others(0, 50_000);
    if trim {
        server.trim(0, 40_000);
    }
    sleep(20 * SECOND).await;
    assert_eq!(server.with(0, |partition| partition.sends), 1);
    bad.await.unwrap();
    server.state.lock().connects_left = usize::MAX;
    let outcome = timeout(HOUR, ours).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(read < 1_100, "{read} records were read back, all appended 20 s before the request was sent");
}

#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_while_one_that_was_given_up_waits_for_its_turn() {
    given_up_while_it_is_asked(true, false).await;
}

#[tokio::test(start_paused = true)]
async fn a17_retention_while_one_that_was_given_up_waits_for_its_turn() {
    given_up_while_it_is_asked(true, true).await;
}

#[tokio::test(start_paused = true)]
async fn control_a17_one_that_was_not_given_up_waits_for_its_turn() {
    given_up_while_it_is_asked(false, false).await;
    given_up_while_it_is_asked(false, true).await;
}
