//! A log in the files of a folder: another backend, written from the documentation of
//! [`Transport`](event_log_core::engine::Transport) alone, that the conformance suite kills and opens again.
//!
//! Each partition is a file of frames, and so are the places of the groups. What is confirmed was synced before. As the
//! folder is opened, a frame that is torn or has another checksum ends its file, which is cut off there.
//!
//! Every [`JournalBug`] is a mistake that such a backend could have, and that a case of the suite has to catch.

mod disk;
mod frame;
mod groups;
mod harness;
mod partition;
mod plan;
mod server;
mod transport;

pub use self::harness::JournalHarness;
pub use self::transport::{JournalMember, JournalProducer, JournalTransport};

/// A mistake in the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalBug {
    /// An append is confirmed before it is synced.
    NoSyncBeforeAck,
    /// A commit is confirmed before it is synced.
    NoSyncOfCommits,
    /// A torn frame stays in its file, and appends go on behind it.
    TornTailKept,
    /// A frame with another checksum counts as one that was written.
    ChecksumIgnored,
    /// No more than 64 KiB of a record are read.
    LargeRecordsCut,
    /// Headers are not written.
    HeadersLost,
    /// Ids are not written: after opening again, each record has the id of its position.
    IdsForgotten,
    /// After opening again, offsets go on at the number of records.
    OffsetsCounted,
    /// Purging changes memory only.
    PurgeInMemory,
    /// Commits change memory only.
    CommitsInMemory,
    /// Deleting a group changes memory only.
    DeletionInMemory,
    /// A place only moves forward on disk.
    PlacesOnlyGrowOnDisk,
    /// Group names are written as names of files: in lower case, and without what a file system may not like.
    NamesFolded,
    /// The epoch is the same whichever consumer has had the partition.
    EpochNeverChanges,
    /// A leave wakes no member that waits.
    LeaveWakesNone,
    /// A member commits for partitions that it has not.
    CommitsForOthers,
    /// Initialising the place of a group replaces the one that it has.
    InitialiseReplaces,
    /// A fetch returns more records than were asked for.
    FetchIgnoresRecords,
    /// A fetch returns more bytes than were asked for.
    FetchIgnoresBytes,
    /// A fetch begins one record late when it asks from the middle.
    FetchSkipsOne,
    /// A fetch that is told what was read before does not look whether it is there.
    LandmarkIgnored,
    /// A request that is given up goes on, and closing its connection does not wait for it.
    GivenUpArrives,
    /// Whichever places are asked for, the answers are those of the first partitions.
    PlacesByNumber,
    /// Over a connection of the producer, it is not looked whether what was read before is there.
    LandmarkIgnoredApart,
}
