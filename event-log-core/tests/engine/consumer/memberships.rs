//! Memberships that are lost while something is asked for on their behalf.

use std::collections::BTreeMap;

use event_log_core::{Error, EventConsumer as _, EventLogExt as _};
use tokio::time::Instant;

use crate::reading_ahead::{MS, SECOND, Server};

/// c16, c15: a question that takes long delays nothing else. A connection is lost while it is open: the membership that it was
/// asked for is held until it is answered, and with it the partitions that the group gave to it.
#[tokio::test(start_paused = true)]
async fn c15_a_slow_question_holds_no_membership_that_is_lost() {
    let server = Server::new(4);
    let log = server.open().await;
    let mut first = log.consumer("g").await.unwrap();
    let second = log.consumer("g").await.unwrap();
    assert!(first.poll(10, SECOND).await.unwrap().is_empty());
    // The second one leaves, its partitions come to the first, and where the group stands in them takes long to say.
    server.change(|state| state.places_take = 20 * SECOND);
    drop(second);
    let _ = first.poll(10, SECOND).await;
    server.append(0, 1);
    server.append(2, 2);
    server.append(1, 3);
    server.append(3, 4);
    // The connection is lost at a fetch.
    server.change(|state| state.parts[0].loses_every = 1);
    let start = Instant::now();
    let mut seen = BTreeMap::new();
    for nth in 0..300 {
        for record in first.poll(10, 100 * MS).await.iter().flat_map(|batch| &batch.records) {
            seen.entry(record.position.partition.0).or_insert(start.elapsed());
        }
        if nth == 0 {
            server.change(|state| state.parts[0].loses_every = 0);
        }
        if seen.len() == 4 {
            break;
        }
    }
    // Those that it had before are read on at once.
    for partition in [0, 2] {
        assert!(seen.get(&partition).is_some_and(|took| *took < 5 * SECOND), "{seen:?}");
    }
}

/// c11: what waiting does not mend is told at once.
#[tokio::test(start_paused = true)]
async fn c11_a_group_that_refuses_to_be_joined_again_ends_the_poll() {
    let server = Server::new(1);
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    server.change(|state| {
        state.join_refused = true;
        state.parts[0].loses_every = 1;
    });
    server.append(0, 1);
    let start = Instant::now();
    let refused = consumer.poll(10, 3_600 * SECOND).await;
    assert!(matches!(refused, Err(Error::Unauthorized(_))), "{refused:?}");
    assert!(start.elapsed() < SECOND, "after {:?}", start.elapsed());
}
