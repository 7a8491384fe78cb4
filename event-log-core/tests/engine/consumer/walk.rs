//! Attack: random walks of several members of a group over a log that reads ahead, against a model of the contract alone.

mod calls;
mod judge;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::reading_ahead::{MS, Reach, Server};
use event_log_core::engine::TransportLog;
use event_log_core::{Cursor, EventConsumer, Offset, PartitionId, RawEvent};
use tokio::time::Instant;

const PARTITIONS: usize = 3;

/// What is open of an epoch of a member in a partition.
#[derive(Default)]
struct Epoch {
    last: Option<Offset>,
    seen: BTreeSet<u64>,
    missing: Vec<(Offset, Offset)>,
}

struct Member {
    name: usize,
    consumer: Box<dyn EventConsumer<RawEvent>>,
    epochs: BTreeMap<PartitionId, Epoch>,
    cursors: VecDeque<Cursor>,
    has: BTreeSet<PartitionId>,
    /// Since when it has been polled without a break and the server is calm.
    sought: BTreeSet<PartitionId>,
    last_poll: Instant,
}

struct Walk {
    seed: u64,
    random: u64,
    server: Arc<Server>,
    log: TransportLog<RawEvent, Reach>,
    members: Vec<Member>,
    names: usize,
    number: u64,
    delivered: BTreeSet<u64>,
    /// Below these places records may be undelivered.
    skipped: BTreeMap<PartitionId, Offset>,
    went_back: BTreeSet<PartitionId>,
    /// Every record that ever was: partition and incarnation, offset, number.
    truncated: BTreeSet<PartitionId>,
    history: VecDeque<String>,
    calm: bool,
    copies: bool,
    truncates: bool,
    changed_at: Instant,
}

fn number_of(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let server = Server::new(PARTITIONS);
        let calm = seed % 3 == 0;
        server.change(|state| {
            state.random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
            if calm {
                state.parts.iter_mut().for_each(|part| part.fetch_takes = 7 * MS);
                state.ask_takes = 3 * MS;
                state.wait_takes = 3 * MS;
            }
        });
        let log = server.open().await;
        server.change(|state| (state.chaos, state.late_replies) = (!calm, seed % 2 == 0));
        Self {
            seed,
            random: seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            server,
            log,
            members: Vec::new(),
            names: 0,
            number: 0,
            delivered: BTreeSet::new(),
            skipped: BTreeMap::new(),
            went_back: BTreeSet::new(),
            truncated: BTreeSet::new(),
            history: VecDeque::new(),
            calm,
            copies: seed % 2 == 0,
            truncates: seed % 5 == 1,
            changed_at: Instant::now(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn note(&mut self, text: String) {
        if std::env::var("LOUD").is_ok() {
            eprintln!("{text}");
        }
        self.history.push_back(text);
        if self.history.len() > 120 {
            self.history.pop_front();
        }
    }

    fn fail(&self, what: &str) -> ! {
        let history: Vec<_> = self.history.iter().cloned().collect();
        panic!("seed {}: {what}\n{}\nseed {}: {what}", self.seed, history.join("\n"), self.seed);
    }
}

#[tokio::test(start_paused = true)]
async fn random_members_of_a_log_that_reads_ahead() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let first = number("FIRST", 0);
    for seed in first..first + number("SEEDS", 3) {
        let mut walk = Walk::new(seed).await;
        for _ in 0..number("STEPS", 300) {
            walk.step().await;
        }
        walk.end().await;
    }
}
