//! What CONTRACT.md says of a walk.

use std::collections::HashMap;

use event_log_core::AppendErrorKind;
use event_log_core::engine::StoredMessage;

use super::calls::Ended;
use super::server::{Event, OTHERS, Server};

/// Where our events are, by number.
type Places = HashMap<u64, Vec<u64>>;

/// The places of our events. In a log that never began again each is there once, in the order of the calls.
fn places(ended: &Ended, server: &Server) -> (Places, Places) {
    let (mut now, mut former) = (Places::new(), Places::new());
    for (partition, there) in (0..).zip(&server.state.lock().partitions) {
        note(ended, server, partition, &there.records, &mut now);
        there.former.iter().for_each(|records| note(ended, server, partition, records, &mut former));
    }
    (now, former)
}

fn note(ended: &Ended, server: &Server, partition: u32, records: &[StoredMessage], places: &mut Places) {
    let (mut last, seed) = (None, ended.seed);
    for record in records {
        let event: Event = serde_json::from_slice(&record.payload).unwrap();
        if event.number >= OTHERS {
            continue;
        }
        assert_eq!(event.partition, partition);
        // A log that begins again where nothing is known of it cannot be told from what it was.
        let is_behind = Some(event.number) > last || server.temper.begins_again;
        assert!(is_behind, "seed {seed}: {} is behind {last:?}", event.number);
        last = Some(event.number);
        places.entry(event.number).or_default().push(record.offset.0);
    }
}

/// `is_told`: each event is in the log, or comes back. `is_certain`: no outcome is unknown.
pub(crate) fn judge(ended: &Ended, server: &Server, is_told: bool, is_certain: bool) {
    let (now, former) = places(ended, server);
    let seed = ended.seed;
    let mut failed = 0;
    for number in 0..ended.count {
        let of = |places: &Places| places.get(&number).cloned().unwrap_or_default();
        let (there, before) = (of(&now), of(&former));
        assert!(there.len() <= 1 || server.temper.begins_again, "seed {seed}: {number} is at {there:?}");
        let is_there = !there.is_empty() || !before.is_empty();
        let (is_orphan, is_cancelled) = (ended.orphans.contains(&number), ended.cancelled.contains(&number));
        if let Some(is_unknown) = ended.left_over.get(&number) {
            assert!(!is_there || *is_unknown, "seed {seed}: {number} was left over and is there");
            assert!(is_orphan || is_cancelled, "seed {seed}: {number} has a ticket");
        }
        if is_orphan {
            let is_somewhere = is_there || ended.left_over.contains_key(&number);
            assert!(is_somewhere || !is_told, "seed {seed}: {number} is nowhere");
            continue;
        }
        let outcomes = ended.outcomes.get(&number).map_or(&[][..], |outcomes| outcomes);
        if is_cancelled || ended.is_dropped && outcomes.is_empty() {
            continue;
        }
        assert_eq!(outcomes.len(), 1, "seed {seed}: {number}");
        match &outcomes[0] {
            Ok(ack) => {
                assert_eq!(ack.partition.0, ended.partitions[&number]);
                let mut places = there.iter().chain(&before);
                let is_said = match ack.offset {
                    Some(offset) => places.any(|&place| place == offset.0),
                    None => is_there,
                };
                assert!(is_said, "seed {seed}: {number} {ack:?} is at {there:?}, and was at {before:?}");
            }
            Err(error) => {
                failed += 1;
                let is_refused = matches!(error.kind(), AppendErrorKind::Refused(_));
                assert!(!is_refused || number % 7 == 0, "seed {seed}: {number} is refused with another");
                if error.may_have_taken_effect() {
                    assert!(!is_certain, "seed {seed}: {number} {error:?}");
                } else {
                    assert!(!is_there, "seed {seed}: {number} {error:?} is at {there:?}, {before:?}");
                }
            }
        }
    }
    assert!(ended.returned_by_ticket <= failed + ended.cancelled.len() as u64, "seed {seed}");
}
