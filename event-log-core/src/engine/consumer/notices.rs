//! What a consumer has to report and has not handed over yet: bounded, however many polls are dropped.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::position::PartitionId;
use crate::record::Notice;

#[derive(Default)]
pub(super) struct Notices {
    revoked: BTreeSet<PartitionId>,
    assigned: BTreeSet<PartitionId>,
    /// The latest fault of a partition: one that goes on is one notice until it is handed over.
    faults: BTreeMap<PartitionId, Error>,
    /// What did not hold of the starts of the group.
    starts: Vec<Notice>,
    /// What was missing or truncated where a reader stands, each of which takes an answer of the log.
    places: Vec<(PartitionId, Notice)>,
    /// Partitions of which these say that their log is another one.
    truncated: BTreeSet<PartitionId>,
}

impl Notices {
    /// The consumer is open: the partitions that it has from the beginning are not reported, and what opening it has shown is.
    pub(super) fn opened(&mut self, starts: Vec<Notice>) {
        self.assigned.clear();
        self.starts.extend(starts);
    }

    /// What a group that had to start anew has shown.
    pub(super) fn started(&mut self, starts: Vec<Notice>) {
        self.starts.extend(starts);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.revoked.is_empty()
            && self.assigned.is_empty()
            && self.faults.is_empty()
            && self.starts.is_empty()
            && self.places.is_empty()
    }

    pub(super) fn assigned(&mut self, partition: PartitionId) {
        self.assigned.insert(partition);
    }

    /// A partition that comes and goes before anything was reported of it is not reported.
    pub(super) fn revoked(&mut self, partition: PartitionId) {
        if !self.assigned.remove(&partition) {
            self.revoked.insert(partition);
        }
    }

    pub(super) fn fault(&mut self, partition: PartitionId, error: Error) {
        self.faults.insert(partition, error);
    }

    pub(super) fn extend(&mut self, partition: PartitionId, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Fault { error, .. } => self.fault(partition, error),
                other => self.places.push((partition, other)),
            }
        }
    }

    /// Among the notices of this partition is that its log is another one.
    pub(super) fn truncated(&mut self, partition: PartitionId) {
        self.truncated.insert(partition);
    }

    /// The application moves the reader: what would say where it goes on is not so any more. True when it would have said that
    /// the log is another one, which is yet to be told.
    pub(super) fn left(&mut self, partition: PartitionId) -> bool {
        self.places.retain(|&(of, _)| of != partition);
        self.truncated.remove(&partition)
    }

    /// Hands all of them over, revocations first.
    pub(super) fn take(&mut self) -> Vec<Notice> {
        let Self { revoked, assigned, faults, starts, places, truncated: _ } = std::mem::take(self);
        let mut notices = Vec::new();
        if !revoked.is_empty() {
            notices.push(Notice::Revoked(revoked.into_iter().collect()));
        }
        if !assigned.is_empty() {
            notices.push(Notice::Assigned(assigned.into_iter().collect()));
        }
        notices.extend(starts);
        notices.extend(places.into_iter().map(|(_, notice)| notice));
        notices.extend(faults.into_iter().map(|(partition, error)| Notice::Fault { partition, error }));
        notices
    }
}
