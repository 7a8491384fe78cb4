//! The judge judged: an honest history, forged in one place at a time, must be found out for the right reason.

use event_log_core::{Connection, EventId, Offset, Overflow, PartitionId, Position, Timestamp};

use super::history::{Content, Fate, History, Noticed, Reject, Seen, What};
use super::op::{Event, Op, Program, Seek, Settings, Start, Which};
use super::{check, run};

const fn event(key: u8) -> Event {
    Event { key: Some(key), defect: None }
}

/// Appends, a group with one member and then two, an outage with an overflow, and a resumed consumer.
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
        Op::Leave(0, 0, true),
        Op::Join(0, 0, Start::Beginning),
        Op::Join(0, 1, Start::Beginning),
        Op::Poll(0, 0, 50, 0),
        Op::Poll(0, 1, 50, 0),
        Op::Disconnect,
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

#[test]
fn an_outcome_that_comes_twice() {
    found_out("one outcome", |history| {
        let again = history.observed.iter().find(|seen| matches!(seen.what, What::Resolved { .. })).cloned();
        history.observed.extend(again);
    });
}

#[test]
fn an_outcome_that_never_comes() {
    found_out("one outcome", |history| {
        remove(history, |what| matches!(what, What::Resolved { event: 2, .. }));
    });
}

#[test]
fn an_outcome_that_comes_after_the_end_of_its_handle() {
    found_out("one outcome", |history| {
        let at =
            history.observed.iter().position(|seen| matches!(seen.what, What::Resolved { event: 9, .. }));
        let late = history.observed.remove(at.expect("event 9 has an outcome"));
        history.observed.push(late);
        // Without this, the flush would be blamed.
        history.observed.retain(|seen| !matches!(seen.what, What::Flushed { .. }));
        history.observed.retain(|seen| !matches!(seen.what, What::State { handle: 0, .. }));
    });
}

#[test]
fn a_receipt_for_another_position() {
    found_out("true positions", |history| {
        let mut committed = fates(history).filter_map(|(_, fate)| match fate {
            Fate::Committed { position, .. } => Some(position),
            _ => None,
        });
        let (a, b) = (committed.next().expect("a receipt"), committed.next().expect("another"));
        std::mem::swap(a, b);
    });
}

#[test]
fn a_committed_event_that_is_said_not_to_be_there() {
    found_out("not appended", |history| {
        let (event, fate) = fates(history).last().expect("an outcome");
        if let Fate::Committed { id, .. } = *fate {
            *fate = Fate::Dropped { id, back: event as u64 };
        }
    });
}

#[test]
fn another_event_handed_back() {
    found_out("handed back", |history| {
        for (_, fate) in fates(history) {
            if let Fate::Dropped { back, .. } = fate {
                *back += 1;
            }
        }
    });
}

#[test]
fn an_unknown_outcome_without_a_reason() {
    found_out("reasons", |history| {
        let (event, fate) = fates(history).next().expect("an outcome");
        if let Fate::Committed { id, .. } = *fate {
            *fate = Fate::Unknown { id, back: event as u64 };
        }
    });
}

#[test]
fn one_id_for_two_events() {
    found_out("unique ids", |history| {
        let mut dropped = fates(history).filter_map(|(_, fate)| match fate {
            Fate::Dropped { id, .. } => Some(id),
            _ => None,
        });
        let first = *dropped.next().expect("an event is dropped");
        *dropped.next().expect("another event is dropped") = first;
    });
}

#[test]
fn a_refusal_without_need() {
    found_out("refuses only when full", |history| {
        let dropped = fates(history).find(|(_, fate)| matches!(fate, Fate::Dropped { .. }));
        let (event, fate) = dropped.expect("an event is dropped");
        *fate = Fate::Rejected { why: Reject::Full, back: event as u64 };
        remove(history, |what| matches!(what, What::Accepted { event: other } if *other == event));
        // A refusal comes at once.
        let find = |history: &History, is: fn(&What, usize) -> bool| {
            history.observed.iter().position(|seen| is(&seen.what, event)).expect("the event is there")
        };
        let at =
            find(history, |what, event| matches!(what, What::Resolved { event: of, .. } if *of == event));
        let refusal = history.observed.remove(at);
        let at = find(history, |what, event| matches!(what, What::Called { event: of, .. } if *of == event));
        history.observed.insert(at + 1, refusal);
        for what in whats(history) {
            if let What::State { dropped, handle: 0, .. } = what {
                *dropped = dropped.saturating_sub(1);
            }
        }
    });
}

