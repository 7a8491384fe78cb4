//! What all connections share, under one lock.
//!
//! Whatever decides, counts or hands bytes to the system does so in one critical section. So what is true after a
//! switch has returned needs no further argument: whoever comes later finds it, and whoever came before has
//! finished. The price is that connections take turns in handing bytes over, [`PIECE`] by [`PIECE`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use iggy_binary_protocol::codes;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::counts::{Counts, count};
use super::plan::{Direction, Pause, Plan, Verdict, Wait};
use super::wire::{Reply, Request, RequestKey};

/// How much is handed to the system at once, so that a large frame does not keep the lock.
const PIECE: usize = 256 * 1024;

pub(super) type ConnectionId = u64;

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Somebody has moved a switch.
    switched: watch::Sender<()>,
    /// Something was counted, or a request was answered.
    progress: Notify,
    stopped: watch::Sender<bool>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) plan: Plan,
    pub(super) counts: Counts,
    pub(super) target: SocketAddr,
    connections: BTreeMap<ConnectionId, Connection>,
    next: ConnectionId,
    held: VecDeque<Held>,
}

#[derive(Debug)]
struct Connection {
    /// Whether the client is still there. When it is not, no byte goes either way any more, but for a held request.
    /// The server's side is kept as long as it owes a reply to something that leaves traces, so that
    /// [`Shared::settled`] can say when the log is at rest.
    open: bool,
    cut: watch::Sender<bool>,
    /// What the server has got in whole and not answered.
    under_way: VecDeque<UnderWay>,
    /// How many of the held requests are this connection's.
    held: usize,
    /// How many round trips in a row its last request ends.
    chain: u64,
}

#[derive(Debug)]
struct UnderWay {
    key: RequestKey,
    lose_reply: bool,
    /// Who delivered a held request and waits for what comes of it.
    deliverer: Option<oneshot::Sender<Reply>>,
}

/// A request that was kept, and where it goes: the server has tied the client's session to the connection.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: ConnectionId,
    pub(super) request: Request,
    pub(super) server: Arc<TcpStream>,
}

/// What is being sent, and so what has happened once it is out.
#[derive(Debug)]
pub(super) enum Parcel {
    Request {
        code: u32,
        key: RequestKey,
        append: bool,
        lose_reply: bool,
    },
    Held {
        key: RequestKey,
        deliverer: oneshot::Sender<Reply>,
    },
    Reply,
    /// What is not counted: a reply of our own, or a frame that is neither request nor reply.
    Other(Direction),
}

impl Parcel {
    pub(super) const fn direction(&self) -> Direction {
        match self {
            Self::Request { .. } | Self::Held { .. } => Direction::ToServer,
            Self::Reply => Direction::ToClient,
            Self::Other(direction) => *direction,
        }
    }
}

/// How far an attempt to hand bytes over has got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Push {
    Whole,
    Part(usize),
    /// The system takes no more for now.
    Full,
    /// The connection has ended.
    Ended,
}

/// What becomes of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Deliver,
    Drop,
    /// It is dropped, and the client has been cut off.
    Cut,
}

impl State {
    /// Cuts a client off. Whoever forwards for it finds out at the latest when it next wants to.
    fn cut(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.open
        {
            connection.open = false;
            connection.cut.send_replace(true);
            self.counts.cut += 1;
        }
    }

