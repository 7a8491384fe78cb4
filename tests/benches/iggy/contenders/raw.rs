//! The SDK's plain client: messages that are built and encoded beforehand, grouped by hand, over connections with
//! `nodelay`. What nothing that goes through this SDK can be much faster than.

use std::sync::Arc;

use async_trait::async_trait;
use iggy::prelude::IggyMessage;

use super::{IN_FLIGHT, Producer};
use crate::Failure;
use crate::bench::Bench;
use crate::event::{Events, PARTITIONS, enough_for};
use crate::numbers::Numbers;
use crate::stopwatch::{Deadline, Stopwatch};
use crate::topic::{Raw, Topic};

/// How this contender is called, whom the goals are measured against.
pub(crate) const RAW: &str = "raw";
/// One message for each request.
pub(crate) const ONE_BY_ONE: &str = "one by one";

/// What one request carries.
pub(crate) struct Request {
    pub(crate) partition: u32,
    pub(crate) numbers: Vec<u64>,
    pub(crate) messages: Vec<IggyMessage>,
}

impl Request {
    fn new(events: &Events, partition: u32, numbers: Vec<u64>) -> Result<Self, Failure> {
        Ok(Self { partition, messages: events.messages(numbers.iter().copied())?, numbers })
    }
}

/// So many events from the front, `at_once` of them grouped into one request for each partition.
pub(crate) fn grouped(events: &Events, count: u64, at_once: u64) -> Result<Vec<Request>, Failure> {
    let mut requests = Vec::new();
    for start in (0..count).step_by(at_once as usize) {
        for partition in 0..PARTITIONS {
            let numbers = (start..start + at_once).filter(|&number| events.partition(number) == partition);
            let numbers: Vec<_> = numbers.collect();
            if !numbers.is_empty() {
                requests.push(Request::new(events, partition, numbers)?);
            }
        }
    }
    Ok(requests)
}

/// The same without regard for keys: one request with everything, to the partitions in turn.
fn ungrouped(events: &Events, count: u64, at_once: u64) -> Result<Vec<Request>, Failure> {
    let request = |(start, partition)| Request::new(events, partition, (start..start + at_once).collect());
    (0..count).step_by(at_once as usize).zip((0..PARTITIONS).cycle()).map(request).collect()
}

/// Sends one request after the other until the time is over. Returns which were confirmed.
async fn send(
    raw: &Raw,
    topic: &Topic,
    mut requests: Vec<Request>,
    deadline: Deadline,
) -> Result<Sent, Failure> {
    let mut confirmed = 0;
    for request in &mut requests {
        if deadline.is_over() {
            break;
        }
        raw.send(topic, request.partition, &mut request.messages).await?;
        confirmed += 1;
    }
    Ok(Sent { requests, confirmed })
}

/// Requests, of which some from the front were confirmed. Dropping and counting them is not for the watch.
struct Sent {
    requests: Vec<Request>,
    confirmed: usize,
}

impl Sent {
    fn numbers(&self) -> impl Iterator<Item = u64> {
        self.requests[..self.confirmed].iter().flat_map(|request| &request.numbers).copied()
    }
}

/// What a raw client sends with a request.
pub(crate) enum Grouping {
    /// So many events, by partition.
    ByPartition(u64),
    /// So many events to one partition: keys are not kept together.
    None(u64),
    /// One event.
    OneByOne,
}

pub(crate) struct RawClient {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) grouping: Grouping,
    /// Each sends to its own partitions, without waiting for the others.
    pub(crate) connections: u32,
}

impl RawClient {
    /// 1,024 events at a time, in requests of 128: what so many appends can be.
    pub(crate) const APPENDS: Self = Self {
        name: RAW,
        what: "1,024 events grouped by hand into 8 requests of 128, encoded beforehand",
        grouping: Grouping::ByPartition(IN_FLIGHT),
        connections: 1,
    };

    pub(crate) const TWO_CONNECTIONS: Self = Self {
        name: "raw, 2 connections",
        what: "the same over two connections, each with half of the partitions",
        connections: 2,
        ..Self::APPENDS
    };

    pub(crate) const FOUR_CONNECTIONS: Self = Self {
        name: "raw, 4 connections",
        what: "the same over four connections, each with a quarter of the partitions",
        connections: 4,
        ..Self::APPENDS
    };

    /// A thousand events, in requests of 125.
    pub(crate) const BATCHES: Self = Self {
        name: RAW,
        what: "1,000 events grouped by hand into 8 requests of 125, encoded beforehand",
        grouping: Grouping::ByPartition(1_000),
        connections: 1,
    };

    pub(crate) const UNGROUPED: Self = Self {
        name: "raw, 1,000 a request",
        what: "whole thousands to one partition after the other: keys are not kept together",
        grouping: Grouping::None(1_000),
        connections: 1,
    };

    pub(crate) const ONE_BY_ONE: Self = Self {
        name: ONE_BY_ONE,
        what: "one message a request, each awaited",
        grouping: Grouping::OneByOne,
        connections: 1,
    };

    fn requests(&self, events: &Events, watch: &Stopwatch) -> Result<Vec<Request>, Failure> {
        let per_second = match self.grouping {
            Grouping::ByPartition(_) | Grouping::None(_) => 1_000_000,
            Grouping::OneByOne => 20_000,
        };
        let count = enough_for(watch.window(), per_second);
        match self.grouping {
            Grouping::ByPartition(at_once) => grouped(events, count, at_once),
            Grouping::None(at_once) => ungrouped(events, count, at_once),
            Grouping::OneByOne => grouped(events, count, 1),
        }
    }
}

#[async_trait]
impl Producer for RawClient {
    fn name(&self) -> &'static str {
        self.name
    }

    fn what(&self) -> &'static str {
        self.what
    }

    fn keeps_keys(&self) -> bool {
        !matches!(self.grouping, Grouping::None(_))
    }

    async fn produce(&self, bench: &Bench, topic: &Topic, watch: &mut Stopwatch) -> Result<Numbers, Failure> {
        let mut shares: Vec<Vec<Request>> = (0..self.connections).map(|_| Vec::new()).collect();
        for request in self.requests(&bench.events, watch)? {
            shares[(request.partition % self.connections) as usize].push(request);
        }
        let mut connections = vec![Arc::clone(&bench.raw)];
        while connections.len() < shares.len() {
            connections.push(Arc::new(Raw::connect(&bench.server).await?));
        }
        let deadline = watch.start();
        let tasks = connections.into_iter().zip(shares).map(|(raw, requests)| {
            let topic = topic.clone();
            tokio::spawn(async move { send(&raw, &topic, requests, deadline).await })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut sent = Vec::new();
        for task in tasks {
            sent.push(task.await?);
        }
        watch.stop();
        let sent = sent.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(sent.iter().flat_map(Sent::numbers).collect())
    }
}
