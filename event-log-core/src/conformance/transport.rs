//! The cases of a [`Transport`]: what the engine relies on, and no reader of a log could see.
//!
//! ```text
//! event_log_core::transport_conformance!(MyTransportHarness::new());
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_immediate;
use tokio::time::Instant;

use super::harness::NotRun;
use super::run::{Ending, announce, within_a_runtime};
use crate::engine::{
    CommitMode, FetchRequest, FetchResponse, GroupMember, KnownEnd, Landmark, Message, ProducerConnection,
    Transport,
};
use crate::error::{CommitErrorKind, Error};
use crate::event::EventId;
use crate::headers::Headers;
use crate::position::{Offset, PartitionId};

/// What a backend lends to the cases of its transport. Each case gets one to itself, with a topic of its own.
pub trait TransportHarness: Send + Sync {
    /// The transport.
    type Transport: Transport;

    /// A transport to the harness's topic, which has so many partitions.
    ///
    /// # Errors
    ///
    /// When there can be none.
    fn transport(&self, partitions: u32) -> impl Future<Output = Result<Arc<Self::Transport>, Error>> + Send;

    /// Whether there is anything to run on, such as the server that the backend needs.
    ///
    /// # Errors
    ///
    /// [`NotRun`] with the reason; the case ends there, before it has begun.
    fn ready(&self) -> Result<(), NotRun> {
        Ok(())
    }

    /// Whether the backend lives in tokio's time alone.
    fn virtual_time(&self) -> bool {
        false
    }
}

const ZERO: PartitionId = PartitionId(0);
/// A case that takes longer is stuck.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Within it the members of a group know of each other.
const SETTLING: Duration = Duration::from_secs(30);

macro_rules! transport_cases {
    ($d:tt $($name:ident),+ $(,)?) => {
        /// The names of the cases of a transport, each of which begins with the clause that it serves.
        pub const TRANSPORT_CASES: &[&str] = &[$(stringify!($name)),+];

        /// Runs one case on a transport.
        ///
        /// # Panics
        ///
        /// When the case fails, when it is stuck, and when there is no case of that name.
        pub fn run_transport<H: TransportHarness>(name: &str, harness: impl FnOnce() -> H) -> Ending {
            let ending = within_a_runtime(async {
                let harness = harness();
                if let Err(reason) = harness.ready() {
                    return Ending::NotRun(reason);
                }
                if harness.virtual_time() {
                    tokio::time::pause();
                }
                let case = async {
                    match name {
                        $(stringify!($name) => $name(&harness).await,)+
                        _ => panic!("there is no case {name}"),
                    }
                };
                let stuck = tokio::time::timeout(TIMEOUT, case).await;
                stuck.unwrap_or_else(|_| panic!("{name} is stuck"));
                Ending::Passed
            });
            if let Ending::NotRun(NotRun(reason)) = &ending {
                announce(&format!("{name}: not run: {reason}"));
            }
            ending
        }

        /// Makes one `#[test]` per case of a transport, on the
        /// [`TransportHarness`](crate::conformance::TransportHarness) that the expression makes.
        #[macro_export]
        macro_rules! transport_conformance {
            ($d harness:expr) => {
                $(
                    #[test]
                    fn $name() {
                        match $d crate::conformance::run_transport(stringify!($name), || $d harness) {
                            $d crate::conformance::Ending::Passed => {}
                            // Nothing to run on: it has said so.
                            $d crate::conformance::Ending::NotRun(_) => {}
                        }
                    }
                )+
            };
        }
    };
}

transport_cases! { $
    a8_nothing_arrives_over_a_closed_connection,
    a18_ids_and_headers_are_kept,
    l8_a_fetch_honours_its_bounds,
    l8_a_fetch_from_anywhere_begins_there,
    c7_a_landmark_shows_another_log,
    c8_a_member_commits_only_for_its_partitions,
    c8_a_generation_goes_with_its_assignments,
    c8_a_leave_ends_a_wait,
    c1_an_append_ends_a_wait,
    c12_initialising_keeps_the_place_of_a_group,
    c13_an_epoch_shows_that_another_had_the_partition,
    c13_the_owner_can_move_a_place_back,
    c13_places_are_in_the_order_of_the_question,
    c15_a_fetch_over_a_connection_of_its_own_says_the_same,
}

