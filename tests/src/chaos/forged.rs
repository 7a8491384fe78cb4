//! The judge judged: an honest history, forged in one place at a time, must be found out for the right reason.

use std::sync::{Arc, LazyLock};

use event_log_core::{EventId, Offset, PartitionId, Position};

use super::check::{Rule, check};
use super::history::{Came, Delivered, Entry, EventNumber, Fate, History, Saw, Settings, Stored};
use super::run::{Progress, run_in_memory};

/// The first run in which there is everything that is forged below, and nothing wrong.
static HONEST: LazyLock<History> = LazyLock::new(|| {
    let progress = Arc::new(Progress::default());
    let mut runs = (79..200).map(|seed| run_in_memory(&Settings::new(seed, 1_200, 24), &progress));
    let run = runs.find(|history| {
        let figures = check(history).figures;
        let some = [figures.returned, figures.abandoned.0, figures.copies, figures.delivered_again];
        some.iter().all(|&count| count > 0)
    });
    run.expect("one of a hundred has all of it")
});

#[track_caller]
fn found_out(rule: Rule, forge: impl FnOnce(&mut Vec<Entry>)) {
    let mut history = HONEST.clone();
    forge(&mut history.entries);
    assert_ne!(history, *HONEST, "nothing was forged");
    let verdict = check(&history);
    assert!(verdict.count(&[rule]) > 0, "nobody noticed ({rule:?}): {:?}", verdict.violations);
}

#[test]
fn the_honest_history_is_one() {
    assert_eq!(check(&HONEST).violations, []);
}

/// What the log holds, each with its partition.
fn held(entries: &mut [Entry]) -> impl Iterator<Item = (PartitionId, &mut Vec<Stored>)> {
    entries.iter_mut().filter_map(|entry| match &mut entry.saw {
        Saw::Holds { partition, records } => Some((*partition, records)),
        _ => None,
    })
}

/// The batches that consumers got.
fn batches(entries: &mut [Entry]) -> impl Iterator<Item = (u64, &mut Vec<Delivered>)> {
    entries.iter_mut().filter_map(|entry| match &mut entry.saw {
        Saw::Polled { consumer, records, .. } => Some((*consumer, records)),
        _ => None,
    })
}

/// Events that were confirmed, and where.
fn confirmed(entries: &[Entry]) -> impl Iterator<Item = (usize, EventNumber, Position)> {
    entries.iter().enumerate().filter_map(|(at, entry)| match entry.saw {
        Saw::Ended { event, fate: Fate::Committed { partition, offset: Some(offset), .. } } => {
            Some((at, event, Position::new(partition, offset)))
        }
        _ => None,
    })
}

fn place_of(entries: &[Entry], mut which: impl FnMut(&Saw) -> bool) -> usize {
    entries.iter().position(|entry| which(&entry.saw)).expect("there is one")
}

fn offered_at(entries: &[Entry], number: EventNumber) -> usize {
    place_of(entries, |saw| matches!(saw, Saw::Offered { event, .. } if *event == number))
}

fn key_of(entries: &[Entry], number: EventNumber) -> Option<(u64, String)> {
    entries.iter().find_map(|entry| match &entry.saw {
        Saw::Offered { event, handle, key: Some(key) } if *event == number => Some((*handle, key.clone())),
        _ => None,
    })
}

/// Has two events change their places in the log, and everybody agree.
fn swap(entries: &mut [Entry], one: (EventNumber, Position), other: (EventNumber, Position)) {
    let moved = |number| match number {
        Some(number) if number == one.0 => Some(other.0),
        Some(number) if number == other.0 => Some(one.0),
        _ => number,
    };
    let ids: Vec<_> = held(entries).flat_map(|(_, records)| records.clone()).collect();
    let id =
        |number: EventNumber| ids.iter().find(|stored| stored.2 == Some(number)).expect("it is in the log").1;
    let (first, second) = (id(one.0), id(other.0));
    let swapped = |known: EventId| match known {
        known if known == first => second,
        known if known == second => first,
        known => known,
    };
    for (_, records) in held(entries) {
        for stored in records {
            *stored = Stored(stored.0, swapped(stored.1), moved(stored.2));
        }
    }
    for (_, records) in batches(entries) {
        for delivered in records {
            *delivered = Delivered(delivered.0, delivered.1, swapped(delivered.2), moved(delivered.3));
        }
    }
    for entry in entries {
        if let Saw::Ended { event, fate: Fate::Committed { offset, .. } } = &mut entry.saw {
            match *event {
                event if event == one.0 => *offset = Some(other.1.offset),
                event if event == other.0 => *offset = Some(one.1.offset),
                _ => {}
            }
        }
    }
}

