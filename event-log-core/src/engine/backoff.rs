//! Waits that double.

use std::time::Duration;

/// The wait after so many failures in a row, of which there is at least one: `first`, and twice as long each time, up to `most`.
pub(super) fn doubled(first: Duration, most: Duration, failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(most)
}
