//! Events that bring the same id, and expire.

use crate::served::{Event, Fate, HOUR, MS, SECOND, Server, event, message};
use event_log_core::{EventLog as _, ProducerConfig};
use tokio::time::{sleep, timeout};

/// a1: "An acknowledgement has the position that the log itself has assigned". The same event twice in one request, whose answer
/// is lost; the first expires while the log is away.
#[tokio::test(start_paused = true)]
async fn a1_an_event_is_not_acknowledged_where_the_one_before_it_is() {
    let server = Server::new(true, 1);
    let mut config = ProducerConfig::default();
    config.expiry = Some(10 * SECOND);
    let log = server.open(config).await;
    server.fate(0, Fate::Confirmed(8_000));
    server.fate(0, Fate::ReplyLostAfter(500));
    let _first = log.submit(event(0, 0)).unwrap();
    sleep(10 * MS).await;
    let with_id = |number| Event { id: Some(7), ..event(0, number) };
    let one = log.submit(with_id(1)).unwrap();
    sleep(5 * SECOND).await;
    let two = log.submit(with_id(2)).unwrap();
    log.state().wait_for(|state| !state.is_connected()).await;
    server.state.lock().refuses_connections = true;
    let one = timeout(HOUR, one).await.unwrap();
    assert!(one.unwrap_err().may_have_taken_effect());
    server.state.lock().refuses_connections = false;
    let two = timeout(HOUR, two).await.unwrap().unwrap();
    assert_eq!(server.numbers(0), [0, 1, 2]);
    assert_eq!(two.offset.unwrap().0, 2, "the second one is at 2");
}

/// The same where only the first part of the request has arrived.
#[tokio::test(start_paused = true)]
async fn a4_an_event_that_is_not_there_is_not_acknowledged() {
    let server = Server::new(true, 1);
    let mut config = ProducerConfig::default();
    config.expiry = Some(10 * SECOND);
    let log = server.open(config).await;
    server.fate(0, Fate::Confirmed(8_000));
    server.fate(0, Fate::HalfLostAfter(500));
    let _first = log.submit(event(0, 0)).unwrap();
    sleep(10 * MS).await;
    let with_id = |number| Event { id: Some(7), ..event(0, number) };
    let one = log.submit(with_id(1)).unwrap();
    sleep(5 * SECOND).await;
    let two = log.submit(with_id(2)).unwrap();
    log.state().wait_for(|state| !state.is_connected()).await;
    server.state.lock().refuses_connections = true;
    drop(timeout(HOUR, one).await.unwrap().unwrap_err());
    server.state.lock().refuses_connections = false;
    let two = timeout(HOUR, two).await.unwrap();
    let numbers = server.numbers(0);
    assert!(two.is_err() || numbers.contains(&2), "{two:?}, and the log holds {numbers:?}");
}

/// a8: "the writer reads back and sends only what is not in the log". A network has delivered the first event of a request twice,
/// and answers have one record each: the second copy is not taken for the event that is still to be found.
#[tokio::test(start_paused = true)]
async fn a8_a_second_copy_is_not_taken_for_another_event_of_the_request() {
    let server = Server::new(true, 1);
    server.state.lock().most = 1;
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::Confirmed(1_000));
    server.fate(0, Fate::LostAfter(500));
    let _first = log.submit(event(0, 0)).unwrap();
    sleep(10 * MS).await;
    // They wait for the answer, and go together.
    let [one, two] = [1, 2].map(|number| Event { id: Some(u128::from(number) + 6), ..event(0, number) });
    let tickets = [log.submit(one.clone()).unwrap(), log.submit(two.clone()).unwrap()];
    sleep(SECOND + 100 * MS).await;
    let arrived = [message(&one, 7), message(&one, 7), message(&two, 8)];
    server.with(0, |partition| partition.append(&arrived));
    for (ticket, offset) in tickets.into_iter().zip([1, 3]) {
        let ack = timeout(HOUR, ticket).await.unwrap().unwrap();
        assert_eq!(ack.offset.unwrap().0, offset);
    }
    assert_eq!(server.numbers(0), [0, 1, 1, 2]);
}
