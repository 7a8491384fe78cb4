//! What the attacks on the producing side share.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use event_log_core::{EventLog as _, Partitionable, ProducerConfig};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};
use serde::{Deserialize, Serialize};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Numbered(pub(crate) u64);

impl Partitionable for Numbered {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

pub(crate) async fn open(config: ProducerConfig) -> (MemoryLog<Numbered>, Faults, MemoryBroker) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config);
    let log = log.open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    (log, faults, broker)
}

pub(crate) async fn cut(log: &MemoryLog<Numbered>, faults: &Faults) {
    faults.disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
}

pub(crate) fn numbers(broker: &MemoryBroker) -> Vec<u64> {
    let number = |content: &event_log_memory::Content| serde_json::from_slice(&content.payload).unwrap();
    broker.contents("events").iter().map(number).collect()
}

pub(crate) fn config(change: impl FnOnce(&mut ProducerConfig)) -> ProducerConfig {
    let mut config = ProducerConfig::default();
    change(&mut config);
    config
}

/// Polls once, with a waker that does nothing.
pub(crate) fn begin<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

pub(crate) struct Unparks(std::thread::Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on a thread that knows of no runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
