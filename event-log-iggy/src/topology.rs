//! Making the topic, and verifying it.

use event_log_core::Error;

use crate::config::Topology;
use crate::sdk::{Client, TopicDetails, TopicSettings};

/// Makes the stream and the topic when they are absent, and verifies them when they are present. Safe when several do
/// it at once: the second finds what the first has created.
pub(crate) async fn ensure(client: &Client, topology: &Topology) -> Result<TopicDetails, Error> {
    let details = match client.topic().await.map_err(|error| error.into_error())? {
        Some(details) => details,
        None => {
            client.create_topic(&settings(topology)).await.map_err(|error| error.into_error())?;
            // Verified too: another process may have created it, with other settings.
            let made = client.topic().await.map_err(|error| error.into_error())?;
            // Deleted again by another process. The next connection creates it.
            made.ok_or(Error::Unavailable(None))?
        }
    };
    verify(topology, &details)?;
    Ok(details)
}

const fn settings(topology: &Topology) -> TopicSettings {
    TopicSettings {
        partitions: topology.partitions,
        max_age: topology.retention.max_age,
        max_bytes: topology.retention.max_bytes,
        persisted: topology.durability.is_persisted(),
    }
}

fn verify(topology: &Topology, found: &TopicDetails) -> Result<(), Error> {
    let partitions = u32::try_from(found.partitions.len()).unwrap_or(u32::MAX);
    same("partitions", &topology.partitions, &partitions)?;
    same("retention.max_age", &Shown(topology.retention.max_age), &Shown(found.max_age))?;
    same("retention.max_bytes", &Shown(topology.retention.max_bytes), &Shown(found.max_bytes))?;
    match found.persisted {
        Some(persisted) => {
            let name = |persisted| if persisted { "persisted" } else { "replicated" };
            same("durability", &name(topology.durability.is_persisted()), &name(persisted))
        }
        // The server does not say.
        None => Ok(()),
    }
}

fn same<T: PartialEq + ToString>(property: &'static str, expected: &T, found: &T) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::TopologyMismatch { property, expected: expected.to_string(), found: found.to_string() })
}

/// A limit, or that there is none.
#[derive(PartialEq)]
struct Shown<T>(Option<T>);

impl<T: std::fmt::Debug> std::fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(limit) => write!(f, "{limit:?}"),
            None => f.write_str("unlimited"),
        }
    }
}
