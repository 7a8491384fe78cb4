//! Forgeries of what became of events.

use super::*;

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
