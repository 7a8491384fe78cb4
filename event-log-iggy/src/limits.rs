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

/// How long the SDK itself waits for a reply, whatever it is told. A connection that was given up before is waited for until
/// then, so that what is still sent over it does not arrive after everybody has looked.
pub const SDK_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections of a producer. The server carries out one request of a connection after the other, so that several
/// partitions are written together only over several; more than four were no faster, and each costs the server a task.
pub const CONNECTIONS: usize = 4;

/// Connections for questions (watermarks, places of groups, copies of commits): so many round trips of a question about
/// many partitions overlap. Four cut eight round trips to two; each costs the server a session.
pub const QUESTION_CONNECTIONS: usize = 4;

/// A round trip that takes this long makes a further connection for questions worth its sign-in, which costs the server a
/// tenth of a second: next to a server some quick questions in a row cost less.
pub const SLOW_ROUND_TRIP: Duration = Duration::from_millis(5);

/// Questions about partitions that are in flight at once, over whatever connections there are.
pub const QUESTIONS_IN_FLIGHT: usize = 2 * QUESTION_CONNECTIONS;

/// How long a member that finds another one starting the group waits for it. It stores one offset for each partition, which
/// takes milliseconds; a member that died while it did so is replaced after this.
pub const GROUP_START_GRACE: Duration = Duration::from_secs(2);

/// How often it looks until then.
pub const GROUP_START_LOOK: Duration = Duration::from_millis(20);

/// How soon a consumer that waits may be woken again for news that it has not come to know from the fetch that followed:
/// an empty answer proves nothing, and must not be asked for in a loop.
pub const WAKE_AGAIN: Duration = Duration::from_millis(100);

/// The longest pause between two looks of a waiting consumer at what other processes have appended. Twenty looks a
/// second cost about a thousandth of a core, and people do not notice a twentieth of a second.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The shortest pause between two such looks, right after something has come: more is likely to follow.
pub const POLL_INTERVAL_BUSY: Duration = Duration::from_millis(1);

/// How late a look at the ends may be until another waiting consumer makes it: the consumer that leads is not polled. Each
/// of the others looks at the clock so often.
pub const WATCH_GRACE: Duration = Duration::from_millis(200);

/// How long a waiting consumer relies on being woken before it looks for itself.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How often a waiting consumer reads its partitions although it knows of nothing new: one that was purged, and has grown
/// as long as it was before a consumer looked, is recognised only by its records.
pub const SUSPECT_INTERVAL: Duration = Duration::from_secs(10);

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

/// How long a consumer that joins again after a lost connection waits for the server to notice that its last connection is
/// gone. Until then the two share the partitions.
pub const REJOIN_GRACE: Duration = Duration::from_secs(2);

/// How often it looks until then. Listing the members costs the server some work.
pub const REJOIN_LOOK: Duration = Duration::from_millis(100);

/// How many looks have to show members that are gone, one after the other for [`REJOIN_GRACE`], before they count as gone.
pub const ROSTER_LOOKS: u32 = 5;

/// A look that takes longer shows nothing: the server leaves out connections that do not answer it within 3 seconds.
pub const ROSTER_TIMEOUT: Duration = Duration::from_secs(1);

/// Consumers of one handle whose places are remembered for the case that they join again. The places of the one that
/// joined first are forgotten for a new one, which then starts at what its group has committed.
pub const REMEMBERED_CONSUMERS: usize = 1_024;

/// The longest name of a stream or a topic, in bytes: what Apache Iggy takes.
pub const NAME_BYTES: usize = 255;

/// The most partitions that a topic may have: what Apache Iggy takes.
pub const MAX_PARTITIONS: u32 = 1_000;

/// How long a server of one's own may take until it lets us in. A third of a second is usual; a loaded machine, or a
/// log of many segments to look through, may need a hundred times as much.
pub const SERVER_START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long `iggy-server --version` may take. It prints a line; a machine that needs longer would not run the server.
pub const SERVER_VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a starting server is looked at: whether it has written down its port, and whether it lets us in. Short
/// against the third of a second that a start takes, and a look costs one `open`.
pub const SERVER_START_LOOK: Duration = Duration::from_millis(10);

/// How long a server may take to end after it was asked to: it writes what it has not flushed, and itself allows its
/// parts ten seconds for that. After this it is killed.
pub const SERVER_STOP_GRACE: Duration = Duration::from_secs(10);

/// How long the rest of a dead server's output is waited for. It is in the pipe already; only a child of the server
/// that outlives it could keep the pipe open.
pub const SERVER_OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// The wait before a dead server is started again: nothing is gained by waiting after a single crash.
pub const SERVER_RESTART_INITIAL: Duration = Duration::from_millis(100);

/// The longest such wait; each is twice the one before.
pub const SERVER_RESTART_MAX: Duration = Duration::from_secs(5);

/// Restarts in a row, each before the server was healthy again, after which it is given up. With the waits above they
/// span some seconds: enough for a port to become free, and a server that cannot start is not tried for ever.
pub const SERVER_RESTARTS: u32 = 5;

/// How long a server has to run until its earlier deaths are forgiven.
pub const SERVER_HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Lines of the server's output that are kept for the error that says how it died.
pub const SERVER_LOG_LINES: usize = 20;

/// Where a line of the server's output is cut. Its longest, the one with its configuration, has about 3,000 bytes.
pub const SERVER_LOG_LINE_BYTES: usize = 8_192;

/// Random bytes in the password of a server of one's own: far more than can be guessed; as hexadecimal digits they
/// stay below the hundred characters that Apache Iggy takes.
pub const SERVER_PASSWORD_BYTES: usize = 32;

/// Commands to a server's keeper that wait at once; who gives more waits for its turn.
pub const SERVER_COMMANDS: usize = 16;