/// Swaps the outcomes of two events.
fn swap_fates(history: &mut History, one: usize, other: usize) {
    let take = |history: &mut History, event| {
        fates(history).find(|(of, _)| *of == event).map(|(_, fate)| fate.clone()).expect("an outcome")
    };
    let (a, b) = (take(history, one), take(history, other));
    for (event, fate) in fates(history) {
        if event == one {
            *fate = b.clone();
        } else if event == other {
            *fate = a.clone();
        }
        if let Fate::Dropped { back, .. } = fate {
            *back = event as u64;
        }
    }
    for record in records(history) {
        if record.content == Content::Event(one as u64) {
            record.content = Content::Event(other as u64);
        } else if record.content == Content::Event(other as u64) {
            record.content = Content::Event(one as u64);
        }
    }
}

#[test]
fn a_newer_event_dropped_instead_of_the_oldest() {
    found_out("drops the oldest", |history| {
        let events_of = |history: &mut History, is: fn(&Fate) -> bool| -> Vec<usize> {
            fates(history).filter(|(event, fate)| *event > 3 && is(fate)).map(|(event, _)| event).collect()
        };
        let dropped = events_of(history, |fate| matches!(fate, Fate::Dropped { .. }));
        let kept = events_of(history, |fate| matches!(fate, Fate::Committed { .. }));
        let (oldest, newer) = (dropped[0], kept[0]);
        assert_eq!((oldest, newer), (4, 7), "{history}");
        // The two swap their names, so that everything else still fits.
        for what in whats(history) {
            if let What::Resolved { event, fate } = what {
                *event = match *event {
                    event if event == oldest => newer,
                    event if event == newer => oldest,
                    event => event,
                };
                if let Fate::Dropped { back, .. } = fate {
                    *back = *event as u64;
                }
            }
        }
        for record in records(history).filter(|record| record.content == Content::Event(newer as u64)) {
            record.content = Content::Event(oldest as u64);
        }
    });
}

#[test]
fn a_dropped_event_that_is_not_counted() {
    found_out("state", |history| {
        for what in whats(history) {
            if let What::State { dropped, .. } = what {
                *dropped = 0;
            }
        }
    });
}

#[test]
fn a_state_that_hides_who_waits() {
    found_out("state", |history| {
        for what in whats(history) {
            if let What::State { buffered, .. } = what {
                *buffered = 0;
            }
        }
    });
}

#[test]
fn an_append_that_waits_while_the_log_is_away() {
    found_out("never waits while away", |history| {
        let waiting = history.observed.iter().find_map(|seen| match &seen.what {
            What::Called { event, connection: Connection::Reconnecting { .. }, .. } => Some(*event),
            _ => None,
        });
        let waiting = waiting.expect("something is offered during the outage");
        remove(history, |what| matches!(what, What::Accepted { event } if *event == waiting));
    });
}

#[test]
fn a_flush_that_returns_too_early() {
    found_out("flush", |history| {
        let at = history.observed.iter().position(|seen| matches!(seen.what, What::Flushed { .. }));
        let mut flushed = history.observed.remove(at.expect("a flush"));
        let first =
            history.observed.iter().position(|seen| matches!(seen.what, What::Accepted { event: 10 }));
        flushed.what = What::Flushed { tickets: vec![10] };
        history.observed.insert(first.expect("event 10 is accepted") + 1, flushed);
    });
}

#[test]
fn events_of_one_key_in_the_wrong_order() {
    found_out("order per key", |history| swap_fates(history, 0, 2));
}

