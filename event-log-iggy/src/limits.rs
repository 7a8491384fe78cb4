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
