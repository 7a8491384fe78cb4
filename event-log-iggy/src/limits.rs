//! Every default and every limit of this crate in one place, with the reason for each. Those that all backends
//! share are in [`event_log_core::limits`].
//!
//! Units are in the names; where there is none it is a [`Duration`].

use std::time::Duration;

/// How long dialling one address and signing in may take. The server hashes the password, which alone takes a
/// tenth of a second; a host that drops packets must not hold up the next address for longer than this.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the answer to one request may take. The server answers within milliseconds; a disk that syncs megabytes
/// may need seconds. After this the connection is given up and the outcome is found out on the next one.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest pause between two looks of a waiting consumer at what other processes have appended. Twenty looks a
/// second cost about a thousandth of a core, and people do not notice a twentieth of a second.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The shortest pause between two such looks, right after something has come: more is likely to follow.
pub const POLL_INTERVAL_BUSY: Duration = Duration::from_millis(1);

/// How long a waiting consumer relies on being woken before it looks for itself.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How often an idle producer asks whether its server is still there. It bounds how long the state may say
/// *connected* after a server has gone without a word.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How often a consumer tells the server that it is alive when it is not polled. The server drops a member after
/// 36 seconds of silence.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How old a consumer's knowledge of its partitions may be when it fetches. It bounds how long two members may read
/// the same partition after one has joined.
pub const ASSIGNMENT_AGE: Duration = Duration::from_millis(100);

/// How often a waiting consumer asks which partitions it has.
pub const ASSIGNMENT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a consumer that joins again after a lost connection waits for the server to notice that its old self is
/// gone. Until then the two share the partitions.
pub const REJOIN_GRACE: Duration = Duration::from_secs(2);

/// How often it looks meanwhile.
pub const REJOIN_LOOK: Duration = Duration::from_millis(20);

/// Consumers of one handle whose places are remembered for the case that they join again. The places of the one that
/// joined first are forgotten for a new one, which then starts at what its group has committed.
pub const REMEMBERED_CONSUMERS: usize = 1_024;

/// The longest name of a stream or a topic, in bytes: what Apache Iggy takes.
pub const NAME_BYTES: usize = 255;

/// The most partitions that a topic may have: what Apache Iggy takes.
pub const MAX_PARTITIONS: u32 = 1_000;
