//! Committing: exactly what was delivered and asked for is stored, and nothing else.

use event_log_core::{Cursor, Offset, PartitionId};

use super::super::lane::Store;
use super::super::{Verdict, ensure};
use super::{Groups, Reader, check_committed};
use crate::model::history::{Committing, Reading};

impl Groups<'_> {
    pub(super) fn committed(
        &mut self,
        consumer: usize,
        up_to: &Cursor,
        seen: &Reading<Committing>,
        stored: Option<&[Option<Offset>]>,
    ) -> Verdict {
        let Some(mut reader) = self.begin(consumer) else { return Ok(()) };
        let Ok(result) = &seen.result else { return Ok(()) };
        let told = stored.unwrap_or(&self.groups[reader.group].stored);
        self.settle_doubts(&mut reader, up_to, result, told);
        if !result.foreign.is_empty() {
            // An epoch that is long over is not remembered: the cursor counts as another consumer's.
            let excused =
                |partition| reader.lanes.get(partition).is_none_or(|lane| lane.sought) || !reader.solo;
            ensure!(result.foreign.iter().all(excused), "commit", "of {up_to}: {result:?}");
            ensure!(result.stored.is_empty(), "commit", "of a mixed-up cursor stored {}", result.stored);
            self.sync(&mut reader, seen)?;
            self.readers.insert(consumer, reader);
            return Ok(());
        }
        let (asked, beyond) = expected(&reader, up_to, result, told);
        let reported: Vec<_> =
            result.beyond.iter().map(|&(partition, asked, _)| (partition, asked)).collect();
        ensure!(
            reported == beyond,
            "commit",
            "of {up_to} by consumer {consumer}: {reported:?} were said to be beyond what was delivered, {beyond:?} are"
        );
        if beyond.is_empty() {
            check_revoked(&reader, up_to, result)?;
            self.store(&mut reader, &asked, result)?;
        } else {
            ensure!(result.stored.is_empty(), "commit", "of a mixed-up cursor stored {}", result.stored);
        }
        let group = &mut self.groups[reader.group];
        if let Some(stored) = stored {
            let expected = &group.stored;
            ensure!(stored == expected, "commit", "of {up_to}: the broker has {stored:?}, not {expected:?}");
        }
        self.sync(&mut reader, seen)?;
        check_committed(&reader, &seen.committed)?;
        self.readers.insert(consumer, reader);
        Ok(())
    }

    /// A partition that may have gone and come in a call that nobody could see: the consumer knows whether it
    /// has delivered anything since, and the commit shows it.
    fn settle_doubts(
        &self,
        reader: &mut Reader,
        up_to: &Cursor,
        result: &Committing,
        told: &[Option<Offset>],
    ) {
        for (&partition, lane) in reader.lanes.iter_mut().filter(|(_, lane)| lane.doubtful) {
            let Some(next) = up_to.get(partition) else { continue };
            let passed_over = match lane.store(next) {
                // From before a seek: it says nothing of the partition.
                _ if result.superseded.contains(&partition) => false,
                Store::Nothing => false,
                Store::Advance if lane.sought && lane.committed > Some(next) => false,
                Store::Beyond => result.beyond.iter().all(|&(beyond, ..)| beyond != partition),
                Store::Advance => {
                    let failed = result.failed.iter().any(|&(failed, _)| failed == partition);
                    let named = failed || result.revoked.contains(&partition);
                    result.beyond.is_empty() && !named && told[partition.0 as usize] != Some(next)
                }
            };
            if passed_over {
                *lane = lane.renewed(self.groups[reader.group].stored[partition.0 as usize]);
                lane.unannounced = true;
            }
        }
    }

    /// Every partition that was asked for is either stored or has a reason.
    fn store(
        &mut self,
        reader: &mut Reader,
        asked: &[(PartitionId, Offset)],
        result: &Committing,
    ) -> Verdict {
        let shaken = reader.cut > 0 || !self.link_up;
        let unreachable = result.failed.iter().any(|&(_, unavailable)| unavailable);
        ensure!(shaken || !unreachable, "errors", "a commit did not reach the log: {result:?}");
        if reader.cut > 0 && !asked.is_empty() {
            self.groups[reader.group].claims.clear();
        }
        for &(partition, _) in result.failed.iter().filter(|(_, unavailable)| !unavailable) {
            let (armed, met) = self.failing_commits.entry(partition).or_default();
            *met += 1;
            ensure!(met <= armed, "faults", "commit of partition {partition} failed by itself");
        }
        let failed: Vec<_> = result.failed.iter().map(|&(partition, _)| partition).collect();
        for &(partition, next) in asked {
            let not_stored = failed.contains(&partition) || result.revoked.contains(&partition);
            let said = result.is_ok() || result.stored.get(partition) == Some(next);
            ensure!(said != not_stored, "commit", "partition {partition}: {next} of {result:?}");
            if said {
                self.groups[reader.group].stored[partition.0 as usize] = Some(next);
                if let Some(lost) = reader.lost.get_mut(&partition) {
                    *lost = (*lost).max(Some(next));
                }
                if let Some(lane) = reader.lanes.get_mut(&partition) {
                    lane.stored(next);
                }
            }
        }
        let strange = result.stored.iter().find(|one| !asked.contains(one));
        ensure!(strange.is_none(), "commit", "stored what it should not: {strange:?}");
        Ok(())
    }
}

/// Whoever commits records that others will read again is told; and nobody else is.
fn check_revoked(reader: &Reader, up_to: &Cursor, result: &Committing) -> Verdict {
    let strange = result.revoked.iter().find(|partition| up_to.get(**partition).is_none());
    let possible = strange.is_none() && (!reader.solo || result.revoked.is_empty());
    ensure!(possible, "ownership", "commit of {up_to}: {result:?}");
    for (partition, committed) in &reader.lost {
        let due = up_to.get(*partition).is_some_and(|next| next > committed.unwrap_or_default());
        let told = result.revoked.contains(partition);
        ensure!(
            told || !due || reader.lanes.contains_key(partition),
            "commit",
            "of {up_to} said nothing of partition {partition}, which went to others"
        );
    }
    Ok(())
}

type Offsets = Vec<(PartitionId, Offset)>;

/// What a commit stores, and what it cannot.
fn expected(
    reader: &Reader,
    up_to: &Cursor,
    result: &Committing,
    told: &[Option<Offset>],
) -> (Offsets, Offsets) {
    let (mut asked, mut beyond) = (Vec::new(), Vec::new());
    for (&partition, lane) in &reader.lanes {
        let Some(next) = up_to.get(partition) else { continue };
        // A cursor from before a seek: of no consequence, and if it names more than is stored, that is said.
        if lane.sought && result.superseded.contains(&partition) {
            continue;
        }
        let is_stored = told[partition.0 as usize] == Some(next);
        match lane.store(next) {
            Store::Nothing => {}
            Store::Advance if lane.committed > Some(next) && !is_stored && result.is_ok() => {}
            Store::Advance => asked.push((partition, next)),
            // A cursor from when it had the partition before; nobody outside can see how far it had come then.
            Store::Beyond if !reader.solo && result.revoked.contains(&partition) => {}
            Store::Beyond => beyond.push((partition, next)),
        }
    }
    (asked, beyond)
}
