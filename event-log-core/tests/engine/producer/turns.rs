//! Where reading back begins for requests that have to wait for their turn.

use crate::served::{Fate, HOUR, SECOND, Server, alone, event};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{sleep, timeout};

/// a17 for a request that has certainly not arrived, and waits for its turn on the new connection.
async fn turn(trim: bool) {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    log.append_acked(event(1, 0)).await.unwrap();
    server.fate(0, Fate::Cut(100));
    server.fate(1, Fate::Confirmed(30_000));
    server.fate(0, Fate::Lost);
    let ours = log.submit(event(0, 1)).unwrap();
    sleep(SECOND / 100).await;
    // It goes before the one that is sent again.
    let other = log.submit(event(1, 1)).unwrap();
    log.state().wait_for(|state| !state.is_connected()).await;
    log.state().wait_for(|state| state.is_connected()).await;
    sleep(5 * SECOND).await;
    server.others(0, 50_000);
    if trim {
        server.trim(0, 40_000);
    }
    other.await.unwrap();
    let outcome = timeout(HOUR, ours).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(
        read < 1_100,
        "{read} records were read back, all appended twenty seconds before the request was sent"
    );
}

#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_while_a_resend_waits_for_its_turn() {
    turn(false).await;
}

#[tokio::test(start_paused = true)]
async fn a17_retention_while_a_resend_waits_for_its_turn() {
    turn(true).await;
}

/// a17 for the events of a refused request, which go one by one. All are refused, slowly.
async fn split(trim: bool) {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(0, Fate::RefusedAfter(5_000));
    server.fate(0, Fate::RefusedAfter(20_000));
    server.fate(0, Fate::Lost);
    let first = log.submit(event(0, 1)).unwrap();
    let second = log.submit(event(0, 2)).unwrap();
    sleep(10 * SECOND).await;
    server.others(0, 50_000);
    if trim {
        server.trim(0, 40_000);
    }
    first.await.unwrap_err();
    let outcome = timeout(HOUR, second).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(
        read < 1_100,
        "{read} records were read back, all appended fifteen seconds before the request was sent"
    );
}

#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_while_another_event_was_being_refused() {
    split(false).await;
}

#[tokio::test(start_paused = true)]
async fn a17_retention_while_another_event_was_being_refused() {
    split(true).await;
}

/// a17 over a new connection: the answer to where the partitions end has taken ten seconds, in which others appended.
#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_while_the_first_question_was_answered() {
    let server = Server::new(true, 1);
    let log = server.open(alone()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.state.lock().down = true;
    log.state().wait_for(|state| !state.is_connected()).await;
    {
        let mut state = server.state.lock();
        (state.down, state.watermarks_take) = (false, 10 * SECOND);
    }
    let connects = server.state.lock().connects;
    while server.state.lock().connects == connects {
        sleep(SECOND / 100).await;
    }
    // It is asked now.
    sleep(2 * SECOND).await;
    server.others(0, 50_000);
    server.trim(0, 40_000);
    log.state().wait_for(|state| state.is_connected()).await;
    server.state.lock().watermarks_take = std::time::Duration::ZERO;
    server.fate(0, Fate::Lost);
    let outcome = timeout(HOUR, log.append_acked(event(0, 1))).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(
        read < 1_100,
        "{read} records were read back, all appended eight seconds before the request was sent"
    );
}
