//! What a commit says, and what is so: places in doubt, and cursors of epochs that have ended.

use crate::reading_ahead::{MS, Reach, SECOND, Server, place, read, to};
use event_log_core::engine::TransportLog;
use event_log_core::{Cursor, EventConsumer, EventLogExt as _, Offset, PartitionId, RawEvent, SeekPosition};
use std::sync::Arc;
use tokio::time::{sleep, timeout};

const P: PartitionId = PartitionId(0);

/// `Ok` means that the place is stored, or that the group is farther already.
async fn commit_is_true(consumer: &mut dyn EventConsumer<RawEvent>, server: &Arc<Server>, cursor: &Cursor) {
    let committed = consumer.commit(cursor).await;
    let stands = place(server);
    assert!(
        committed.is_err() || stands >= cursor.get(P),
        "{committed:?} of {cursor}, and the group stands at {stands:?}"
    );
}

async fn twenty_records() -> (Arc<Server>, TransportLog<RawEvent, Reach>) {
    let server = Server::new(1);
    for number in 1..=20 {
        server.append(0, number);
    }
    let log = server.open().await;
    (server, log)
}

/// c13, `commit`: "`Ok` means that each is stored, or that the group is farther already". The group went back on purpose, in
/// a commit whose answer was lost.
#[tokio::test(start_paused = true)]
async fn c13_ok_of_an_old_cursor_after_a_commit_back_that_is_in_doubt() {
    let (server, log) = twenty_records().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let eight = read(&mut *consumer, 8).await;
    let ten = read(&mut *consumer, 2).await;
    consumer.commit(&ten).await.unwrap();
    consumer.seek(to(3)).await.unwrap();
    let five = read(&mut *consumer, 2).await;
    server.change(|state| state.commit_reply_lost = true);
    let doubtful = consumer.commit(&five).await;
    assert!(doubtful.is_err());
    assert_eq!(place(&server), Some(Offset(5)));
    commit_is_true(&mut *consumer, &server, &eight).await;
}

/// The same with a commit that is dropped after it was stored.
#[tokio::test(start_paused = true)]
async fn c13_ok_of_an_old_cursor_after_a_commit_back_that_was_dropped() {
    let (server, log) = twenty_records().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let ten = read(&mut *consumer, 10).await;
    consumer.commit(&ten).await.unwrap();
    consumer.seek(to(3)).await.unwrap();
    let five = read(&mut *consumer, 2).await;
    server.change(|state| state.commit_reply_lost = true);
    let _ = consumer.commit(&five).await;
    assert_eq!(place(&server), Some(Offset(5)));
    commit_is_true(&mut *consumer, &server, &ten).await;
}