#[test]
fn an_event_before_one_that_was_there_before_it() {
    found_out("order in time", |history| {
        // Other keys of the same partition have no order but this one.
        for what in whats(history) {
            if let What::Called { event: 3, key: Some((key, _)), .. } = what {
                "another key".clone_into(key);
            }
        }
        swap_fates(history, 2, 3);
    });
}

#[test]
fn a_record_that_gets_lost() {
    found_out("nothing lost", |history| drop(content(history).remove(0)));
}

#[test]
fn a_second_copy_without_a_reason() {
    found_out("no second copies", |history| {
        let mut copy = content(history)[0].clone();
        let partition = copy.position.partition;
        let last = content(history).iter().filter(|seen| seen.position.partition == partition).count();
        copy.position.offset = Offset(last as u64);
        content(history).push(copy);
        content(history).sort_by_key(|record| record.position);
    });
}

#[test]
fn a_record_that_nobody_offered() {
    found_out("nothing made up", |history| {
        for record in records(history) {
            if record.content == Content::Event(0) {
                record.content = Content::Event(999);
            }
        }
        // The receipt of an undecodable event says nothing of the content.
        for what in whats(history) {
            if let What::Called { event: 0, decodable, .. } = what {
                *decodable = false;
            }
        }
    });
}

#[test]
fn time_that_goes_back() {
    found_out("time", |history| {
        let first = content(history)[0].position;
        records(history)
            .filter(|seen| seen.position == first)
            .for_each(|seen| seen.timestamp = Timestamp(u64::MAX));
    });
}

#[test]
fn a_record_that_is_passed_over() {
    found_out("no gap", |history| {
        let (records, _) = batches(history).find(|(records, _)| records.len() > 1).expect("a batch of two");
        records.remove(0);
    });
}

#[test]
fn a_record_that_is_dropped_as_a_copy_of_itself() {
    found_out("no gap", |history| {
        let (records, notices) =
            batches(history).find(|(records, _)| records.len() > 1).expect("a batch of two");
        let Seen { position, id, .. } = records.remove(0);
        notices.push(Noticed::Duplicate(position, position, id));
    });
}

#[test]
fn a_record_that_comes_twice_in_a_batch() {
    found_out("offset order", |history| {
        let (records, _) = batches(history).find(|(records, _)| !records.is_empty()).expect("a batch");
        let again = records[0].clone();
        records.insert(1, again);
        for what in whats(history) {
            if let What::Polled { max, .. } = what {
                *max += 1;
            }
        }
    });
}

#[test]
fn a_record_that_comes_again() {
    found_out("no repeat", |history| {
        let mut batches = batches(history).filter(|(records, _)| !records.is_empty());
        let (first, _) = batches.next().expect("a batch");
        let (second, _) = batches.next().expect("a second batch");
        let partition = second[0].position.partition;
        let again =
            first.iter().find(|seen| seen.position.partition == partition).expect("of the same partition");
        second.insert(0, again.clone());
    });
}

#[test]
fn a_poll_that_overlooks_what_is_there() {
    found_out("polls find what is there", |history| {
        for what in whats(history) {
            if let What::Polled { reading, .. } = what
                && let Ok(Some((records, _, cursor))) = &mut reading.result
            {
                records.clear();
                reading.position.clone_from(
                    &[(PartitionId(0), Offset(0)), (PartitionId(1), Offset(0))].into_iter().collect(),
                );
                cursor.clone_from(&reading.position);
                break;
            }
        }
    });
}

#[test]
fn more_records_than_asked_for() {
    found_out("poll", |history| {
        for what in whats(history) {
            if let What::Polled { max, .. } = what {
                *max = 1;
            }
        }
    });
}

#[test]
fn a_commit_that_stores_too_much() {
    found_out("commit", |history| {
        for what in whats(history) {
            if let What::Committed { stored: Some(stored), .. } = what {
                stored[0] = stored[0].map(Offset::next).or(Some(Offset(1)));
            }
        }
    });
}

