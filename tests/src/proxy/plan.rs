//! Which faults are switched on, and what they do to a request.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use event_log_core::PartitionId;
use tokio::time::Instant;

use super::counts::Counts;
use super::wire::{CANNOT_OPEN_OFFSETS, CANNOT_READ_MESSAGE, Request, RequestKind};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From clients to the server.
    ToServer,
    /// From the server to clients.
    ToClient,
}

/// A fault of the network, which knows nothing of what it carries. Those that last, last until
/// [`Heal`](NetworkFault::Heal), on every connection there is and will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkFault {
    /// Each frame takes this long, each way; zero ends it.
    Delay(Duration),
    /// Each connection carries so many bytes a second, each way; zero ends it.
    Throttle(u64),
    /// Frames that go this way are read and dropped, from the next one on; connections stay up. Both ways can be
    /// switched on.
    BlackHole(Direction),
    /// Nothing is read from anybody any more: writes still succeed until the buffers are full, and nobody is
    /// told anything. What was written in the meantime arrives after the healing.
    HalfOpen,
    /// Once so many more bytes have gone this way, all connections taken together, the connection with the last
    /// of them is cut, in the middle of a frame if it comes to that. Happens once.
    CutAfterBytes(Direction, u64),
    /// Every connection is cut once; they can be made again at once.
    Interrupt,
    /// Ends all of the above.
    Heal,
}

/// What becomes of a request that has come in whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server gets it, and the client the reply, unless that is to be lost.
    Forward { lose_reply: bool },
    /// It ends here, with its connection.
    Lose,
    /// It stays here, while its client is cut off.
    Hold,
    /// The client gets this reply, and the server nothing.
    Answer(Bytes),
    /// It ends here, and nobody is told.
    Swallow,
}

/// Why a frame does not go on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The network is slow, and the frame came at this time.
    Delay(Instant),
    /// Appends are slow, and this one came at this time.
    Slow(Instant),
    /// Nothing is read for now.
    Reading,
    /// So many bytes, of which the sending began then, do not go faster. `first` are the first of their frame.
    Pace { since: Instant, bytes: usize, first: bool },
}

/// How long a pause is, by the plan of this moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Over,
    Until(Instant),
    /// Until somebody moves a switch.
    Open,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) down: bool,
    pub(super) lose_replies: usize,
    pub(super) lose_requests: usize,
    pub(super) hold_requests: usize,
    pub(super) slow_appends: Duration,
    pub(super) empty_fetches: usize,
    pub(super) fail_fetches: BTreeMap<PartitionId, usize>,
    pub(super) fail_commits: BTreeMap<PartitionId, usize>,
    network: Network,
}

#[derive(Debug, Default)]
struct Network {
    delay: Duration,
    bytes_per_second: u64,
    swallow_to_server: bool,
    swallow_to_client: bool,
    half_open: bool,
    cut_after: Option<(Direction, u64)>,
}

/// How many pieces of a throttled frame go out in a second: few enough to be cheap, enough to be smooth.
const PIECES_PER_SECOND: u64 = 50;

impl Plan {
    /// Decides about a request, and counts the fault that it meets. The order of the faults is the in-memory
    /// backend's.
    pub(super) fn decide(&mut self, request: &Request, counts: &mut Counts) -> Verdict {
        if self.swallows(Direction::ToServer) {
            counts.frames_swallowed += 1;
            return Verdict::Swallow;
        }
        match request.kind() {
            RequestKind::Append => self.decide_append(counts),
            RequestKind::Poll(partition) if draw_of(&mut self.fail_fetches, partition) => {
                counts.fetches_failed += 1;
                Verdict::Answer(request.refusal(CANNOT_READ_MESSAGE))
            }
            RequestKind::Poll(partition) if draw(&mut self.empty_fetches) => {
                counts.fetches_emptied += 1;
                Verdict::Answer(request.empty_poll(partition))
            }
            RequestKind::Commit(partition) if draw_of(&mut self.fail_commits, partition) => {
                counts.commits_failed += 1;
                Verdict::Answer(request.refusal(CANNOT_OPEN_OFFSETS))
            }
            RequestKind::Poll(_) | RequestKind::Commit(_) | RequestKind::Other => {
                Verdict::Forward { lose_reply: false }
            }
        }
    }