#[test]
fn a_confirmed_event_that_is_not_there() {
    found_out(Rule::Confirmed, |entries| {
        let (_, event, _) = confirmed(entries).next().unwrap();
        held(entries).for_each(|(_, records)| records.retain(|stored| stored.2 != Some(event)));
    });
}

#[test]
fn an_event_that_is_somewhere_else() {
    found_out(Rule::Place, |entries| {
        let at = confirmed(entries).next().unwrap().0;
        let Saw::Ended { fate: Fate::Committed { offset, .. }, .. } = &mut entries[at].saw else { panic!() };
        *offset = offset.map(Offset::next);
    });
}

#[test]
fn an_event_that_is_there_although_it_was_not_appended() {
    found_out(Rule::NotAppended, |entries| {
        let (at, event, _) = confirmed(entries).next().unwrap();
        let fate = Fate::NotAppended { why: "dropped".to_owned(), back: event };
        entries[at].saw = Saw::Ended { event, fate };
    });
}

#[test]
fn two_outcomes_of_one_event_and_the_outcome_of_another() {
    found_out(Rule::OneOutcome, |entries| {
        let at = confirmed(entries).next().unwrap().0;
        entries.push(entries[at].clone());
    });
    found_out(Rule::OneOutcome, |entries| {
        let back = entries.iter_mut().find_map(|entry| match &mut entry.saw {
            Saw::Ended { fate: Fate::NotAppended { back, .. }, .. } => Some(back),
            _ => None,
        });
        *back.unwrap() += 1;
    });
}

#[test]
fn records_that_nobody_appended_or_not_like_that() {
    found_out(Rule::Origin, |entries| {
        held(entries).next().unwrap().1.push(Stored(Offset(u64::MAX), EventId::from_u128(1), Some(u64::MAX)));
    });
    found_out(Rule::Origin, |entries| {
        // A second copy with another id.
        let (_, records) = held(entries).next().unwrap();
        let second = Stored(Offset(u64::MAX), EventId::from_u128(2), records[0].2);
        records.push(second);
    });
    found_out(Rule::Origin, |entries| {
        let (at, event, _) =
            confirmed(entries).find(|&(_, event, _)| key_of(entries, event).is_some()).unwrap();
        let mut stored = None;
        for (_, records) in held(entries) {
            if let Some(found) = records.iter().position(|stored| stored.2 == Some(event)) {
                stored = Some(records.remove(found));
            } else if let Some(stored) = stored.take() {
                records.push(Stored(Offset(u64::MAX), stored.1, stored.2));
            }
        }
        entries.remove(at);
    });
}

#[test]
fn events_of_a_key_in_another_order() {
    found_out(Rule::KeyOrder, |entries| {
        let all: Vec<_> = confirmed(entries).map(|(_, event, place)| (event, place)).collect();
        let of_one_key = |one: EventNumber, other: EventNumber| {
            key_of(entries, one).is_some_and(|key| key_of(entries, other) == Some(key))
        };
        let (one, other) = all
            .iter()
            .enumerate()
            .find_map(|(at, one)| {
                Some((*one, *all[at + 1..].iter().find(|other| of_one_key(one.0, other.0))?))
            })
            .unwrap();
        swap(entries, one, other);
    });
}

#[test]
fn an_event_before_one_that_was_confirmed_before_it_was_offered() {
    found_out(Rule::CallOrder, |entries| {
        let all: Vec<_> = confirmed(entries).collect();
        let (at, event, place) = all[0];
        let later = all
            .iter()
            .rev()
            .find(|(_, later, there)| place.partition == there.partition && offered_at(entries, *later) > at);
        let &(_, later, there) = later.unwrap();
        swap(entries, (event, place), (later, there));
    });
}

#[test]
fn a_record_that_is_not_what_the_log_has() {
    found_out(Rule::Delivered, |entries| {
        let (_, records) = batches(entries).find(|(_, records)| !records.is_empty()).unwrap();
        records[0].2 = EventId::from_u128(1);
    });
}

#[test]
fn records_in_another_order() {
    found_out(Rule::ReadOrder, |entries| {
        let pair = batches(entries).find_map(|(_, records)| {
            let at = records.windows(2).position(|pair| pair[0].0 == pair[1].0)?;
            Some((records, at))
        });
        let (records, at) = pair.unwrap();
        records.swap(at, at + 1);
    });
}

