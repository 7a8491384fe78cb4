//! Forgeries of what consumers were shown, and of who had what.

use super::*;

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
        let resumed = whats(history).find_map(|what| match what {
            What::Joined { reading, .. } => {
                let (partition, _) = reading.committed.iter().find(|(_, next)| *next > Offset(0))?;
                Some((reading, partition))
            }
            _ => None,
        });
        let (reading, partition) = resumed.expect("a consumer resumes where something is committed");
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

/// What came of the seeks to a partition that the log has not: before an outage, and in it.
fn strange_seeks(history: &mut History) -> [&mut Result<(), bool>; 2] {
    let strange = whats(history).filter_map(|what| match what {
        What::Sought { to: SeekPosition::Position(position), reading, .. } if position.partition.0 == 2 => {
            Some(&mut reading.result)
        }
        _ => None,
    });
    let results: Vec<_> = strange.collect();
    results.try_into().expect("two such seeks")
}

#[test]
fn a_seek_to_a_partition_that_is_not_there() {
    for nth in [0, 1] {
        found_out("errors", |history| *strange_seeks(history)[nth] = Ok(()));
    }
}

#[test]
fn a_partition_that_is_not_there_and_was_not_asked_for() {
    found_out("errors", |history| *strange_seeks(history)[1] = Err(false));
}

#[test]
fn a_partition_that_may_be_there_although_the_log_has_said_that_it_is_not() {
    found_out("errors", |history| *strange_seeks(history)[0] = Err(true));
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
fn a_truncation_without_a_reason() {
    found_out("truncated", |history| {
        let (_, notices) = batches(history).next().expect("a batch");
        notices.push(Noticed::Truncated(PartitionId(0), Offset(9), Offset(0)));
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