    pub(super) fn cut_all(&mut self) {
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            self.cut(id);
        }
    }

    /// Notes that a request has come in.
    pub(super) fn received(&mut self, id: ConnectionId, code: u32) {
        count(&mut self.counts.received, code);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.chain = self.counts.round_trips_in_a_row + 1;
        }
    }

    /// Notes that a parcel is out.
    fn sent(&mut self, id: ConnectionId, parcel: Parcel) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match parcel {
            Parcel::Request { code, key, append, lose_reply } => {
                connection.under_way.push_back(UnderWay { key, lose_reply, deliverer: None });
                count(&mut self.counts.forwarded, code);
                self.counts.appends_forwarded += u64::from(append);
            }
            Parcel::Held { key, deliverer } => {
                connection.held -= 1;
                let deliverer = Some(deliverer);
                connection.under_way.push_back(UnderWay { key, lose_reply: false, deliverer });
                count(&mut self.counts.forwarded, codes::SEND_MESSAGES_CODE);
                self.counts.appends_forwarded += 1;
            }
            Parcel::Reply => {
                self.counts.replies_delivered += 1;
                let longest = self.counts.round_trips_in_a_row.max(connection.chain);
                self.counts.round_trips_in_a_row = longest;
            }
            Parcel::Other(_) => {}
        }
    }

    /// Hands over what the system takes, or less.
    fn push(
        &mut self,
        id: ConnectionId,
        socket: &TcpStream,
        bytes: &[u8],
        parcel: &mut Option<Parcel>,
    ) -> io::Result<Push> {
        let Some(direction) = parcel.as_ref().map(Parcel::direction) else { return Ok(Push::Whole) };
        // It is late anyway: neither the client nor its network has any say in it.
        let late = matches!(parcel, Some(Parcel::Held { .. }));
        let Some(connection) = self.connections.get(&id) else { return Ok(Push::Ended) };
        if !connection.open && !late {
            return Ok(Push::Ended);
        }
        let most = if late { PIECE } else { self.plan.piece(direction, bytes.len(), PIECE) };
        let piece = most.min(bytes.len());
        let sent = match socket.try_write(&bytes[..piece]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Push::Full),
            Err(error) => return Err(error),
        };
        let whole = sent == bytes.len();
        if whole && let Some(parcel) = parcel.take() {
            self.sent(id, parcel);
        }
        if !late && self.plan.ends_after(direction, sent) {
            self.counts.cut_after_bytes += 1;
            self.cut(id);
        }
        Ok(if whole { Push::Whole } else { Push::Part(sent) })
    }

    /// Finds what a reply answers. What was asked before it on the same connection gets no answer any more: the
    /// server leaves a sign-in that may yet succeed unanswered.
    fn answered(&mut self, id: ConnectionId, reply: &Reply) -> Option<UnderWay> {
        let under_way = &mut self.connections.get_mut(&id)?.under_way;
        if under_way.is_empty() {
            return None;
        }
        let place = under_way.iter().position(|request| request.key == reply.key).unwrap_or(0);
        under_way.drain(..=place).next_back()
    }
}

impl Connection {
    fn is_owed(&self) -> bool {
        self.under_way.iter().any(|request| request.key.leaves_traces())
    }
}

impl Shared {
    pub(super) fn new(target: SocketAddr) -> Self {
        let state = State {
            plan: Plan::default(),
            counts: Counts::default(),
            target,
            connections: BTreeMap::new(),
            next: 0,
            held: VecDeque::new(),
        };
        Self {
            state: Mutex::new(state),
            switched: watch::Sender::new(()),
            progress: Notify::new(),
            stopped: watch::Sender::new(false),
        }
    }

    /// Moves a switch.
    pub(super) fn switch(&self, change: impl FnOnce(&mut State)) {
        self.with(change);
        self.switched.send_replace(());
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let result = look(&mut self.state.lock());
        self.progress.notify_waiters();
        result
    }

    pub(super) fn counts(&self) -> Counts {
        self.state.lock().counts.clone()
    }