fn message(number: u64, bytes: usize) -> Message {
    let payload = Bytes::from(vec![b'a' + (number % 26) as u8; bytes]);
    Message { id: EventId::from_u128(u128::from(number) + 1), headers: Headers::new(), payload }
}

/// Sends so many messages to the only partition, some in one request and some alone.
async fn filled<H: TransportHarness>(harness: &H, count: u64, bytes: usize) -> Arc<H::Transport> {
    all_filled(harness, 1, count, bytes).await
}

/// The same to each of some partitions.
async fn all_filled<H: TransportHarness>(
    harness: &H,
    partitions: u32,
    count: u64,
    bytes: usize,
) -> Arc<H::Transport> {
    let transport = harness.transport(partitions).await.expect("there is a transport");
    let mut producer = transport.connect().await.expect("it connects");
    let messages: Vec<_> = (0..count).map(|number| message(number, bytes)).collect();
    for partition in (0..partitions).map(PartitionId) {
        for request in messages.chunks(7) {
            producer.send(partition, request).await.expect("it is appended");
        }
    }
    transport
}

async fn member<T: Transport>(transport: &T, group: &str, instance: u128) -> T::Member {
    transport.join(group, instance).await.expect("it joins")
}

/// Fetches until there is something: an empty answer is no proof of the end.
async fn fetch<M: GroupMember>(member: &M, request: FetchRequest) -> FetchResponse {
    loop {
        let answer = member.fetch(request).await.expect("the fetch succeeds");
        if !answer.records.is_empty() {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The partitions of a member with their epochs, as soon as there are so many.
async fn assigned<M: GroupMember>(member: &M, count: usize) -> BTreeMap<PartitionId, u64> {
    let (mut known, mut partitions) = (None, BTreeMap::new());
    let settling = async {
        loop {
            if let Some(now) = member.assignments(known).await.expect("the assignment is known") {
                known = Some(now.generation);
                partitions = now
                    .partitions
                    .into_iter()
                    .map(|one| (one.partition, one.epoch))
                    .collect::<BTreeMap<_, _>>();
            }
            if partitions.len() == count {
                return partitions;
            }
            member.wait(&[], known, Instant::now() + Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SETTLING, settling).await.expect("the group settles")
}

async fn place<T: Transport>(transport: &T, group: &str, partition: PartitionId) -> Option<Offset> {
    let places = transport.committed(group, &[partition]).await.expect("the places are known");
    places.into_iter().next().expect("one for each partition").expect("the place is known")
}

async fn commit<M: GroupMember>(
    member: &M,
    partition: PartitionId,
    next: u64,
    mode: CommitMode,
) -> Result<(), CommitErrorKind> {
    let mut answers = member.commit(&[(partition, Offset(next))], mode).await;
    assert_eq!(answers.len(), 1, "one answer for one question");
    answers.pop().expect("there is one")
}

/// Requests that are given up, sooner or later after they were begun: when their connection is closed the partition ends where it
/// ends.
async fn a8_nothing_arrives_over_a_closed_connection<H: TransportHarness>(harness: &H) {
    let transport = filled(harness, 5, 10).await;
    let end = async || {
        let marks = transport.watermarks().await.expect("they are known");
        marks.get(ZERO).expect("there is a partition").high
    };
    let messages: Vec<_> = (0..200).map(|number| message(number, 5_000)).collect();
    for polls in [1, 1, 1, 2, 2, 3, 4, 8, 16, 32] {
        let mut producer = transport.connect().await.expect("it connects");
        {
            let mut sending = std::pin::pin!(producer.send(ZERO, &messages));
            for _ in 0..polls {
                if poll_immediate(sending.as_mut()).await.is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        producer.close().await;
        let closed = end().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(end().await, closed, "something has arrived since");
    }
}

async fn a18_ids_and_headers_are_kept<H: TransportHarness>(harness: &H) {
    let transport = harness.transport(1).await.expect("there is a transport");
    let mut producer = transport.connect().await.expect("it connects");
    let mut messages = vec![message(0, 1), message(1, 70_000), message(2, 10)];
    messages[2].headers.insert("name", vec![0, 1, 255]).expect("the header is legal");
    messages[2].id = EventId::from_u128(u128::MAX);
    producer.send(ZERO, &messages).await.expect("it is appended");
    let reader = member(&*transport, "readers", 1).await;
    let (mut next, mut found) = (Offset::ZERO, Vec::new());
    while found.len() < messages.len() {
        let answer = fetch(&reader, FetchRequest::new(ZERO, next)).await;
        next = answer.records.last().expect("there is one").offset.next();
        found.extend(answer.records);
    }
    for (stored, sent) in found.iter().zip(&messages) {
        assert_eq!((stored.id, &stored.headers), (sent.id, &sent.headers));
        assert!(stored.payload == sent.payload, "{} has another payload", stored.offset);
    }
}

async fn l8_a_fetch_honours_its_bounds<H: TransportHarness>(harness: &H) {
    let transport = filled(harness, 50, 100).await;
    let reader = member(&*transport, "readers", 1).await;
    let all = FetchRequest {
        max_records: usize::MAX,
        max_bytes: usize::MAX,
        ..FetchRequest::new(ZERO, Offset::ZERO)
    };
    for max_records in [1, 3, 7, 8, 49] {
        let count = fetch(&reader, FetchRequest { max_records, ..all }).await.records.len();
        assert!(count <= max_records, "{count} records came, at most {max_records} were asked for");
    }
    for max_bytes in [0, 1, 100, 101, 350, 2_000] {
        let records = fetch(&reader, FetchRequest { max_bytes, ..all }).await.records;
        let bytes: usize = records.iter().map(crate::engine::StoredMessage::bytes).sum();
        assert!(
            bytes <= max_bytes || records.len() == 1,
            "{bytes} bytes came, at most {max_bytes} were asked for"
        );
    }
    fetch(&reader, all).await;
}

async fn l8_a_fetch_from_anywhere_begins_there<H: TransportHarness>(harness: &H) {
    let transport = filled(harness, 50, 10).await;
    let reader = member(&*transport, "readers", 1).await;
    for step in [1, 3, 16, 50] {
        let (mut next, mut ids) = (Offset::ZERO, Vec::new());
        while ids.len() < 50 {
            let request = FetchRequest { max_records: step, ..FetchRequest::new(ZERO, next) };
            let records = fetch(&reader, request).await.records;
            assert!(records.iter().all(|record| record.offset >= next), "a record from before {next} came");
            assert!(records.is_sorted_by_key(|record| record.offset), "the records are out of order");
            next = records.last().expect("there is one").offset.next();
            ids.extend(records.iter().map(|record| record.id.as_u128()));
        }
        assert_eq!(ids, (1..=50).collect::<Vec<_>>(), "{step} at a time");
    }
}

async fn c7_a_landmark_shows_another_log<H: TransportHarness>(harness: &H) {
    let transport = filled(harness, 10, 10).await;
    let reader = member(&*transport, "readers", 1).await;
    let fourth = Offset(3);
    let after = |id| {
        let after = Some(Landmark { offset: fourth, id: EventId::from_u128(id) });
        FetchRequest { after, ..FetchRequest::new(ZERO, fourth.next()) }
    };
    assert!(!fetch(&reader, after(4)).await.truncated, "the record is where it was");
    assert!(fetch(&reader, after(99)).await.truncated, "another record is there");
}

async fn c8_a_member_commits_only_for_its_partitions<H: TransportHarness>(harness: &H) {
    let transport = all_filled(harness, 2, 10, 10).await;
    let (one, two) = (member(&*transport, "readers", 1).await, member(&*transport, "readers", 2).await);
    let (first, second) = (assigned(&one, 1).await, assigned(&two, 1).await);
    let (own, others) = (*first.keys().next().expect("one"), *second.keys().next().expect("one"));
    assert_ne!(own, others, "a partition has one owner");
    commit(&one, own, 3, CommitMode::Replace).await.expect("it is its own");
    let refused = commit(&one, others, 4, CommitMode::Replace).await.expect_err("it is the other's");
    assert!(matches!(refused, CommitErrorKind::Revoked), "{refused:?}");
    assert_eq!(place(&*transport, "readers", own).await, Some(Offset(3)));
    // Where a log cannot store the place before its first record, a group that has a place elsewhere is there.
    let there = place(&*transport, "readers", others).await;
    assert!(there.is_none_or(|there| there == Offset::ZERO), "a refused commit stores nothing: {there:?}");
    let both = one.commit(&[(others, Offset(5)), (own, Offset(6))], CommitMode::Replace).await;
    assert!(
        matches!(both[..], [Err(CommitErrorKind::Revoked), Ok(())]),
        "one keeps no other from being stored: {both:?}"
    );
    assert_eq!(place(&*transport, "readers", own).await, Some(Offset(6)));
}

async fn c8_a_generation_goes_with_its_assignments<H: TransportHarness>(harness: &H) {
    let transport = harness.transport(4).await.expect("there is a transport");
    let one = member(&*transport, "readers", 1).await;
    assert_eq!(assigned(&one, 4).await.len(), 4);
    let alone = one.assignments(None).await.expect("it is known").expect("none was known");
    let again = one.assignments(Some(alone.generation)).await.expect("it is known");
    assert_eq!(again, None, "the same generation has the same partitions");
    let two = member(&*transport, "readers", 2).await;
    assigned(&one, 2).await;
    let shared = one.assignments(Some(alone.generation)).await.expect("it is known").expect("it has changed");
    assert_ne!(shared.generation, alone.generation);
    let mine: BTreeSet<_> = shared.partitions.iter().map(|one| one.partition).collect();
    let theirs: BTreeSet<_> = assigned(&two, 2).await.into_keys().collect();
    assert!(mine.is_disjoint(&theirs), "{mine:?} and {theirs:?}");
}

async fn c8_a_leave_ends_a_wait<H: TransportHarness>(harness: &H) {
    let transport = harness.transport(2).await.expect("there is a transport");
    let (one, two) = (member(&*transport, "readers", 1).await, member(&*transport, "readers", 2).await);
    assigned(&one, 1).await;
    assigned(&two, 1).await;
    let known = one.assignments(None).await.expect("it is known").expect("none was known").generation;
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        two.leave().await.expect("it leaves");
    };
    let waiting = async {
        while one.assignments(Some(known)).await.expect("it is known").is_none() {
            let start = Instant::now();
            one.wait(&[], Some(known), start + 2 * SETTLING).await;
        }
    };
    let both = tokio::time::timeout(SETTLING, async { tokio::join!(waiting, leaving) });
    both.await.expect("the leave ends the wait");
    assigned(&one, 2).await;
}

async fn c1_an_append_ends_a_wait<H: TransportHarness>(harness: &H) {
    let transport = filled(harness, 5, 10).await;
    let reader = member(&*transport, "readers", 1).await;
    assigned(&reader, 1).await;
    let known = reader.assignments(None).await.expect("it is known").expect("none was known").generation;
    let answer = fetch(&reader, FetchRequest::new(ZERO, Offset::ZERO)).await;
    let end = KnownEnd { partition: ZERO, end: Offset(5), incarnation: answer.incarnation };
    let appending = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut producer = transport.connect().await.expect("it connects");
        producer.send(ZERO, &[message(5, 10)]).await.expect("it is appended");
    };
    let waiting = async {
        let mut found = FetchResponse::default();
        while found.records.is_empty() {
            reader.wait(&[end], Some(known), Instant::now() + 2 * SETTLING).await;
            found = reader.fetch(FetchRequest::new(ZERO, Offset(5))).await.expect("the fetch succeeds");
        }
        found
    };
    let both = tokio::time::timeout(SETTLING, async { tokio::join!(waiting, appending) });
    let (found, ()) = both.await.expect("the append ends the wait");
    assert_eq!(found.records[0].offset, Offset(5));
}

async fn c12_initialising_keeps_the_place_of_a_group<H: TransportHarness>(harness: &H) {
    let transport = all_filled(harness, 2, 10, 10).await;
    let (one, two) = (member(&*transport, "readers", 1).await, member(&*transport, "readers", 2).await);
    let (first, second) = (assigned(&one, 1).await, assigned(&two, 1).await);
    let (own, others) = (*first.keys().next().expect("one"), *second.keys().next().expect("one"));
    for partition in [own, others] {
        commit(&one, partition, 0, CommitMode::Initialise).await.expect("a group begins in every partition");
        assert_eq!(place(&*transport, "readers", partition).await, Some(Offset::ZERO), "0 is a place too");
    }
    commit(&two, others, 2, CommitMode::Replace).await.expect("it is its own");
    commit(&one, others, 9, CommitMode::Initialise).await.expect("the group has a place, which is no error");
    assert_eq!(
        place(&*transport, "readers", others).await,
        Some(Offset(2)),
        "the place of the group is replaced"
    );
    commit(&two, own, 9, CommitMode::Initialise).await.expect("the group has a place, which is no error");
    assert_eq!(place(&*transport, "readers", own).await, Some(Offset::ZERO), "a place of 0 is kept as well");
}

async fn c13_an_epoch_shows_that_another_had_the_partition<H: TransportHarness>(harness: &H) {
    let transport = harness.transport(2).await.expect("there is a transport");
    let one = member(&*transport, "readers", 1).await;
    let before = assigned(&one, 2).await;
    let two = member(&*transport, "readers", 2).await;
    assigned(&one, 1).await;
    let lost = *assigned(&two, 1).await.keys().next().expect("one");
    two.leave().await.expect("it leaves");
    let after = assigned(&one, 2).await;
    assert_ne!(before.get(&lost), after.get(&lost), "another consumer has had {lost} meanwhile");
}

async fn c13_the_owner_can_move_a_place_back<H: TransportHarness>(harness: &H) {
    let transport = filled(harness, 10, 10).await;
    let only = member(&*transport, "readers", 1).await;
    assigned(&only, 1).await;
    for next in [8, 3, 0, 5] {
        commit(&only, ZERO, next, CommitMode::Replace).await.expect("it is its own");
        assert_eq!(place(&*transport, "readers", ZERO).await, Some(Offset(next)));
    }
    assert_eq!(place(&*transport, "others", ZERO).await, None, "another group has another place");
}

async fn c13_places_are_in_the_order_of_the_question<H: TransportHarness>(harness: &H) {
    let transport = all_filled(harness, 3, 10, 10).await;
    let only = member(&*transport, "readers", 1).await;
    assigned(&only, 3).await;
    // In one call, as a group begins.
    let start: Vec<_> = (0..3).map(PartitionId).zip((4..).map(Offset)).collect();
    for stored in only.commit(&start, CommitMode::Initialise).await {
        stored.expect("a group begins in every partition");
    }
    for question in [&[2, 0][..], &[1], &[], &[0, 1, 2], &[1, 1]] {
        let named: Vec<_> = question.iter().copied().map(PartitionId).collect();
        let places = transport.committed("readers", &named).await.expect("the places are known");
        let places: Vec<_> = places.into_iter().map(|place| place.expect("the place is known")).collect();
        let expected: Vec<_> = named.iter().map(|one| Some(Offset(u64::from(one.0) + 4))).collect();
        assert_eq!(places, expected, "of {question:?}");
    }
}

/// A consumer makes its fetches over a connection of a producer where they were lost with its own.
async fn c15_a_fetch_over_a_connection_of_its_own_says_the_same<H: TransportHarness>(harness: &H) {
    let transport = filled(harness, 50, 10).await;
    let reader = member(&*transport, "readers", 1).await;
    let apart = transport.connect().await.expect("there is a connection");
    for (from, last_id, max_records) in
        [(0, None, 100), (20, Some(20), 7), (20, Some(99), 7), (49, Some(49), 7)]
    {
        let after = last_id.map(|id| Landmark { offset: Offset(from - 1), id: EventId::from_u128(id) });
        let request = FetchRequest { after, max_records, ..FetchRequest::new(ZERO, Offset(from)) };
        let shared = fetch(&reader, request).await;
        let own = loop {
            let own = apart.fetch(request).await.expect("the fetch is answered");
            if own.truncated || !own.records.is_empty() {
                break own;
            }
        };
        assert_eq!(own.truncated, shared.truncated, "from {from} after {last_id:?}");
        if !own.truncated {
            let ids = |answer: &FetchResponse| answer.records.iter().map(|one| one.id).collect::<Vec<_>>();
            assert_eq!(ids(&own)[0], ids(&shared)[0], "from {from}");
            assert!(own.records.len() <= max_records, "{} of {max_records} records", own.records.len());
        }
    }
}
