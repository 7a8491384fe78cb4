//! What servers do that they are not documented to do, and what is done about it.
//!
//! All of it was seen with the pre-release 0.9.0-edge.5. A workaround can go when no supported server needs it any more.
//!
//! | the server | what is done | needed until |
//! |---|---|---|
//! | does not know the option `durability` of a topic | [`messages_required_to_save`] has it flush after each message, and [`persisted_of`] reads that back | 0.9.0, which knows it |
//! | empties the file of an offset before it writes the new one, so that a kill in between forgets the offset | an offset is stored twice, one after the other ([`offsets`](super::offsets)) | a server that replaces the file |
//! | answers *no offset* when the part of it that has the partition does not answer | a missing offset of a group that has started is asked for again, behind a record of that partition ([`certain_offset`](super::client::Client::certain_offset)) | a server that answers with an error |
//! | answers a poll with nothing when it cannot read | an empty answer is no end of the partition ([`read`](crate::read)) | a server that answers with an error |
//! | puts the offsets of groups to 0 when it has lost a partition, as if its first record had been processed | [`is_of_lost_partition`] tells them apart | a server that deletes them |
//! | keeps members from before a crash | the group is deleted and created again ([`stale_members`](super::stale_members)) | a server that removes them when it starts |
//! | holds a partition back from other members, for up to half a minute, when the group polls it | polls are those of a consumer without a group ([`poll`](super::client::Client::poll)) | not known |

use event_log_core::Offset;

use super::topics::PartitionStats;

/// After how many messages the server saves a partition, for one that knows no durability policy: without it up to 1,024
/// confirmed messages of each partition are in memory only.
pub(super) fn messages_required_to_save(persisted: bool) -> Option<u32> {
    persisted.then_some(1)
}

/// Whether a commit waits for stable storage, of a topic that has this policy and this threshold, as far as the server
/// says either.
pub(super) fn persisted_of(
    durability: Option<&str>,
    messages_required_to_save: Option<&str>,
) -> Option<bool> {
    durability
        .map(|policy| policy == "persisted")
        .or_else(|| messages_required_to_save.map(|threshold| threshold == "1"))
}

/// Whether an offset that is stored for a partition is none, because the server has lost the partition.
pub(super) fn is_of_lost_partition(stored: Offset, end_when_stored: Offset, stats: PartitionStats) -> bool {
    (stored, end_when_stored, stats.high) == (Offset::ZERO, Offset::ZERO, Offset::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_more_than_a_threshold() {
        assert_eq!(persisted_of(Some("persisted"), Some("1024")), Some(true));
        assert_eq!(persisted_of(Some("replicated"), Some("1")), Some(false));
        assert_eq!(persisted_of(None, Some("1")), Some(true));
        assert_eq!(persisted_of(None, Some("1024")), Some(false));
        assert_eq!(persisted_of(None, None), None);
    }

    #[test]
    fn the_first_offset_is_one_where_there_is_a_record() {
        let stats = |high| PartitionStats { high: Offset(high), ..PartitionStats::default() };
        assert!(is_of_lost_partition(Offset(0), Offset(0), stats(0)));
        assert!(!is_of_lost_partition(Offset(0), Offset(0), stats(1)));
        assert!(!is_of_lost_partition(Offset(3), Offset(0), stats(0)));
    }
}
