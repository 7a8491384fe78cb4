//! What a consumer believes of whose its partitions are, when that was asked long ago or over another connection.

use std::sync::Arc;

use event_log_core::{EventConsumer, EventLogExt as _, Notice, Offset, PartitionId, SeekPosition};
use tokio::time::{sleep, timeout};

use crate::reading_ahead::{MS, SECOND, Server, place, read, to};

const P: PartitionId = PartitionId(0);

/// The partition goes to another member, which reads on, commits and leaves.
async fn others_turn(server: &Arc<Server>, upto: usize) {
    let log = server.open().await;
    let mut b = log.consumer("g").await.unwrap();
    server.change(|state| {
        // It is b's turn.
        state.members.reverse();
        state.rebalance();
    });
    let cursor = read(&mut *b, upto).await;
    b.commit(&cursor).await.unwrap();
    b.leave().await.unwrap();
}

/// c13, c4, c8: the place of the group goes back, and `Ok` is said. No future is dropped: a poll returns what is at hand while
/// the question for the assignment is under way, as it may; the answer, which is an hour old by then, counts as one of now when
/// the batch is committed.
#[tokio::test(start_paused = true)]
async fn c13_a_commit_believes_an_assignment_that_is_an_hour_old() {
    let server = Server::new(1);
    for number in 1..=200 {
        server.append(0, number);
    }
    let log = server.open().await;
    let mut a = log.consumer("g").await.unwrap();
    // The answers to the question for the assignment take 30 ms on their way.
    server.change(|state| state.assignments_reply = 30 * MS);
    let first = read(&mut *a, 10).await;
    a.commit(&first).await.unwrap();
    let fifty = read(&mut *a, 40).await;
    assert_eq!(fifty.get(P), Some(Offset(50)));
    // The batch is worked on for an hour, and others come and go meanwhile.
    sleep(3_600 * SECOND).await;
    others_turn(&server, 90).await;
    assert_eq!(place(&server), Some(Offset(100)));
    let committed = a.commit(&fifty).await;
    assert!(
        place(&server) >= Some(Offset(100)),
        "{committed:?}, and the place of the group went back to {:?}",
        place(&server)
    );
}

/// The same with a reliable seek: it says that it moved this consumer to the beginning.
#[tokio::test(start_paused = true)]
async fn c5_a_seek_believes_an_assignment_that_is_an_hour_old() {
    let server = Server::new(2);
    for number in 1..=100 {
        server.append((number % 2) as usize, number);
    }
    let log = server.open().await;
    let mut a = log.consumer("g").await.unwrap();
    let log_b = server.open().await;
    let b = log_b.consumer("g").await.unwrap();
    // It knows that it has one.
    while a.position().len() != 1 {
        let _ = a.poll(1, 100 * MS).await.unwrap();
    }
    server.change(|state| state.assignments_reply = 30 * MS);
    assert_eq!(a.poll(1, SECOND).await.unwrap().len(), 1);
    b.leave().await.unwrap();
    sleep(3_600 * SECOND).await;
    a.seek(SeekPosition::End).await.unwrap();
    assert_eq!(a.position().len(), 2, "it has had both for an hour: {}", a.position());
}

/// DESIGN, "Why does a consumer keep its place when it joins again?" and "an error after a lost connection": "If no other member had
/// its partitions meanwhile, it goes on where it was; otherwise at the committed cursor." c4, c8.
#[tokio::test(start_paused = true)]
async fn c8_after_joining_again_what_another_has_committed_is_delivered_again() {
    let server = Server::new(1);
    for number in 1..=1_000 {
        server.append(0, number);
    }
    let log = server.open().await;
    let mut a = log.consumer("g").await.unwrap();
    let _ = read(&mut *a, 10).await;
    // All that was fetched.
    while !a.poll(1_000, MS).await.unwrap().is_empty() {}
    server.evict_all();
    for number in 1_001..=1_100 {
        server.append(0, number);
    }
    others_turn(&server, 1_100).await;
    assert_eq!(place(&server), Some(Offset(1_100)));
    server.change(|state| state.assignments_reply = 30 * MS);
    let mut again = Vec::new();
    for _ in 0..5 {
        let batch = a.poll(1_000, SECOND).await.unwrap();
        again.extend(batch.records.iter().map(|record| record.position.offset.0));
    }
    assert!(
        again.is_empty(),
        "delivered although another member has committed them: {} records from {:?} on",
        again.len(),
        again.first()
    );
}

