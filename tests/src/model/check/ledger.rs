//! What is in the log, from everybody who has said so: receipts, deliveries, and the reading at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use event_log_core::{EventId, Offset, PartitionId, Position, Timestamp};

use super::{Offered, Verdict, Violation, ensure};
use crate::model::history::{Arming, Content, Fate, History, Seen, What};

/// One record, as far as anybody knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) id: Option<EventId>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) content: Option<Content>,
}

/// The log. With retention, what was removed before anybody saw it is not in here.
pub(super) struct Ledger {
    pub(super) records: BTreeMap<Position, Entry>,
    /// Where each id first is.
    pub(super) first: HashMap<EventId, Position>,
    /// Where each event first is.
    pub(super) events: HashMap<u64, Position>,
    /// Events that arrived late, after their request had been given up for lost.
    pub(super) delivered_late: usize,
    /// A producer may have had no way to see a first copy: appends took time, or retention removed it.
    pub(super) may_miss_first: bool,
    pub(super) marks: Vec<(Offset, Offset)>,
}

impl Ledger {
    pub(super) fn of(history: &History, events: &[Offered<'_>]) -> Result<Self, Violation> {
        let mut ledger = Self {
            records: BTreeMap::new(),
            first: HashMap::new(),
            events: HashMap::new(),
            delivered_late: 0,
            may_miss_first: history.settings.retention.is_some(),
            marks: Vec::new(),
        };
        let mut foreign = BTreeSet::new();
        let mut read: &[Seen] = &[];
        for observation in &history.observed {
            match &observation.what {
                What::Resolved { event, fate: Fate::Committed { id, position } } => {
                    let content = events[*event].decodable.then_some(Content::Event(*event as u64));
                    ledger.claim(*position, Entry { id: Some(*id), timestamp: None, content })?;
                }
                What::Polled { reading, .. } => {
                    if let Ok(Some((records, ..))) = &reading.result {
                        ledger.claim_all(records)?;
                    }
                }
                What::Content { records, marks } => {
                    ledger.claim_all(records)?;
                    read = records;
                    ledger.marks.clone_from(marks);
                }
                What::Foreign(position) => {
                    foreign.insert(*position);
                    ledger.claim(*position, Entry::default())?;
                }
                What::Delivered(count) => ledger.delivered_late += count,
                What::Armed(Arming::Slow) => ledger.may_miss_first = true,
                _ => {}
            }
        }
        ledger.index()?;
        ledger.check_read(read)?;
        ledger.check_times()?;
        ledger.check_origins(events, &foreign)?;
        Ok(ledger)
    }

    fn claim_all(&mut self, records: &[Seen]) -> Verdict {
        for Seen { position, id, timestamp, content } in records {
            let (timestamp, content) = (Some(*timestamp), Some(content.clone()));
            self.claim(*position, Entry { id: Some(*id), timestamp, content })?;
        }
        Ok(())
    }

    /// Adds what somebody said of a position. Nobody may say anything else.
    fn claim(&mut self, position: Position, said: Entry) -> Verdict {
        let known = self.records.entry(position).or_default();
        ensure!(agree(&mut known.id, said.id), "true positions", "{position} has two ids");
        ensure!(agree(&mut known.timestamp, said.timestamp), "true positions", "{position} has two times");
        ensure!(agree(&mut known.content, said.content), "true positions", "{position} has two contents");
        Ok(())
    }

    fn index(&mut self) -> Verdict {
        let mut copies = 0;
        let mut ids = HashMap::new();
        for (&position, entry) in &self.records {
            let Some(id) = entry.id else { continue };
            if self.first.contains_key(&id) {
                copies += 1;
            }
            let first = *self.first.entry(id).or_insert(position);
            ensure!(
                first.partition == position.partition,
                "one partition",
                "{id} is at {first} and at {position}"
            );
            if let Some(Content::Event(event)) = entry.content {
                self.events.entry(event).or_insert(position);
                let known = *ids.entry(event).or_insert(id);
                ensure!(known == id, "no second copies", "event {event} has the ids {known} and {id}");
            }
        }
        let late = self.delivered_late;
        ensure!(copies <= late, "no second copies", "{copies} copies, but only {late} events arrived late");
        Ok(())
    }

    /// What is still retained has been read, and lies within the watermarks.
    fn check_read(&self, read: &[Seen]) -> Verdict {
        let read: BTreeSet<_> = read.iter().map(|record| record.position).collect();
        for &position in self.records.keys() {
            let marks = self.marks.get(position.partition.0 as usize).copied();
            let Some((low, high)) = marks else {
                return Err(Violation {
                    rule: "true positions",
                    detail: format!("no partition: {position}"),
                });
            };
            ensure!(position.offset < high, "watermarks", "{position} is beyond {high}");
            let gone = position.offset < low;
            ensure!(gone || read.contains(&position), "nothing lost", "{position} is no longer in the log");
            ensure!(!gone || !read.contains(&position), "watermarks", "{position} is below {low}");
        }
        for (partition, &(low, high)) in (0..).map(PartitionId).zip(&self.marks) {
            let last = read.iter().rev().find(|position| position.partition == partition);
            let ends = last.map_or(low, |last| last.offset.next());
            ensure!(ends == high, "watermarks", "partition {partition} ends at {ends}, not at {high}");
        }
        Ok(())
    }

    fn check_times(&self) -> Verdict {
        let timed: Vec<_> =
            self.records.iter().filter_map(|(at, entry)| Some((*at, entry.timestamp?))).collect();
        for pair in timed.windows(2) {
            let ((a, before), (b, after)) = (pair[0], pair[1]);
            ensure!(a.partition != b.partition || before <= after, "time", "{a} is younger than {b}");
        }
        Ok(())
    }

    /// Every record was offered by somebody, and lies in the partition of its key.
    fn check_origins(&self, events: &[Offered<'_>], foreign: &BTreeSet<Position>) -> Verdict {
        let named: BTreeSet<EventId> = events
            .iter()
            .filter(|event| !event.decodable)
            .filter_map(|event| match event.resolved?.1 {
                Fate::Committed { id, .. } | Fate::Unknown { id, .. } => Some(*id),
                _ => None,
            })
            .collect();
        let mut nameless = BTreeSet::new();
        for (&position, entry) in &self.records {
            match &entry.content {
                Some(Content::Event(number)) => {
                    let event = usize::try_from(*number).ok().and_then(|number| events.get(number));
                    let Some(event) = event else {
                        let detail = format!("event {number} at {position} was never offered");
                        return Err(Violation { rule: "nothing made up", detail });
                    };
                    let here = event.key.as_ref().is_none_or(|(_, home)| *home == position.partition);
                    ensure!(here, "one partition", "event {number} is at {position}: {:?}", event.key);
                    let fits = event.encodable && event.decodable && !foreign.contains(&position);
                    ensure!(fits, "nothing made up", "event {number} cannot be at {position}");
                }
                _ if foreign.contains(&position) => {}
                _ => {
                    if let Some(id) = entry.id.filter(|id| !named.contains(id)) {
                        nameless.insert(id);
                    }
                }
            }
        }
        let abandoned = events.iter().filter(|event| event.abandoned.is_some() && !event.decodable).count();
        let count = nameless.len();
        ensure!(count <= abandoned, "nothing made up", "{count} records without origin: {nameless:?}");
        Ok(())
    }

    /// The records of a partition at these offsets.
    pub(super) fn range(
        &self,
        partition: PartitionId,
        offsets: Range<Offset>,
    ) -> impl DoubleEndedIterator<Item = (Position, &Entry)> {
        let end = offsets.end.max(offsets.start);
        let range = Position::new(partition, offsets.start)..Position::new(partition, end);
        self.records.range(range).map(|(&position, entry)| (position, entry))
    }

    /// Whether the record is not the first with its id.
    pub(super) fn is_copy(&self, position: Position) -> bool {
        self.id_at(position).is_some_and(|id| self.first.get(&id) != Some(&position))
    }

    pub(super) fn id_at(&self, position: Position) -> Option<EventId> {
        self.records.get(&position)?.id
    }
}

/// Whether the new claim goes with the known one, which it completes.
fn agree<T: PartialEq>(known: &mut Option<T>, said: Option<T>) -> bool {
    match (&known, said) {
        (_, None) => true,
        (None, said) => {
            *known = said;
            true
        }
        (Some(known), Some(said)) => *known == said,
    }
}
