//! The consuming side of a program.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event_log_core::conformance::Probe;
use event_log_core::{
    CommitErrorKind, ConsumerOptions, Cursor, EventConsumer, Offset, PartitionId, Position, Record,
    SeekPosition,
};

use super::op::{Event, Seek, Start};
use super::produce::append;
use super::{Member, PATIENCE, Seen, What, World, kind, name};

/// More than a program has.
const ALL: usize = 1_000;

impl World<'_> {
    pub(super) async fn join(&mut self, group: usize, start: &Start) -> Seen {
        self.members.remove(&group);
        let start = match start {
            Start::Beginning => SeekPosition::Beginning,
            Start::End => SeekPosition::End,
        };
        let options = ConsumerOptions::starting_at(start);
        // Whoever was dropped just now may still count for a moment, and then we have only a part.
        let consumer = self.log.consumer_with(&name(group), options).await;
        let mut consumer = match consumer {
            Ok(consumer) => consumer,
            Err(error) => return Seen::Failed(kind(&error)),
        };
        self.until_shared(&mut [&mut consumer]).await;
        let seen = Seen::Stands(consumer.position().clone(), consumer.committed().clone());
        self.members.insert(group, Member { consumer, cursors: Vec::new() });
        seen
    }

    pub(super) async fn leave(&mut self, group: usize, says_so: bool) -> Seen {
        let Some(member) = self.members.remove(&group) else { return Seen::Nobody };
        if says_so && let Err(error) = member.consumer.leave().await {
            return Seen::Failed(kind(&error));
        }
        self.lag(group).await
    }

    /// Waits until these are all the members of their group, and share its partitions.
    async fn until_shared(&self, members: &mut [&mut Box<dyn EventConsumer<Probe>>]) {
        let sharing = async {
            loop {
                let mut shares = Vec::new();
                for member in &mut *members {
                    // Asks for the assignment, and delivers nothing.
                    drop(member.end().await);
                    shares.push(member.position().len());
                }
                let (least, most) = (shares.iter().min(), shares.iter().max());
                let is_even = least.zip(most).is_none_or(|(least, most)| most - least <= 1);
                if is_even && shares.iter().sum::<usize>() == self.partitions() as usize {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, sharing).await.expect("the members come to share the partitions");
    }

    /// The first call on a connection that was cut finds that out, and fails. Which call that is, is left open.
    pub(super) async fn revive(&mut self) {
        let reviving = async {
            for member in self.members.values_mut() {
                while member.consumer.end().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reviving).await.expect("the consumers come back");
    }

    pub(super) async fn read(&mut self, group: usize, max: usize) -> Seen {
        let max = if self.partitions() == 1 { max } else { ALL };
        let Some(member) = self.members.get_mut(&group) else { return Seen::Nobody };
        let records = match read(&mut member.consumer, max).await {
            Ok(records) => records,
            Err(error) => return Seen::Failed(kind(&error)),
        };
        let cursor = member.consumer.position().clone();
        member.cursors.push(cursor.clone());
        let mut seen = BTreeMap::<_, Vec<_>>::new();
        for record in &records {
            seen.entry(record.position.partition.0)
                .or_default()
                .push((record.position.offset.0, what(record)));
        }
        Seen::Read(seen, cursor)
    }

    pub(super) async fn commit(&mut self, group: usize, back: usize) -> Seen {
        let Some(member) = self.members.get_mut(&group) else { return Seen::Nobody };
        let Some(cursor) = member.cursors.iter().rev().nth(back).cloned() else { return Seen::Nobody };
        commit(member, &cursor).await
    }

    pub(super) async fn commit_ahead(&mut self, group: usize) -> Seen {
        let Some(member) = self.members.get_mut(&group) else { return Seen::Nobody };
        let position = member.consumer.position().iter();
        let ahead = position.map(|(partition, next)| (partition, Offset(next.0 + 5))).collect();
        commit(member, &ahead).await
    }

    pub(super) async fn seek(&mut self, group: usize, to: &Seek) -> Seen {
        let partitions = self.partitions();
        let Some(member) = self.members.get_mut(&group) else { return Seen::Nobody };
        let to = match *to {
            Seek::Beginning => SeekPosition::Beginning,
            Seek::End => SeekPosition::End,
            Seek::FromEnd(count) => SeekPosition::FromEnd(if partitions == 1 { count } else { ALL }),
            Seek::Position(partition, offset) => {
                SeekPosition::Position(Position::new(PartitionId(partition), Offset(offset)))
            }
            Seek::Back(reads) => match member.cursors.iter().rev().nth(reads) {
                Some(cursor) => SeekPosition::Cursor(cursor.clone()),
                None => return Seen::Nobody,
            },
        };
        match member.consumer.seek(to).await {
            Ok(()) => Seen::Stands(member.consumer.position().clone(), member.consumer.committed().clone()),
            Err(error) => Seen::Failed(kind(&error)),
        }
    }

    /// The first has everything and commits all along; the second commits nothing, so that all it has read goes to
    /// the first when it goes.
    pub(super) async fn hand_over(&mut self, group: usize, events: &[Event], dies: bool) -> Seen {
        let Some(mut member) = self.members.remove(&group) else { return Seen::Nobody };
        // From the beginning, so that nothing depends on which partitions go to the other.
        let Ok(()) = member.consumer.seek(SeekPosition::Beginning).await else { return Seen::Failed("seek") };
        let Ok(_) = read(&mut member.consumer, ALL).await else { return Seen::Failed("read") };
        let position = member.consumer.position().clone();
        let Seen::Stands(..) = commit(&mut member, &position).await else { return Seen::Failed("commit") };
        let second = self.log.consumer_with(&name(group), ConsumerOptions::default()).await;
        let Ok(mut second) = second else { return Seen::Failed("join") };
        self.until_shared(&mut [&mut member.consumer, &mut second]).await;
        let probes = self.probes(events);
        append(&*self.log, probes).await;
        let (Ok(ours), Ok(theirs)) = (read(&mut member.consumer, ALL).await, read(&mut second, ALL).await)
        else {
            return Seen::Failed("read");
        };
        let position = member.consumer.position().clone();
        let committed = commit(&mut member, &position).await;
        if dies {
            drop(second);
        } else if let Err(error) = second.leave().await {
            return Seen::Failed(kind(&error));
        }
        self.until_shared(&mut [&mut member.consumer]).await;
        let Ok(again) = read(&mut member.consumer, ALL).await else { return Seen::Failed("read") };
        let position = member.consumer.position().clone();
        let Seen::Stands(..) = commit(&mut member, &position).await else { return Seen::Failed("commit") };
        member.cursors.push(position);
        self.members.insert(group, member);
        if matches!(committed, Seen::Failed(_)) {
            return committed;
        }
        handed_over(&ours, &theirs, &again)
    }
}

fn handed_over(ours: &[Record<Probe>], theirs: &[Record<Probe>], again: &[Record<Probe>]) -> Seen {
    let places = |records: &[Record<Probe>]| -> BTreeSet<_> {
        records.iter().map(|record| (record.position.partition, record.position.offset)).collect()
    };
    let (ours_at, theirs_at, again_at) = (places(ours), places(theirs), places(again));
    let twice = ours_at.intersection(&theirs_at);
    let missing = theirs_at.difference(&again_at);
    let committed = ours_at.intersection(&again_at);
    let mut read: Vec<_> = ours.iter().chain(theirs).map(|record| record.position.offset.0).collect();
    read.sort_unstable();
    let wrong = twice.chain(missing).chain(committed).map(|(_, offset)| offset.0);
    Seen::HandedOver { read, wrong: wrong.collect() }
}

async fn commit(member: &mut Member, cursor: &Cursor) -> Seen {
    match member.consumer.commit(cursor).await {
        Ok(()) => Seen::Stands(member.consumer.position().clone(), member.consumer.committed().clone()),
        Err(error) => Seen::Failed(match error.failures().first() {
            Some((_, CommitErrorKind::BeyondDelivered { .. })) => "beyond",
            Some((_, CommitErrorKind::Revoked)) => "revoked",
            Some((_, CommitErrorKind::Superseded)) => "superseded",
            Some((_, CommitErrorKind::Foreign)) => "foreign",
            _ => "failed",
        }),
    }
}

/// Reads until there are `max`, or nothing more comes.
async fn read(
    consumer: &mut Box<dyn EventConsumer<Probe>>,
    max: usize,
) -> Result<Vec<Record<Probe>>, event_log_core::Error> {
    let mut records = Vec::new();
    while records.len() < max {
        let batch = consumer.poll(max - records.len(), Duration::ZERO).await?;
        // What it has to report comes at once, and records need not.
        if batch.is_empty() && batch.notices.is_empty() {
            break;
        }
        records.extend(batch.records);
    }
    Ok(records)
}

fn what(record: &Record<Probe>) -> What {
    record.event.as_ref().map_or(What::DecodeError, |probe| What::Event(probe.number))
}