/// `Notice::Assigned`: "These partitions came to this consumer." c8. A consumer that joins again has a partition placed that it
/// had been about to read when the connection was lost, before it asks whose it is.
#[tokio::test(start_paused = true)]
async fn c8_a_partition_of_another_member_is_read_after_joining_again() {
    let server = Server::new(2);
    let log = server.open().await;
    let log_b = server.open().await;
    let mut a = log.consumer("g").await.unwrap();
    let mut b = log_b.consumer("g").await.unwrap();
    for _ in 0..3 {
        let _ = a.poll(1, 10 * MS).await.unwrap();
        let _ = b.poll(1, 10 * MS).await.unwrap();
    }
    // a has 0 and b has 1; partition 1 comes to a, whose place cannot be asked for at this time.
    server.change(|state| {
        state.parts[0].place_fails = true;
        state.parts[0].last_instance = None;
        state.rebalance();
    });
    let batch = a.poll(1, 10 * MS).await.unwrap();
    assert!(batch.notices.iter().any(|notice| matches!(notice, Notice::Revoked(_))), "{batch:?}");
    // The connection of a is lost; b has both partitions for an hour, and then a comes back and has partition 1.
    server.change(|state| {
        state.parts[0].place_fails = false;
        let a = state.members.remove(0);
        let _ = a;
        state.rebalance();
    });
    for number in 1..=100 {
        server.append(0, number);
    }
    let mut of_0 = 0;
    while of_0 < 100 {
        of_0 += b.poll(100, SECOND).await.unwrap().len();
    }
    server.change(|state| state.assignments_reply = 30 * MS);
    // a is dead, which it finds out by asking.
    server.change(|state| state.drop_unknown = true);
    let mut log = Vec::new();
    for _ in 0..5 {
        match a.poll(200, 100 * MS).await {
            Ok(batch) => log.push(format!(
                "{:?}, {} of 0",
                batch.notices,
                batch.records.iter().filter(|one| one.position.partition == P).count()
            )),
            Err(error) => log.push(format!("{error:?}")),
        }
    }
    let owner = server.change(|state| (state.parts[0].owner, state.members.clone()));
    assert!(!log.iter().any(|text| text.contains("100 of 0")), "partition 0 is of {owner:?}: {log:#?}");
}

/// c7: what a notice says is of where the consumer is.
#[tokio::test(start_paused = true)]
async fn c7_a_notice_goes_with_the_partition_it_is_of() {
    let server = Server::new(2);
    for number in 1..=100 {
        server.append((number % 2) as usize, number);
    }
    let log = server.open().await;
    let mut a = log.consumer("g").await.unwrap();
    let cursor = read(&mut *a, 100).await;
    a.commit(&cursor).await.unwrap();
    a.seek(to(2)).await.unwrap();
    // Retention removes what comes next, and the other partition takes its time: the poll is dropped before it returns.
    server.change(|state| {
        state.parts[0].records.drain(..10);
        state.parts[0].low = 10;
        state.parts[1].fetch_takes = 50 * MS;
    });
    server.append(1, 101);
    let polled = timeout(20 * MS, a.poll(1, SECOND)).await;
    assert!(polled.is_err(), "{polled:?}");
    server.change(|state| {
        state.parts[0].last_instance = None;
        state.rebalance();
    });
    let mut notices = Vec::new();
    for _ in 0..5 {
        let batch = a.poll(100, SECOND).await.unwrap();
        notices.extend(batch.notices.iter().map(|notice| format!("{notice:?} with {}", batch.cursor())));
    }
    assert!(!notices.iter().any(|notice| notice.contains("Missing")), "{notices:#?}");
}