#[test]
fn a_group_that_is_moved_by_another() {
    found_out("commit", |history| {
        for what in whats(history) {
            if let What::Lag { group: 1, partitions } = what {
                partitions[1].0 = Some(Offset(1));
            }
        }
    });
}

#[test]
fn a_lag_that_does_not_add_up() {
    found_out("lag", |history| {
        for what in whats(history) {
            if let What::Lag { partitions, .. } = what {
                partitions[1].3 += 1;
            }
        }
    });
}

#[test]
fn watermarks_that_go_back() {
    found_out("watermarks", |history| {
        let last = whats(history).filter_map(|what| match what {
            What::Lag { partitions, .. } => Some(partitions),
            _ => None,
        });
        for partition in last.last().expect("a lag") {
            (partition.0, partition.1, partition.2, partition.3) = (partition.0, Offset(0), Offset(0), 0);
        }
    });
}

#[test]
fn a_consumer_that_resumes_elsewhere() {
    found_out("resumes", |history| {
        let resumed = whats(history).filter_map(|what| match what {
            What::Joined { reading, .. } if !reading.committed.is_empty() => Some(reading),
            _ => None,
        });
        let reading = resumed.into_iter().next().expect("a consumer resumes");
        let (partition, _) = reading.committed.iter().next().expect("something is committed");
        reading.position.set(partition, Offset(0));
    });
}

#[test]
fn a_seek_that_leads_elsewhere() {
    found_out("seek", |history| {
        for what in whats(history) {
            if let What::Sought { reading, .. } = what {
                reading.position.set(PartitionId(0), Offset(1));
            }
        }
    });
}

#[test]
fn a_partition_with_two_owners() {
    found_out("ownership", |history| {
        for what in whats(history) {
            if let What::Shared { partitions, .. } = what {
                let first = partitions[0].clone();
                partitions[1].extend(first);
            }
        }
    });
}

#[test]
fn an_owner_who_does_not_know() {
    found_out("ownership", |history| {
        for (_, notices) in batches(history) {
            notices.retain(|notice| !matches!(notice, Noticed::Assigned(_)));
        }
    });
}

#[test]
fn a_fault_that_nobody_made() {
    found_out("faults", |history| {
        let (_, notices) = batches(history).next().expect("a batch");
        notices.push(Noticed::Fault(PartitionId(0)));
    });
}

#[test]
fn something_missing_where_everything_is_kept() {
    found_out("missing", |history| {
        let (_, notices) = batches(history).next().expect("a batch");
        notices.push(Noticed::Missing(PartitionId(0), Offset(0), Offset(1)));
    });
}

#[test]
fn something_that_never_ends() {
    found_out("liveness", |history| history.observed[0].what = What::Stuck("append"));
}

#[test]
fn a_record_in_the_partition_of_another_key() {
    found_out("one partition", |history| {
        for what in whats(history) {
            if let What::Called { event: 0, key: Some((_, home)), .. } = what {
                home.0 = 1 - home.0;
            }
        }
    });
}

#[test]
fn ids_that_change() {
    found_out("true positions", |history| {
        if let Some((_, Fate::Committed { id, .. })) = fates(history).next() {
            *id = EventId::from_u128(1);
        }
    });
}

#[test]
fn a_record_beyond_the_end() {
    found_out("watermarks", |history| {
        let last = content(history).last().expect("there are records").position;
        let beyond = Position::new(last.partition, Offset(1_000));
        content(history)
            .iter_mut()
            .filter(|seen| seen.position == last)
            .for_each(|seen| seen.position = beyond);
        for what in whats(history) {
            match what {
                What::Resolved { fate: Fate::Committed { position, .. }, .. } if *position == last => {
                    *position = beyond;
                }
                What::Polled { reading, .. } => {
                    if let Ok(Some((records, ..))) = &mut reading.result {
                        records
                            .iter_mut()
                            .filter(|seen| seen.position == last)
                            .for_each(|seen| seen.position = beyond);
                    }
                }
                _ => {}
            }
        }
    });
}