    fn decide_append(&mut self, counts: &mut Counts) -> Verdict {
        if draw(&mut self.lose_requests) {
            counts.requests_lost += 1;
            Verdict::Lose
        } else if draw(&mut self.lose_replies) {
            // Counted when there is a reply to lose.
            Verdict::Forward { lose_reply: true }
        } else if draw(&mut self.hold_requests) {
            counts.requests_held += 1;
            Verdict::Hold
        } else {
            Verdict::Forward { lose_reply: false }
        }
    }

    /// Switches a fault of the network on. Cutting connections is not the plan's to do.
    pub(super) fn apply(&mut self, fault: NetworkFault) {
        match fault {
            NetworkFault::Delay(delay) => self.network.delay = delay,
            NetworkFault::Throttle(rate) => self.network.bytes_per_second = rate,
            NetworkFault::BlackHole(Direction::ToServer) => self.network.swallow_to_server = true,
            NetworkFault::BlackHole(Direction::ToClient) => self.network.swallow_to_client = true,
            NetworkFault::HalfOpen => self.network.half_open = true,
            NetworkFault::CutAfterBytes(direction, bytes) => {
                self.network.cut_after = Some((direction, bytes));
            }
            NetworkFault::Interrupt => {}
            NetworkFault::Heal => self.network = Network::default(),
        }
    }

    pub(super) const fn swallows(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToServer => self.network.swallow_to_server,
            Direction::ToClient => self.network.swallow_to_client,
        }
    }

    pub(super) const fn reads(&self) -> bool {
        !self.network.half_open
    }

    pub(super) const fn throttles(&self) -> bool {
        self.network.bytes_per_second > 0
    }

    /// How many of `bytes` may go out at once.
    pub(super) fn piece(&self, direction: Direction, bytes: usize, most: usize) -> usize {
        let mut piece = bytes.min(most);
        if self.throttles() {
            let fair = (self.network.bytes_per_second / PIECES_PER_SECOND).max(1);
            piece = piece.min(usize::try_from(fair).unwrap_or(usize::MAX));
        }
        if let Some((way, left)) = self.network.cut_after
            && way == direction
        {
            piece = piece.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        piece
    }

    /// Notes what went out, and says whether the connection ends here.
    pub(super) fn ends_after(&mut self, direction: Direction, sent: usize) -> bool {
        match &mut self.network.cut_after {
            Some((way, left)) if *way == direction => {
                *left = left.saturating_sub(sent as u64);
                let ends = *left == 0;
                if ends {
                    self.network.cut_after = None;
                }
                ends
            }
            _ => false,
        }
    }

    pub(super) fn wait(&self, pause: Pause) -> Wait {
        match pause {
            Pause::Delay(_) if self.network.delay.is_zero() => Wait::Over,
            Pause::Delay(since) => until(since, self.network.delay),
            Pause::Slow(_) if self.slow_appends.is_zero() => Wait::Over,
            Pause::Slow(since) => until(since, self.slow_appends),
            Pause::Reading if self.network.half_open => Wait::Open,
            Pause::Pace { since, bytes, .. } if self.throttles() => {
                let seconds = bytes as f64 / self.network.bytes_per_second as f64;
                until(since, Duration::from_secs_f64(seconds))
            }
            Pause::Reading | Pause::Pace { .. } => Wait::Over,
        }
    }
}

fn until(since: Instant, length: Duration) -> Wait {
    since.checked_add(length).map_or(Wait::Open, Wait::Until)
}

fn draw(left: &mut usize) -> bool {
    let due = *left > 0;
    *left = left.saturating_sub(1);
    due
}

fn draw_of(left: &mut BTreeMap<PartitionId, usize>, partition: Option<PartitionId>) -> bool {
    partition.and_then(|partition| left.get_mut(&partition)).is_some_and(draw)
}
