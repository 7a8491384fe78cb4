//! Streams and topics: making them, and what they are like.

use std::time::Duration;

use event_log_core::{Offset, PartitionId};
use iggy::prelude::{
    Durability as SdkDurability, HeaderKey, IggyDuration, IggyError, IggyExpiry, MaxTopicSize, Partition,
    StreamClient as _, TopicClient as _, TopicCreateOptions, topic_option_keys,
};

use super::client::Client;
use super::failure::CallError;
use super::quirks;

/// How a topic is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    pub(crate) partitions: u32,
    /// How long messages are kept; `None` for ever.
    pub(crate) max_age: Option<Duration>,
    /// How many bytes are kept; `None` for all.
    pub(crate) max_bytes: Option<u64>,
    /// Whether a commit waits for stable storage.
    pub(crate) persisted: bool,
}

/// What a topic is like.
#[derive(Clone, Debug)]
pub(crate) struct TopicDetails {
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_bytes: Option<u64>,
    /// Whether a commit waits for stable storage, when the server says so.
    pub(crate) persisted: Option<bool>,
    /// Differs when the topic was deleted and created again.
    pub(crate) incarnation: u64,
    /// By partition.
    pub(crate) partitions: Vec<PartitionStats>,
}

impl TopicDetails {
    /// How much there is in a partition; nothing in one that the topic does not have.
    pub(crate) fn stats(&self, partition: PartitionId) -> PartitionStats {
        self.partitions.get(partition.0 as usize).copied().unwrap_or_default()
    }
}

/// How much there is in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionStats {
    /// One past the last message.
    pub(crate) high: Offset,
    /// How many messages are retained.
    pub(crate) messages: u64,
    /// How many bytes they have, headers included.
    pub(crate) bytes: u64,
}

impl Client {
    /// What the topic is like, `None` when there is none.
    pub(crate) async fn topic(&self) -> Result<Option<TopicDetails>, CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let details = match self.bounded(self.tcp.get_topic(stream, topic)).await {
            Ok(details) => details,
            // The stream is missing.
            Err(CallError::Code(..)) if self.stream_is_missing().await? => None,
            Err(error) => return Err(error),
        };
        let Some(details) = details else { return Ok(None) };
        let mut partitions = vec![PartitionStats::default(); details.partitions.len()];
        for partition in &details.partitions {
            if let Some(stats) = partitions.get_mut(partition.id as usize) {
                *stats = stats_of(partition);
            }
        }
        let option = |key: &str| {
            let (_, option) = details.options.iter().find(|(name, _)| is_named(name, key))?;
            Some(option.value.to_string_value())
        };
        let durability = option(topic_option_keys::DURABILITY);
        let threshold = option(topic_option_keys::MESSAGES_REQUIRED_TO_SAVE);
        let persisted = quirks::persisted_of(durability.as_deref(), threshold.as_deref());
        Ok(Some(TopicDetails {
            max_age: match details.message_expiry {
                IggyExpiry::ExpireDuration(age) => Some(age.get_duration()),
                IggyExpiry::NeverExpire | IggyExpiry::ServerDefault => None,
            },
            max_bytes: match details.max_topic_size {
                MaxTopicSize::Custom(size) => Some(size.as_bytes_u64()),
                MaxTopicSize::Unlimited | MaxTopicSize::ServerDefault => None,
            },
            persisted,
            incarnation: details.created_at.as_micros(),
            partitions,
        }))
    }

    async fn stream_is_missing(&self) -> Result<bool, CallError> {
        Ok(self.bounded(self.tcp.get_stream(&self.topic.stream)).await?.is_none())
    }

    /// Creates the stream and the topic, unless another process just has.
    pub(crate) async fn create_topic(&self, settings: &TopicSettings) -> Result<(), CallError> {
        if self.stream_is_missing().await? {
            let made = self.bounded(self.tcp.create_stream(&self.topic.stream_name)).await;
            unless_exists(made)?;
        }
        let options = create_options(settings);
        let made = self.tcp.create_topic(&self.topic.stream, &self.topic.topic_name, &options);
        unless_exists(self.bounded(made).await)
    }
}

fn create_options(settings: &TopicSettings) -> TopicCreateOptions {
    let durability = if settings.persisted { SdkDurability::Persisted } else { SdkDurability::Replicated };
    TopicCreateOptions {
        partitions_count: Some(settings.partitions),
        message_expiry: Some(
            settings
                .max_age
                .map_or(IggyExpiry::NeverExpire, |age| IggyExpiry::ExpireDuration(IggyDuration::new(age))),
        ),
        max_topic_size: Some(
            settings.max_bytes.map_or(MaxTopicSize::Unlimited, |bytes| MaxTopicSize::Custom(bytes.into())),
        ),
        durability,
        // A committed place that a crash takes back would deliver committed records again.
        consumer_offset_durability: durability,
        messages_required_to_save: quirks::messages_required_to_save(settings.persisted),
        ..TopicCreateOptions::default()
    }
}

fn unless_exists<T>(made: Result<T, CallError>) -> Result<(), CallError> {
    match made {
        Ok(_) => Ok(()),
        Err(CallError::Code(
            _,
            IggyError::StreamNameAlreadyExists(..) | IggyError::TopicNameAlreadyExists(..),
        )) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_named(key: &HeaderKey, name: &str) -> bool {
    key.as_str().is_ok_and(|key| key == name)
}

fn stats_of(partition: &Partition) -> PartitionStats {
    // The last offset is 0 in an empty partition and in one with one message.
    let is_new = partition.messages_count == 0 && partition.current_offset == 0;
    let high = if is_new { Offset::ZERO } else { Offset(partition.current_offset).next() };
    PartitionStats { high, messages: partition.messages_count, bytes: partition.size.as_bytes_u64() }
}