    pub(super) fn target(&self) -> SocketAddr {
        self.state.lock().target
    }

    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
        let mut state = self.state.lock();
        state.held.clear();
        state.cut_all();
    }

    pub(super) async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // The sender is ours, so it is there.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Lets a client in, unless the proxy is disconnected. The receiver learns of the cut.
    pub(super) fn open(&self) -> Option<(ConnectionId, watch::Receiver<bool>)> {
        self.with(|state| {
            if state.plan.down || *self.stopped.borrow() {
                state.counts.refused += 1;
                return None;
            }
            state.counts.accepted += 1;
            state.next += 1;
            let (cut, was_cut) = watch::channel(false);
            let connection = Connection { open: true, cut, under_way: VecDeque::new(), held: 0, chain: 0 };
            state.connections.insert(state.next, connection);
            Some((state.next, was_cut))
        })
    }

    /// The client has hung up.
    pub(super) fn client_gone(&self, id: ConnectionId) {
        self.with(|state| {
            if let Some(connection) = state.connections.get_mut(&id) {
                connection.open = false;
                connection.cut.send_replace(true);
            }
        });
    }

    /// The connection is over on both sides. Whatever it still held is lost.
    pub(super) fn end(&self, id: ConnectionId) {
        self.with(|state| {
            if let Some(connection) = state.connections.remove(&id) {
                connection.cut.send_replace(true);
            }
            state.held.retain(|held| held.id != id);
        });
    }

    /// Decides about a request that has come in whole.
    pub(super) fn decide(&self, id: ConnectionId, request: &Request, server: &Arc<TcpStream>) -> Verdict {
        self.with(|state| {
            let Some(connection) = state.connections.get_mut(&id).filter(|connection| connection.open) else {
                // The task is about to be told. A fault is not wasted on what goes nowhere.
                return Verdict::Swallow;
            };
            let verdict = state.plan.decide(request, &mut state.counts);
            match verdict {
                Verdict::Hold => {
                    connection.held += 1;
                    let server = Arc::clone(server);
                    state.held.push_back(Held { id, request: request.clone(), server });
                    state.cut(id);
                }
                Verdict::Lose => state.cut(id),
                _ => {}
            }
            verdict
        })
    }

    /// Whether a frame that is no request, or no reply, disappears.
    pub(super) fn swallows(&self, direction: Direction) -> bool {
        self.with(|state| {
            let swallows = state.plan.swallows(direction);
            state.counts.frames_swallowed += u64::from(swallows);
            swallows
        })
    }

    /// Decides about what the server has sent.
    pub(super) fn replied(&self, id: ConnectionId, frame: &Bytes) -> Fate {
        self.with(|state| {
            let reply = Reply::from_frame(frame);
            let request = reply.as_ref().and_then(|reply| state.answered(id, reply));
            let refused = reply.is_some_and(|reply| reply.status != 0);
            if request.as_ref().is_some_and(|request| request.lose_reply) {
                if refused {
                    // Nothing was appended, so this is not what was asked for. The client is going to try again.
                    state.plan.lose_replies += 1;
                } else {
                    state.counts.replies_lost += 1;
                    state.cut(id);
                    return Fate::Cut;
                }
            }
            if let Some(deliverer) = request.and_then(|request| request.deliverer) {
                state.counts.held_appended += u64::from(!refused);
                // Nobody need be waiting for it.
                let _ = reply.map(|reply| deliverer.send(reply));
                return Fate::Drop;
            }
            if !state.connections.get(&id).is_some_and(|connection| connection.open) {
                return Fate::Drop;
            }
            if state.plan.swallows(Direction::ToClient) {
                state.counts.frames_swallowed += 1;
                return Fate::Drop;
            }
            Fate::Deliver
        })
    }

    /// Hands over what the system takes of a parcel, unless the connection has ended.
    pub(super) fn push(
        &self,
        id: ConnectionId,
        socket: &TcpStream,
        bytes: &[u8],
        parcel: &mut Option<Parcel>,
    ) -> io::Result<Push> {
        let mut state = self.state.lock();
        let pushed = state.push(id, socket, bytes, parcel);
        drop(state);
        self.progress.notify_waiters();
        pushed
    }

    /// Whether the server still owes something to a client that is gone.
    pub(super) fn is_owed(&self, id: ConnectionId) -> bool {
        let state = self.state.lock();
        state.connections.get(&id).is_some_and(|connection| connection.held > 0 || connection.is_owed())
    }

    pub(super) fn take_held(&self) -> Option<Held> {
        self.state.lock().held.pop_front()
    }

    /// How many of `bytes` may go at once.
    pub(super) fn piece(&self, direction: Direction, bytes: usize) -> usize {
        self.state.lock().plan.piece(direction, bytes, PIECE)
    }

    pub(super) fn reads(&self) -> bool {
        self.state.lock().plan.reads()
    }

    /// Waits as long as the plan says, whatever becomes of the plan in the meantime.
    pub(super) async fn pause(&self, pause: Pause) {
        let mut switched = self.switched.subscribe();
        let mut counted = false;
        loop {
            let wait = {
                let mut state = self.state.lock();
                let mut wait = state.plan.wait(pause);
                if matches!(wait, Wait::Until(at) if at <= Instant::now()) {
                    wait = Wait::Over;
                }
                if wait != Wait::Over && !std::mem::replace(&mut counted, true) {
                    let counts = &mut state.counts;
                    match pause {
                        Pause::Delay(_) => counts.frames_delayed += 1,
                        Pause::Slow(_) => counts.appends_slowed += 1,
                        Pause::Reading => counts.reads_stopped += 1,
                        Pause::Pace { first, .. } => counts.frames_throttled += u64::from(first),
                    }
                    self.progress.notify_waiters();
                }
                wait
            };
            // The sender is ours, so it is there.
            match wait {
                Wait::Over => return,
                Wait::Open => drop(switched.changed().await),
                Wait::Until(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    _ = switched.changed() => {}
                },
            }
        }
    }

    /// Waits until something is so. It is looked at again whenever anything happens.
    pub(super) async fn until(&self, mut reached: impl FnMut(&State) -> bool) {
        loop {
            let mut progress = std::pin::pin!(self.progress.notified());
            progress.as_mut().enable();
            if reached(&self.state.lock()) {
                return;
            }
            progress.await;
        }
    }

    /// Waits until the server owes nothing to clients that are gone.
    pub(super) async fn settled(&self) {
        self.until(|state| {
            state.connections.values().all(|connection| connection.open || !connection.is_owed())
        })
        .await;
    }
}
