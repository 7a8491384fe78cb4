//! The judge judged: an honest history, forged in one place at a time, must be found out for the right reason.

mod consuming;
mod producing;

use event_log_core::{Connection, EventId, Offset, Overflow, PartitionId, Position, SeekPosition, Timestamp};

use super::history::{Content, Fate, History, Noticed, Reject, Seen, What};
use super::op::{Event, Op, Program, Seek, Settings, Start, Which};
use super::{check, run};

const fn event(key: u8) -> Event {
    Event { key: Some(key), defect: None }
}

/// Appends, a group with one member and then two, an outage with an overflow, a resumed consumer, and seeks to a partition that
/// the log has not, before the outage and in it.
fn honest() -> History {
    let settings = Settings {
        partitions: 2,
        retention: None,
        buffer: 4,
        request: 3,
        overflow: Overflow::DropOldest,
        expiry: None,
        seed: 7,
    };
    let mut ops = vec![
        Op::Join(0, 0, Start::Beginning),
        Op::Submit(event(0)),
        Op::Submit(event(1)),
        Op::Submit(event(0)),
        Op::Advance(7),
        Op::Append(event(0), true),
        Op::Poll(0, 0, 2, 0),
        Op::Commit(0, 0, Which::Batch(0)),
        Op::Poll(0, 0, 50, 0),
        Op::Seek(0, 0, Seek::Beginning),
        Op::Poll(0, 0, 50, 0),
        Op::Commit(0, 0, Which::Batch(0)),
        Op::Seek(0, 0, Seek::Position(2, 0)),
        Op::Leave(0, 0, true),
        Op::Join(0, 0, Start::Beginning),
        Op::Join(0, 1, Start::Beginning),
        Op::Poll(0, 0, 50, 0),
        Op::Poll(0, 1, 50, 0),
        Op::Disconnect,
        Op::Seek(0, 0, Seek::Position(2, 0)),
        Op::Settle,
    ];
    ops.extend((0..7).map(|_| Op::Submit(event(1))));
    ops.extend([Op::Reconnect, Op::Advance(4_000), Op::Flush(9_000), Op::Close(700)]);
    run(&Program { settings, ops })
}

fn whats(history: &mut History) -> impl Iterator<Item = &mut What> {
    history.observed.iter_mut().map(|observation| &mut observation.what)
}

/// The fates of all events, in the order in which they were learnt.
fn fates(history: &mut History) -> impl Iterator<Item = (usize, &mut Fate)> {
    whats(history).filter_map(|what| match what {
        What::Resolved { event, fate } => Some((*event, fate)),
        _ => None,
    })
}

/// The batches of records and notices, of all consumers.
fn batches(history: &mut History) -> impl Iterator<Item = (&mut Vec<Seen>, &mut Vec<Noticed>)> {
    whats(history).filter_map(|what| match what {
        What::Polled { reading, .. } => match &mut reading.result {
            Ok(Some((records, notices, _))) => Some((records, notices)),
            _ => None,
        },
        _ => None,
    })
}

fn content(history: &mut History) -> &mut Vec<Seen> {
    let records = whats(history).find_map(|what| match what {
        What::Content { records, .. } => Some(records),
        _ => None,
    });
    records.expect("every run reads everything at the end")
}

/// Every record that anybody was shown.
fn records(history: &mut History) -> impl Iterator<Item = &mut Seen> {
    whats(history).flat_map(|what| match what {
        What::Polled { reading, .. } => match &mut reading.result {
            Ok(Some((records, ..))) => records.iter_mut(),
            _ => [].iter_mut(),
        },
        What::Content { records, .. } => records.iter_mut(),
        _ => [].iter_mut(),
    })
}

#[track_caller]
fn found_out(rule: &str, forge: impl FnOnce(&mut History)) {
    let mut history = honest();
    check(&history).expect("the honest history is one");
    let before = history.clone();
    forge(&mut history);
    assert_ne!(history, before, "nothing was forged");
    match check(&history) {
        Err(violation) => assert_eq!(violation.rule, rule, "{violation}"),
        Ok(()) => panic!("nobody noticed ({rule})"),
    }
}

fn remove(history: &mut History, mut which: impl FnMut(&What) -> bool) {
    let at = history.observed.iter().position(|observation| which(&observation.what));
    history.observed.remove(at.expect("there is one to remove"));
}