/// The partition begins again, which the consumer has fetched and not been told of, and it seeks.
async fn begun_again(seek: SeekPosition) {
    let server = Server::new(1);
    for number in 1..=600 {
        server.append(0, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let eight = read(&mut *consumer, 8).await;
    let ten = read(&mut *consumer, 2).await;
    consumer.commit(&ten).await.unwrap();
    // Something is fetched and not delivered, when the log begins again.
    server.change(|state| {
        let part = &mut state.parts[0];
        part.records.clear();
        part.since.clear();
        (part.low, part.high, part.place) = (0, 0, None);
        part.incarnation += 1;
    });
    for number in 1_001..=1_020 {
        server.append(0, number);
    }
    // It delivers what it has, and learns of the truncation meanwhile.
    let _ = read(&mut *consumer, 1).await;
    tokio::time::sleep(SECOND).await;
    let _ = read(&mut *consumer, 1).await;
    consumer.seek(seek).await.unwrap();
    for cursor in [&eight, &ten] {
        commit_is_true(&mut *consumer, &server, cursor).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c13_ok_of_a_cursor_from_before_a_truncation_and_a_seek_to_the_beginning() {
    begun_again(SeekPosition::Beginning).await;
}

#[tokio::test(start_paused = true)]
async fn c13_ok_of_a_cursor_from_before_a_truncation_and_a_seek_to_an_offset() {
    begun_again(to(2)).await;
}

#[tokio::test(start_paused = true)]
async fn c13_ok_of_a_cursor_from_before_a_truncation_and_a_seek_to_the_end() {
    begun_again(SeekPosition::End).await;
}

/// c4: "committing again ... changes nothing": while the consumer stands beyond the end.
#[tokio::test(start_paused = true)]
async fn c4_committing_again_while_the_consumer_stands_beyond_the_end() {
    let (_, log) = twenty_records().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let ten = read(&mut *consumer, 10).await;
    consumer.commit(&ten).await.unwrap();
    consumer.seek(to(100)).await.unwrap();
    consumer.commit(&ten).await.unwrap();
    // A cursor that was kept.
    let kept: Cursor = serde_json::from_slice(&serde_json::to_vec(&ten).unwrap()).unwrap();
    consumer.commit(&kept).await.unwrap();
}

/// The partition goes to another member while a commit back is in doubt: a later cursor of the member that had it is not
/// stored, nor is a later place.
#[tokio::test(start_paused = true)]
async fn c13_ok_of_an_old_cursor_of_a_partition_that_went_away_with_a_commit_back_in_doubt() {
    let (server, log) = twenty_records().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let eight = read(&mut *consumer, 8).await;
    let ten = read(&mut *consumer, 2).await;
    consumer.commit(&ten).await.unwrap();
    consumer.seek(to(3)).await.unwrap();
    let five = read(&mut *consumer, 2).await;
    server.change(|state| state.commit_reply_lost = true);
    assert!(consumer.commit(&five).await.is_err());
    server.evict_all();
    let _other = log.consumer("g").await.unwrap();
    let batch = consumer.poll(10, SECOND).await.unwrap();
    assert!(batch.is_empty() && !batch.notices.is_empty(), "{:?}", batch.notices);
    for cursor in [&eight, &ten] {
        commit_is_true(&mut *consumer, &server, cursor).await;
    }
}

/// c15: "what happens to one partition (… a question that fails …) neither hides nor delays the others". One partition is in
/// doubt, because a commit of it was dropped; the question where the group stands fails; the commit of another partition needs no
/// question.
#[tokio::test(start_paused = true)]
async fn c15_a_doubt_about_one_partition_delays_the_commit_of_no_other() {
    let server = Server::new(2);
    let log = server.open().await;
    for number in 0..20 {
        server.append((number % 2) as usize, number);
    }
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = 0;
    while seen < 20 {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
    let here = consumer.position().clone();
    let mut of_0 = here.clone();
    of_0.remove(PartitionId(1));
    server.change(|state| state.commit_takes = 50 * MS);
    assert!(timeout(20 * MS, consumer.commit(&of_0)).await.is_err());
    server.change(|state| (state.commit_takes, state.places_fail) = (20 * MS, true));
    for _ in 0..5 {
        assert!(consumer.commit(&here).await.is_err(), "of partition 0 it stays in doubt");
        sleep(SECOND).await;
    }
    let place = server.change(|state| state.parts[1].place);
    assert_eq!(place, Some(Offset(10)), "the place of partition 1, of which nothing is in doubt");
}

/// A refusal leaves nothing in doubt: where the group stands is not asked before the next commit.
#[tokio::test(start_paused = true)]
async fn c13_after_a_refused_commit_nothing_is_in_doubt() {
    let (server, log) = twenty_records().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let ten = read(&mut *consumer, 10).await;
    let owner = server.change(|state| state.parts[0].owner.take());
    assert!(consumer.commit(&ten).await.is_err());
    server.change(|state| {
        state.parts[0].owner = owner;
        state.calls.clear();
    });
    consumer.commit(&ten).await.unwrap();
    assert_eq!(place(&server), Some(Offset(10)));
    assert_eq!(server.change(|state| state.calls.get("committed").copied()), None);
}

/// c13: "`Ok` means that every named place is stored, or was stored farther on". The consumer was sent to the end, and has
/// committed that; the log begins again, and ends before; a seek to what was kept is told as a truncation, and commits behind it
/// say `Ok` and store nothing. (Found by `again_walk`, seed 496.)
async fn kept_behind_found(
    read_before: u64,
    tells_incarnation: bool,
    grows_to: u64,
    begins_with: u64,
    seeks_kept: bool,
) {
    let server = Server::new(1);
    server.change(|state| state.tells_incarnation = tells_incarnation);
    for number in 1..=read_before {
        server.append(0, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    if read_before > 0 {
        let _ = read(&mut *consumer, read_before as usize).await;
        let _ = consumer.poll(1, 100 * MS).await.unwrap();
    }
    for number in read_before + 1..=grows_to {
        server.append(0, number);
    }
    consumer.seek(SeekPosition::End).await.unwrap();
    let end = consumer.position().clone();
    consumer.commit(&end).await.unwrap();
    assert_eq!(place(&server), Some(Offset(grows_to)));
    server.change(|state| {
        let part = &mut state.parts[0];
        part.records.clear();
        part.since.clear();
        (part.low, part.high, part.place) = (0, 0, Some(Offset(0)));
        part.incarnation += 1;
    });
    for number in 1_001..=1_000 + begins_with {
        server.append(0, number);
    }
    if seeks_kept {
        consumer.seek(SeekPosition::Cursor(end)).await.unwrap();
    }
    let (mut notices, mut got) = (Vec::new(), 0);
    let mut cursor = Cursor::new();
    for _ in 0..5 {
        let batch = consumer.poll(100, SECOND).await.unwrap();
        got += batch.len();
        cursor = batch.cursor().clone();
        notices.extend(batch.notices);
    }
    let committed = consumer.commit(&cursor).await;
    assert!(
        committed.is_err() || place(&server) >= cursor.get(P),
        "told {notices:?}, delivered {got}; {committed:?} of {cursor}, and the group stands at {:?}",
        place(&server)
    );
}

#[tokio::test(start_paused = true)]
async fn c13_ok_of_a_commit_behind_a_seek_to_what_was_kept_of_a_log_of_which_nothing_was_read() {
    kept_behind_found(0, true, 100, 20, true).await;
}

#[tokio::test(start_paused = true)]
async fn c13_ok_of_a_commit_behind_a_seek_to_what_was_kept_of_a_log_without_incarnations() {
    kept_behind_found(50, false, 100, 60, true).await;
}

#[tokio::test(start_paused = true)]
async fn c13_ok_of_a_commit_without_the_second_seek() {
    kept_behind_found(50, false, 100, 60, false).await;
    kept_behind_found(0, true, 100, 20, false).await;
    kept_behind_found(50, true, 100, 60, true).await;
}
