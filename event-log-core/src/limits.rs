//! Every default and every limit of this crate in one place, with the reason for each.
//!
//! Units are in the names; where there is none it is a [`Duration`].

use std::time::Duration;

/// Partitions of a log that does not say otherwise: parallel enough for eight consumers of a group, and few
/// enough that a batch of a hundred events still fills each request.
pub const PARTITIONS: u32 = 8;

/// The most partitions that a log may have: a handle keeps a little of each.
pub const MAX_PARTITIONS: u32 = 1 << 20;

/// The longest encoding of one event. Above any tool output seen in practice, and eight of them still fit in
/// the buffer.
pub const MAX_EVENT_BYTES: usize = 8 << 20;

/// From this length on [`RawCodec`](crate::RawCodec) shares a payload instead of copying it. A shorter one
/// costs less to copy next to its neighbours than to find again somewhere in memory.
pub const SHARED_PAYLOAD_BYTES: usize = 512;

/// The most that a log may be configured to take: what Apache Iggy carries in one message.
pub const MAX_EVENT_BYTES_CEILING: usize = 64_000_000;

/// Events that wait for a log that is away (or slow) before the overflow policy decides: minutes of an
/// interactive application, a few milliseconds of a flood.
pub const BUFFER_EVENTS: usize = 10_000;

/// Encoded bytes that wait likewise.
pub const BUFFER_BYTES: usize = 64 << 20;

/// How long [`Overflow::Block`](crate::Overflow::Block) waits for space unless it is told otherwise.
pub const BLOCK_DEADLINE: Duration = Duration::from_secs(5);

/// Events sent to one partition in one request. Beyond a thousand the round trip no longer dominates.
pub const REQUEST_EVENTS: usize = 1_024;

/// Encoded bytes sent to one partition in one request.
pub const REQUEST_BYTES: usize = 4 << 20;

/// The wait before the first attempt to reconnect: long enough for a server that restarts, short enough to
/// go unnoticed.
pub const RECONNECT_INITIAL: Duration = Duration::from_secs(1);

/// The longest wait between two attempts to reconnect.
pub const RECONNECT_MAX: Duration = Duration::from_secs(30);

/// The shortest time between two attempts to reconnect that [`flush`](crate::EventLog::flush) asks for.
pub const FLUSH_ATTEMPT_INTERVAL: Duration = Duration::from_millis(100);

/// The longest wait that is carried out: a year. Whatever is longer means *never*, and cannot always be added to a clock.
pub const LONGEST_WAIT: Duration = Duration::from_secs(365 * 86_400);

/// How much of each wait is left to chance, so that the clients of a restarted server do not all come at once.
pub const RECONNECT_JITTER_PERCENT: u32 = 20;

/// For how long it is relied on where a partition was last seen to end. A handle that has sent nothing to it for so long asks
/// before it sends, so that what is read back after an ambiguous request begins no earlier than that before it was sent.
pub const MARK_INTERVAL: Duration = Duration::from_secs(1);

/// For how long what is sent waits for the answer to that question.
pub const MARK_PATIENCE: Duration = Duration::from_millis(500);

/// The same for the first question of a handle. What is sent without any answer has to be looked for in the whole partition.
pub const FIRST_MARK_PATIENCE: Duration = Duration::from_secs(5);

/// How often a request may be given up while it waits for that answer, before it is sent although nothing at all is known.
pub const MARK_WAITS: u32 = 3;

/// For how long a handle makes do with the connections that it has, when a further one could not be opened.
pub const WIDEN_RETRY: Duration = Duration::from_secs(10);

/// For how long a request is waited for when another connection is lost: what is not answered then is read back. Twice as long as
/// answers of its partition have taken lately, if that is longer, and twice that each time in a row that it was not enough.
pub const LOST_GRACE: Duration = Duration::from_secs(1);

/// The longest of these.
pub const LOST_GRACE_MAX: Duration = Duration::from_secs(60);

/// For how long, and how often, fetches of a partition have to fail, without one that succeeds, before what they were to find
/// out is given up: the events are unknown, and those behind them are sent.
pub const READ_BACK_PATIENCE: Duration = Duration::from_secs(60);

/// See [`READ_BACK_PATIENCE`].
pub const READ_BACK_FAILURES: u32 = 20;

/// How long a consumer that has lost its connection waits before it joins its group again.
pub const REJOIN_INTERVAL: Duration = Duration::from_millis(100);

/// How long a consumer that joins again waits for the calls over the lost connection to be dropped, so that its group never has
/// two members of it. They are ended by then, which takes a runtime a moment, unless one of them blocks its thread.
pub const ENDING_PATIENCE: Duration = Duration::from_millis(500);

/// How long a consumer waits before it asks again for what a partition did not return, or could not. Doubled with each
/// failure in a row, up to [`READER_RETRY_MAX`].
pub const READER_RETRY: Duration = Duration::from_millis(100);

/// The longest wait between two attempts to read a faulty partition: it is back within a second of its fault's end.
pub const READER_RETRY_MAX: Duration = Duration::from_secs(1);

