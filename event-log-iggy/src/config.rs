//! What a log on Apache Iggy is opened with.

mod endpoint;
mod topology;
mod url;

use std::time::Duration;

use event_log_core::{Error, ProducerConfig, limits as core_limits};
use serde::{Deserialize, Serialize};

pub use self::endpoint::{Credentials, Endpoint, Tls};
pub use self::topology::{Durability, Retention, Topology};
use crate::limits;

/// Where the log is and how to use it. Made by [`new`](Self::new), from a URL ([`FromStr`](std::str::FromStr), see
/// [the crate](crate#a-log-as-a-url)), or with serde; then changed field by field.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IggyConfig {
    /// The servers, and who signs in.
    pub endpoint: Endpoint,
    /// The name of the stream: 1 to 255 bytes.
    pub stream: String,
    /// The name of the topic in it: 1 to 255 bytes.
    pub topic: String,
    /// What the topic is like: made so when it is absent, verified when it is present.
    #[serde(default)]
    pub topology: Topology,
    /// How long dialling one address and signing in may take.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Duration,
    /// How long the answer to one request may take before its connection is given up.
    #[serde(default = "request_timeout")]
    pub request_timeout: Duration,
    /// How long a record of another process may go unnoticed by a consumer that waits: the longest pause between two
    /// looks. Records of this handle wake its consumers at once.
    #[serde(default = "poll_interval")]
    pub poll_interval: Duration,
    /// How many connections the producer may have, so that requests to different partitions are under way together. The
    /// second and the following are opened when there is more to send than one partition's events.
    #[serde(default = "connections")]
    pub connections: usize,
    /// Limits, buffer and reconnection of the producing side.
    #[serde(default)]
    pub producer: ProducerConfig,
}

const fn connect_timeout() -> Duration {
    limits::CONNECT_TIMEOUT
}

const fn request_timeout() -> Duration {
    limits::REQUEST_TIMEOUT
}

const fn poll_interval() -> Duration {
    limits::POLL_INTERVAL
}

const fn connections() -> usize {
    limits::CONNECTIONS
}

impl IggyConfig {
    /// This topic on these servers, with the default settings.
    pub fn new(endpoint: Endpoint, stream: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            endpoint,
            stream: stream.into(),
            topic: topic.into(),
            topology: Topology::default(),
            connect_timeout: limits::CONNECT_TIMEOUT,
            request_timeout: limits::REQUEST_TIMEOUT,
            poll_interval: limits::POLL_INTERVAL,
            connections: limits::CONNECTIONS,
            producer: ProducerConfig::default(),
        }
    }

    /// Validates the settings.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with the name of the field.
    pub fn validate(&self) -> Result<(), Error> {
        self.endpoint.validate()?;
        for (name, value) in [("stream", &self.stream), ("topic", &self.topic)] {
            if value.is_empty() || value.len() > limits::NAME_BYTES {
                return Err(Error::invalid(name, format!("must have 1 to {} bytes", limits::NAME_BYTES)));
            }
        }
        self.topology.validate()?;
        let durations = [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("poll_interval", self.poll_interval),
        ];
        if let Some((name, _)) = durations.into_iter().find(|(_, value)| value.is_zero()) {
            return Err(Error::invalid(name, "must be longer than zero"));
        }
        if self.connections == 0 {
            return Err(Error::invalid("connections", "must be at least 1"));
        }
        if let Some((name, _)) = durations.into_iter().find(|(_, value)| *value > core_limits::LONGEST_WAIT) {
            return Err(Error::invalid(name, "must be at most a year"));
        }
        self.producer.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> IggyConfig {
        IggyConfig::new(Endpoint::new("localhost:8090", Credentials::password("iggy", "secret")), "s", "t")
    }

    #[test]
    fn the_defaults_are_valid_and_survive_serde() {
        let config = config();
        config.validate().unwrap();
        let mut read: IggyConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        read.endpoint.credentials = Credentials::password("iggy", "secret");
        read.validate().unwrap();
        assert_eq!(read.topology, config.topology);
        assert_eq!(read.producer, config.producer);
    }

    #[test]
    fn a_config_needs_no_more_than_the_endpoint_and_the_names() {
        let text = r#"{"endpoint": {"addresses": ["localhost:8090"],
            "credentials": {"password": {"username": "iggy", "password": "secret"}}},
            "stream": "vibes", "topic": "events"}"#;
        let config: IggyConfig = serde_json::from_str(text).unwrap();
        config.validate().unwrap();
        assert_eq!(config.topology, Topology::default());
        assert!(serde_json::from_str::<IggyConfig>(&text.replace("topic", "topik")).is_err());
    }

    #[test]
    fn a_setting_that_cannot_be_meant_is_named() {
        let refused = |change: fn(&mut IggyConfig)| {
            let mut config = config();
            change(&mut config);
            match config.validate() {
                Err(Error::InvalidArgument { name, .. }) => name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(|config| config.stream.clear()), "stream");
        assert_eq!(refused(|config| config.topic = "t".repeat(256)), "topic");
        assert_eq!(refused(|config| config.request_timeout = Duration::ZERO), "request_timeout");
        assert_eq!(refused(|config| config.connections = 0), "connections");
        assert_eq!(refused(|config| config.poll_interval = Duration::MAX), "poll_interval");
        assert_eq!(refused(|config| config.topology.partitions = 0), "partitions");
        for age in
            [Duration::ZERO, Duration::from_nanos(1_500), Duration::from_micros(u64::MAX), Duration::MAX]
        {
            let mut config = config();
            config.topology.retention.max_age = Some(age);
            assert!(matches!(
                config.validate(),
                Err(Error::InvalidArgument { name: "retention.max_age", .. })
            ));
        }
        assert_eq!(
            refused(|config| config.topology.retention.max_bytes = Some(u64::MAX)),
            "retention.max_bytes"
        );
        assert_eq!(refused(|config| config.producer.buffer_events = 0), "buffer_events");
    }
}
