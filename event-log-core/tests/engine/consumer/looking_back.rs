//! What a reader that begins in the middle of a partition looks at before it delivers: a second copy of what another consumer has
//! had may be yet to come.

use std::sync::Arc;

use event_log_core::engine::FetchRequest;
use event_log_core::{EventLogExt as _, Offset};

use crate::reading_ahead::{SECOND, Server, read};

/// A partition whose offsets from `low` on have a record each `every`, of which the group has had those before `place`.
async fn begun(low: u64, every: usize, place: u64, high: u64) -> (Arc<Server>, Vec<FetchRequest>) {
    let server = Server::new(1);
    for number in 0..high {
        server.append(0, number);
    }
    server.change(|state| {
        let part = &mut state.parts[0];
        part.low = low;
        part.records.retain(|record| record.offset.0 >= low && record.offset.0 % every as u64 == 0);
        part.place = Some(Offset(place));
        state.requests = Some(Vec::new());
    });
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    if place < high {
        read(&mut *consumer, 1).await;
    } else {
        assert!(consumer.poll(10, SECOND).await.unwrap().is_empty());
    }
    let requests = server.change(|state| state.requests.take()).unwrap();
    (server, requests)
}

fn froms(requests: &[FetchRequest]) -> Vec<u64> {
    requests.iter().map(|request| request.from.0).collect()
}

/// c8: where nothing comes nothing is looked at.
#[tokio::test(start_paused = true)]
async fn c8_a_reader_that_begins_at_the_end_looks_back_when_something_comes() {
    let (_, requests) = begun(0, 1, 3_000, 3_000).await;
    assert_eq!(froms(&requests), [3_000]);
}

#[tokio::test(start_paused = true)]
async fn c8_a_reader_asks_for_no_more_than_what_lies_before_it() {
    let (_, requests) = begun(0, 1, 30, 60).await;
    assert_eq!(froms(&requests), [30, 0]);
    assert_eq!(requests[1].max_records, 30);
}

/// The window holds 2,048 records: where each eighth offset has one it looks back over twice as many offsets each time, the nearest
/// first, until it is full or has come to the first one.
#[tokio::test(start_paused = true)]
async fn c8_a_reader_looks_farther_back_where_offsets_have_no_record() {
    let (_, requests) = begun(9_000, 8, 20_000, 20_010).await;
    assert_eq!(froms(&requests), [20_000, 17_952, 15_904, 11_808, 9_000]);
}
