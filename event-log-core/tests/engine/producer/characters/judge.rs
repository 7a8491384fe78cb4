//! What CONTRACT.md says of a walk.

use std::collections::HashMap;
use std::time::Duration;

use event_log_core::AppendErrorKind;
use event_log_core::engine::StoredMessage;

use super::calls::{Book, Noted, Way};
use super::server::{Partition, Server};
use super::{Event, OTHERS};

/// What is known of a walk as a whole.
pub(crate) struct Walk {
    pub(crate) expiry: Option<Duration>,
    /// Partitions that lost records, or began again: nothing is known for certain of what was there.
    pub(crate) is_kept: Vec<bool>,
    /// Partitions that had no faults, nor has the log as a whole: no outcome is unknown there.
    pub(crate) is_certain: Vec<bool>,
    /// Nothing may be dropped from the buffer, nor rejected for want of space.
    pub(crate) has_space: bool,
    /// It was not closed before everything had ended.
    pub(crate) is_gentle: bool,
}

type Places = HashMap<u64, Vec<u64>>;

fn number(record: &StoredMessage) -> u64 {
    serde_json::from_slice::<Event>(&record.payload).unwrap().number
}

/// Where our events are, by number: in what there is now, and in what was before.
fn places(book: &Book, partition: &Partition, is_kept: bool) -> (Places, Places) {
    let (mut now, mut former) = (Places::new(), Places::new());
    let (mut last, mut last_of) = (None, HashMap::new());
    for record in &partition.records {
        let number = number(record);
        if number >= OTHERS {
            continue;
        }
        now.entry(number).or_default().push(record.offset.0);
        if !is_kept {
            continue;
        }
        let noted = &book.noted[number as usize];
        // What `append_all` has drawn is handed over later.
        if noted.way != Way::Drawn {
            assert!(Some(number) > last, "a2: {number} is behind {last:?}");
            last = Some(number);
        }
        let before = last_of.insert(noted.caller, number);
        assert!(
            before.is_none_or(|before| before < number),
            "a2: {number} is behind {before:?} of its caller"
        );
    }
    for record in partition.former.iter().flatten() {
        former.entry(number(record)).or_default().push(record.offset.0);
    }
    (now, former)
}

pub(crate) fn judge(book: &Book, server: &Server, walk: &Walk) {
    let partitions = server.state.lock().partitions.clone();
    for (at, partition) in partitions.iter().enumerate() {
        let (now, former) = places(book, partition, walk.is_kept[at]);
        let ours = book.noted.iter().enumerate().filter(|(_, noted)| noted.partition as usize == at);
        for (number, noted) in ours {
            let number = number as u64;
            let there = now.get(&number).map_or(&[][..], |there| there);
            assert!(there.len() <= 1 || !walk.is_kept[at], "a8: {number} is at {there:?}");
            let before = former.get(&number).map_or(&[][..], |before| before);
            judge_one(book, walk, number, noted, (there, before));
        }
    }
}

fn judge_one(book: &Book, walk: &Walk, number: u64, noted: &Noted, (there, before): (&[u64], &[u64])) {
    let is_there = !there.is_empty() || !before.is_empty();
    let at = noted.partition as usize;
    if let Some(is_unknown) = book.left_over.get(&number) {
        assert!(!walk.is_gentle, "l3: {number} was left over, and all had ended");
        assert!(!is_there || *is_unknown, "l3: {number} was left over and is there");
        assert!(noted.way != Way::Asked && noted.way != Way::Batch, "l3: {number} has a ticket");
    }
    match (&noted.outcome, noted.way) {
        (Some(Ok(ack)), _) => {
            assert_eq!(ack.partition.0, noted.partition);
            let is_said = match ack.offset {
                Some(offset) => there.iter().chain(before).any(|&place| place == offset.0),
                None => is_there,
            };
            assert!(is_said, "a1: {number} {ack:?} is at {there:?}, and was at {before:?}");
        }
        (Some(Err(error)), _) => {
            let kind = error.kind();
            if error.may_have_taken_effect() {
                let is_certain = walk.is_certain[at] && walk.is_gentle && walk.expiry.is_none();
                assert!(!is_certain, "a4: {number} {error:?}, there {is_there}");
            } else {
                assert!(!is_there, "a4: {number} {error:?} is at {there:?}, and was at {before:?}");
            }
            match kind {
                AppendErrorKind::Expired(_) => {
                    let waited = noted.ended.unwrap() - noted.at;
                    assert!(walk.expiry.is_some_and(|expiry| waited >= expiry), "a16: {number} {waited:?}");
                }
                AppendErrorKind::Dropped | AppendErrorKind::Rejected(_) if walk.is_gentle => {
                    assert!(!walk.has_space || noted.way == Way::Drawn, "a5: {number} {kind:?}");
                }
                AppendErrorKind::Closed => assert!(!walk.is_gentle, "a4: {number} {kind:?}"),
                AppendErrorKind::Refused(_) => {
                    assert!(!walk.is_certain[at], "a4: {number} of a healthy partition is refused");
                }
                _ => {}
            }
        }
        (None, Way::Asked | Way::Batch) => panic!("a4: {number} has no outcome"),
        (None, Way::Drawn) => assert!(!noted.is_said || is_there, "a4: {number} is said to be appended"),
        (None, Way::Orphan) => {
            // It is in the log, or was: nothing that could keep it from there has happened.
            let is_told = walk.is_certain[at] && walk.is_gentle && walk.has_space && walk.expiry.is_none();
            assert!(is_there || !is_told, "a4: {number} is nowhere");
        }
        (None, Way::Cancelled) => {}
    }
}

/// How long the events of healthy partitions have waited for their outcomes, the longest.
pub(crate) fn slowest(book: &Book, is_healthy: &[bool]) -> (Duration, u64) {
    let asked = book.noted.iter().enumerate().filter(|(_, noted)| noted.way == Way::Asked);
    let healthy = asked.filter(|(_, noted)| is_healthy[noted.partition as usize]);
    let took = healthy.filter_map(|(number, noted)| Some((noted.ended? - noted.at, number as u64)));
    took.max().unwrap_or_default()
}