/// The longest wait before the place of a partition is stored whose commits lose the connection of its consumer. Each loss
/// interrupts what is under way over it, so that the others need more and more time for themselves; doubled with each loss in a
/// row.
pub const LOST_RETRY_MAX: Duration = Duration::from_secs(60);

/// How many fetches of a consumer are in flight at a time over connections of their own, because they were lost with the
/// connection that they shared.
pub const ISOLATED_FETCHES: usize = 64;

/// The longest wait before such a fetch goes over the shared connection all the same, because there is no other to be had; up to
/// twice as long, so that they do not all go at once.
pub const UNISOLATED_RETRY_MAX: Duration = Duration::from_secs(8);

/// How many more of those that have lost the last connection of their own.
pub const LOSING_FETCHES: usize = 8;

/// How long a consumer that waits for news waits before it asks again, when the log has said at once that there is nothing.
/// Doubled each time in a row, up to [`NEWS_RETRY_MAX`]: a wait may return early, and waiting must keep no processor busy.
pub const NEWS_RETRY: Duration = Duration::from_millis(1);

/// See [`NEWS_RETRY`]. An answer that takes as long as this is asked for again at once.
pub const NEWS_RETRY_MAX: Duration = Duration::from_millis(100);

/// How long records of other partitions are held back for a fetch that is in flight and may bring older ones. It orders
/// what comes at the same time, and bounds what a slow partition costs the others.
pub const MERGE_PATIENCE: Duration = Duration::from_millis(100);

/// How many offsets a reader that begins in the middle of a partition looks back at most to know the last
/// [`DEDUP_WINDOW_RECORDS`] records before it, where gaps lie between them.
pub const LOOK_BACK_OFFSETS: u64 = 1 << 20;

/// Records that the other partitions may deliver before a record that claims to be newer than theirs is delivered all the
/// same: append times order the merge, but a clock that jumped ahead must not starve its partition. With more than 256 partitions
/// it is [`TURN_RECORDS`] for each of them, since each has to wait for a turn of all the others.
pub const STARVATION_RECORDS: u64 = 16_384;

/// The longest wait before a letter is appended again to a dead-letter log that could not take it.
pub const LETTER_RETRY_MAX: Duration = Duration::from_secs(30);

/// Epochs that a consumer remembers per partition after they have ended, to say why a cursor from one of them is late.
pub const REMEMBERED_EPOCHS: usize = 16;

/// How much longer than its timeout a poll may wait for an answer that is under way: a round trip, and a slow one. A
/// poll with a timeout of zero lives on it.
pub const POLL_OVERTIME: Duration = Duration::from_secs(1);

/// Events of one `append_all` that are under way at a time: two requests for one partition, so that the next one waits
/// when the first is answered.
pub const APPEND_ALL_UNDER_WAY: usize = 2 * REQUEST_EVENTS;

/// Events of recent records that a consumer remembers per partition, to drop second copies of them. A second
/// copy comes from a request that outlived its connection, so that it lies at most a few requests behind.
pub const DEDUP_WINDOW_RECORDS: usize = 2 * REQUEST_EVENTS;

/// Records that one poll returns at most, and that a fetch asks for unless its reader [reads ahead](READ_AHEAD_RECORDS).
pub const FETCH_RECORDS: usize = 1_024;

/// Records that a consumer fetches at least, so that polling for single records does not fetch single records.
pub const PREFETCH_RECORDS: usize = 128;

/// Records that a consumer fetches at most, unless a poll wants more. A reader that is behind asks for twice as many
/// each time, as a file system reads ahead: a look fetches little, and a backlog is not held up by requests.
pub const READ_AHEAD_RECORDS: usize = 4_096;

/// Records that a consumer delivers from one partition before another one that is equally old has its turn.
pub const TURN_RECORDS: usize = 64;

/// Payload bytes that one fetch takes of one partition (at least one record, however long).
pub const FETCH_BYTES: usize = 4 << 20;

/// Payload bytes of a partition, fetched and not delivered, from which on a consumer fetches no more of it, however many records
/// a poll wants: two fetches, of which one is being delivered and one comes next. A third one may be under way.
pub const READER_BYTES: usize = 2 * FETCH_BYTES;

/// The most records that [`SeekPosition::FromEnd`](crate::SeekPosition::FromEnd) looks back: the last
/// positions of every partition are held in memory meanwhile.
pub const FROM_END_RECORDS: usize = 100_000;

/// The longest name of a header, in bytes: what Apache Iggy takes.
pub const HEADER_NAME_BYTES: usize = 255;

/// The longest value of a header, in bytes: what Apache Iggy takes.
pub const HEADER_VALUE_BYTES: usize = 255;

/// All headers of an event, in bytes, with [`HEADER_OVERHEAD_BYTES`] for each: what Apache Iggy takes.
pub const HEADERS_BYTES: usize = 100_000;

/// What each header counts beside its name and its value: kinds and lengths on Apache Iggy's wire.
pub const HEADER_OVERHEAD_BYTES: usize = 10;

/// The longest name of a group, in bytes: what Apache Iggy takes.
pub const GROUP_NAME_BYTES: usize = 255;

/// The shortest time between two warnings about dropped events.
pub const WARN_INTERVAL: Duration = Duration::from_secs(1);