#[test]
fn a_second_copy_that_is_delivered_and_a_first_one_that_is_not() {
    found_out(Rule::Copy, |entries| {
        let one = batches(entries).find_map(|(_, records)| records.last().copied()).unwrap();
        let (_, records) = held(entries).find(|(partition, _)| *partition == one.0).unwrap();
        let copy = records.last().unwrap().0.next();
        records.push(Stored(copy, one.2, one.3));
        let (_, records) = batches(entries).find(|(_, records)| records.contains(&one)).unwrap();
        records.push(Delivered(one.0, copy, one.2, one.3));
    });
    found_out(Rule::Copy, |entries| {
        let at = place_of(entries, |saw| matches!(saw, Saw::Polled { records, .. } if !records.is_empty()));
        let Saw::Polled { records, told, .. } = &mut entries[at].saw else { panic!() };
        let position = records[0].position();
        told.push(Came::Duplicate { position, first: position });
    });
}

#[test]
fn a_record_that_comes_again_although_it_was_committed() {
    found_out(Rule::CommittedAgain, |entries| {
        let at = place_of(
            entries,
            |saw| matches!(saw, Saw::Committed { stored, .. } if stored.iter().any(|(_, next)| next > Offset::ZERO)),
        );
        let Saw::Committed { consumer, stored } = entries[at].saw.clone() else { panic!() };
        let (partition, _) = stored.iter().find(|&(_, next)| next > Offset::ZERO).unwrap();
        let first = held(entries).find(|(of, _)| *of == partition).unwrap().1[0];
        let records = vec![Delivered(partition, first.0, first.1, first.2)];
        entries.insert(at + 1, Entry { at: 0, saw: Saw::Polled { consumer, records, told: Vec::new() } });
    });
}

#[test]
fn a_record_that_is_left_out() {
    found_out(Rule::Skipped, |entries| {
        let (_, records) = batches(entries).find(|(_, records)| records.len() > 2).unwrap();
        records.remove(0);
    });
}

/// A consumer got records and died; the next one begins behind them. Where a commit was under way when the partition moved, the
/// next one may have begun there: few of those that come again are like that.
#[test]
fn uncommitted_records_that_do_not_come_again() {
    let mut seen = std::collections::HashSet::new();
    let mut groups = std::collections::HashMap::new();
    let mut again = Vec::new();
    for (at, entry) in HONEST.entries.iter().enumerate() {
        match &entry.saw {
            Saw::Joining { consumer, group } => {
                groups.insert(*consumer, group.clone());
            }
            Saw::Polled { consumer, records, .. } => {
                let is_again = |it: &Delivered| !seen.insert((groups[consumer].clone(), it.position()));
                let places: Vec<_> = records.iter().map(is_again).collect();
                again.extend(
                    places.iter().zip(0..).filter(|(is_again, _)| **is_again).map(|(_, nth)| (at, nth)),
                );
            }
            _ => {}
        }
    }
    let is_noticed = |&&(at, nth): &&(usize, usize)| {
        let mut history = HONEST.clone();
        let Saw::Polled { records, .. } = &mut history.entries[at].saw else { panic!() };
        records.remove(nth);
        check(&history).count(&[Rule::Skipped]) > 0
    };
    let tried = again.len().min(60);
    let noticed = again.iter().take(60).filter(is_noticed).count();
    assert!(tried > 0 && noticed * 10 >= tried * 9, "{noticed} of {tried} are noticed");
}

#[test]
fn a_group_that_does_not_get_everything() {
    found_out(Rule::Undelivered, |entries| {
        let (_, _, place) = confirmed(entries).next().unwrap();
        batches(entries).for_each(|(_, records)| records.retain(|it| it.position() != place));
    });
    found_out(Rule::Undelivered, |entries| {
        let at = place_of(entries, |saw| matches!(saw, Saw::Dry { .. }));
        entries.remove(at);
    });
}

#[test]
fn what_waits_for_ever() {
    found_out(Rule::Stuck, |entries| {
        let at = confirmed(entries).next().unwrap().0;
        entries.remove(at);
    });
    found_out(Rule::Stuck, |entries| {
        entries.push(Entry { at: 0, saw: Saw::Stuck { what: "a poll".to_owned() } });
    });
}

#[test]
fn errors_and_notices_without_a_reason() {
    found_out(Rule::Reason, |entries| {
        let failed = Saw::Failed { consumer: 0, call: "poll".to_owned(), retryable: false };
        entries.push(Entry { at: 0, saw: failed });
    });
    found_out(Rule::Reason, |entries| {
        let at = place_of(entries, |saw| matches!(saw, Saw::Polled { .. }));
        let Saw::Polled { told, .. } = &mut entries[at].saw else { panic!() };
        told.push(Came::Odd("missing".to_owned()));
    });
}

#[test]
fn a_history_survives_its_file() {
    let read = History::read(HONEST.to_bytes().as_slice()).unwrap();
    assert_eq!(read, *HONEST);
    assert!(History::read(&b""[..]).is_err());
}
