//! What must hold for any bytes: of a message, a cursor, a URL, an event in its envelope, a frame.
//!
//! Each function here panics if it does not. The fuzz targets of the same names (`cargo xtask fuzz`) look for such bytes
//! for as long as one likes; the test `fuzz` runs the same functions over the seeds, over every input that was ever
//! found, and over some that proptest makes.
//!
//! An input is text as far as it can be, in parts that [`SEPARATOR`] divides: so seeds can be written by hand, and a part
//! of one input makes sense in another.

mod cursors;
mod envelope;
mod frames;
mod records;
mod urls;

use std::fmt::Debug;
use std::time::Instant;

use event_log_core::ProducerConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::cursors::cursors;
pub use self::envelope::envelope;
pub use self::frames::frames;
pub use self::records::records;
pub use self::urls::urls;

/// Divides an input into parts: the record separator of ASCII, which text has no use for.
pub const SEPARATOR: u8 = 0x1e;

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As the files and folders of `tests/fuzz` call it.
    pub name: &'static str,
    /// Panics if what should hold for these bytes does not.
    pub run: fn(&[u8]),
    /// Files that are seeds too, in a folder of the workspace.
    pub more_seeds: Option<&'static str>,
}

/// Everything there is to fuzz.
pub const TARGETS: &[Target] = &[
    Target { name: "cursors", run: cursors, more_seeds: None },
    Target { name: "envelope", run: envelope, more_seeds: Some("vibes-events/golden") },
    Target { name: "frames", run: frames, more_seeds: None },
    Target { name: "records", run: records, more_seeds: None },
    Target { name: "urls", run: urls, more_seeds: None },
];

fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|&byte| byte == SEPARATOR)
}

/// Runs to the end on a clock that waits for nobody, so that the same bytes always do the same.
fn run_paused(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be built").block_on(run);
}

/// A policy that is valid can be followed: its waits are no more than a clock can show.
fn check_waits(config: &ProducerConfig) {
    for (attempt, chance) in [(0, 0), (1, u32::MAX), (u32::MAX, 0), (u32::MAX, 1)] {
        let wait = config.reconnect.wait(attempt, chance);
        assert!(wait <= config.reconnect.max && Instant::now().checked_add(wait).is_some(), "{wait:?}");
    }
}

/// Reads bytes as a `T`. What can be read is written as something that is read as the same, and written the same again.
fn read_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(json: &[u8]) -> Option<T> {
    let value: T = match serde_json::from_slice(json) {
        Ok(value) => value,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error says nothing");
            return None;
        }
    };
    let written = write_json(&value);
    let read: T = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(read, value, "{written}");
    assert_eq!(write_json(&read), written);
    Some(value)
}

fn write_json(value: &(impl Serialize + Debug)) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| panic!("{error}: {value:?}"))
}
