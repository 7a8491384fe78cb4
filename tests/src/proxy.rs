//! A TCP proxy between Iggy clients and a real `iggy-server` that makes faults: on the requests that a test means,
//! before or after the server has seen them, and on the bytes.
//!
//! It reads whole frames in both directions, so it knows an append from a poll and a reply from half of one. It
//! takes clients to be as the SDK is: one request under way on a connection.
//!
//! Three things can be relied on:
//!
//! - A fault that was switched on before a request is sent hits that request. The plan is asked when the request has
//!   come in whole, under the lock under which switches are moved.
//! - After [`disconnect`](Proxy::disconnect) nothing is forwarded any more. Bytes are handed to the system under that
//!   same lock, and only for a connection that is not cut; nobody can be on their way with more.
//! - Counts are never behind. What a client can have learned by a reply was counted when the request was handed
//!   over, in the same critical section.
//!
//! What the server has got in whole before a cut it may still be working on: [`settled`](Proxy::settled) waits for
//! that. Plain TCP only.

mod connection;
mod counts;
mod plan;
mod state;
pub mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use event_log_core::PartitionId;
use tokio::net::TcpListener;

pub use self::counts::Counts;
pub use self::plan::{Direction, NetworkFault};
use self::state::Shared;

/// How long accepting rests when the system has no file handle for us.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// A handle on the proxy. Clones are the same proxy, which ends with the last of them, and all connections with it.
#[derive(Clone, Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    _running: Arc<Running>,
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Proxy {
    /// Listens on a free port of this machine and dials the target for each client. Its tasks belong to the runtime
    /// that this is called in.
    ///
    /// A server that was told a port, and not to take a free one, tells its clients of it: a client of the SDK that is
    /// connected a second time, instead of being replaced, then goes there, past the proxy. `Counts::accepted` shows
    /// it.
    ///
    /// # Errors
    ///
    /// When there is no port to listen on. The target is not looked at: it need not be there yet.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(target));
        let accepting = Arc::clone(&shared);
        drop(tokio::spawn(async move {
            tokio::select! {
                () = accepting.stopped() => {}
                () = accept(&accepting, listener) => {}
            }
        }));
        let running = Arc::new(Running { shared: Arc::clone(&shared) });
        Ok(Self { shared, address, _running: running })
    }

    /// Where clients connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections from now on go to this address: the server has come back on another port. Those that there are
    /// stay as they are.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.switch(|state| state.target = target);
    }

    /// Cuts every connection, and closes new ones at once, until [`reconnect`](Self::reconnect). When the call has
    /// returned nothing is forwarded any more, to anybody; held requests stay where they are.
    pub fn disconnect(&self) {
        self.shared.switch(|state| {
            state.plan.down = true;
            state.cut_all();
        });
    }

    /// Lets connections through again.
    pub fn reconnect(&self) {
        self.shared.switch(|state| state.plan.down = false);
    }

    /// Cuts every connection once; they can be made again at once.
    pub fn interrupt(&self) {
        self.shared.switch(state::State::cut_all);
    }

    /// Waits until the server has answered whatever it had got in whole from connections that are cut, or has hung
    /// up on them. From then on nothing is appended or stored for them. Held requests do not count. It is cancel safe.
    pub async fn settled(&self) {
        self.shared.settled().await;
    }

    /// The next `count` appends reach the server, but when it has confirmed one, its client's connection is cut in
    /// place of the reply. An append that the server refuses does not count: the refusal is delivered.
    pub fn lose_replies(&self, count: usize) {
        self.shared.switch(|state| state.plan.lose_replies = count);
    }

    /// The next `count` appends get lost with their connections.
    pub fn lose_requests(&self, count: usize) {
        self.shared.switch(|state| state.plan.lose_requests = count);
    }

    /// The next `count` appends lose their client's connection and stay here, each with the connection to the
    /// server that it belongs to, until [`deliver_held`](Self::deliver_held).
    ///
    /// The server drops a member of a group from which it has not heard for some time, and with it what is held for
    /// it. Connections that belong to no group it leaves alone.
    pub fn hold_requests(&self, count: usize) {
        self.shared.switch(|state| state.plan.hold_requests = count);
    }

    /// Lets the held requests arrive, one after the other, also while disconnected, and waits for the server's
    /// replies. Returns how many requests it has appended. It goes on when the future is dropped.
    pub async fn deliver_held(&self) -> usize {
        let shared = Arc::clone(&self.shared);
        let delivery = tokio::spawn(async move {
            let mut appended = 0;
            while let Some(held) = shared.take_held() {
                appended += usize::from(connection::deliver(&shared, held).await);
            }
            appended
        });
        delivery.await.expect("delivering does not panic")
    }

    /// Every append takes this long before it is forwarded; zero ends it, also for those that are waiting.
    pub fn slow_appends(&self, each: Duration) {
        self.shared.switch(|state| state.plan.slow_appends = each);
    }

    /// The next `count` polls of anybody are answered in the way in which the server answers when it cannot read:
    /// as if there were nothing.
    pub fn empty_fetches(&self, count: usize) {
        self.shared.switch(|state| state.plan.empty_fetches = count);
    }

    /// The next `count` polls of this partition are refused with [`wire::CANNOT_READ_MESSAGE`].
    pub fn fail_fetches(&self, partition: PartitionId, count: usize) {
        self.shared.switch(|state| _ = state.plan.fail_fetches.insert(partition, count));
    }

    /// The next `count` offset stores for this partition are refused with [`wire::CANNOT_OPEN_OFFSETS`].
    pub fn fail_commits(&self, partition: PartitionId, count: usize) {
        self.shared.switch(|state| _ = state.plan.fail_commits.insert(partition, count));
    }

    /// Makes a fault of the network.
    pub fn apply(&self, fault: NetworkFault) {
        self.shared.switch(|state| {
            state.plan.apply(fault);
            if fault == NetworkFault::Interrupt {
                state.cut_all();
            }
        });
    }

    /// Switches every fault off, those of the network too. Requests that are held stay held.
    pub fn clear(&self) {
        self.shared.switch(|state| state.plan = plan::Plan::default());
    }

    /// Ends all faults of the network. The other ones stay as they are.
    pub fn heal(&self) {
        self.apply(NetworkFault::Heal);
    }

    /// What the proxy has seen and done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// How many requests with this code (see [`iggy_binary_protocol::codes`]) the server has got.
    #[must_use]
    pub fn requests(&self, code: u32) -> u64 {
        self.counts().forwarded(code)
    }

    /// Waits until the counts are so: how a test waits for a fault to have happened. It is cancel safe. What is given
    /// is asked under the proxy's lock, and must not turn to the proxy itself.
    pub async fn until(&self, mut reached: impl FnMut(&Counts) -> bool) {
        self.shared.until(|state| reached(&state.counts)).await;
    }
}

async fn accept(shared: &Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                // Dropping it is what refuses it.
                if let Some((id, cut)) = shared.open() {
                    drop(tokio::spawn(connection::run(Arc::clone(shared), id, client, cut)));
                }
            }
            // There is nothing to wait for that would tell us when there are handles again.
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}
