//! What the caller does, in a manner of its own.

use std::time::Duration;

use event_log_core::{CommitErrorKind, Error, EventBatch, EventConsumerExt as _, RawEvent, SeekPosition};
use futures::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::nature::{Chance, Kind};
use super::{HOUR, Walk};
use crate::reading_ahead::{MS, SECOND};

#[derive(Clone, Copy, Debug)]
enum Manner {
    Polls,
    Streams,
    CatchesUp,
    /// It asks for the end before each poll.
    LooksForTheEnd,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    manner: Manner,
    most: usize,
    timeout: Duration,
    /// When it drops its calls.
    patience: Duration,
    /// What it does with a batch, and with none, before it comes back.
    work: Duration,
    pause: Duration,
    /// It commits each so many batches.
    commits: u64,
    /// What it commits was written down, and read again.
    writes: bool,
    /// It is away for long, now and then.
    rests: bool,
}

impl Caller {
    pub(crate) fn any(chance: &mut Chance) -> Self {
        Self {
            manner: match chance.below(12) {
                0 => Manner::Streams,
                1 => Manner::CatchesUp,
                2 => Manner::LooksForTheEnd,
                _ => Manner::Polls,
            },
            most: chance.of(&[1, 20, 100, 1_000]),
            timeout: chance.of(&[Duration::ZERO, 5 * MS, 100 * MS, SECOND, 10 * SECOND]),
            patience: chance.of(&[HOUR, HOUR, HOUR, 40 * MS, 700 * MS]),
            work: chance.of(&[Duration::ZERO, 2 * MS, 150 * MS]),
            pause: chance.of(&[MS, 5 * MS, 50 * MS]),
            commits: chance.of(&[1, 1, 7, u64::MAX]),
            writes: chance.once_in(8),
            rests: chance.once_in(8),
        }
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.timeout <= 100 * MS || self.patience <= 100 * MS
    }
}

impl Walk {
    /// One turn of the caller.
    pub(crate) async fn call(&mut self) {
        let Caller { most, timeout, patience, commits, rests, .. } = self.caller;
        let got = match self.caller.manner {
            Manner::Polls => self.poll(most, timeout, patience).await,
            Manner::Streams => self.stream(most, false).await,
            Manner::CatchesUp => self.stream(most, true).await,
            Manner::LooksForTheEnd => {
                self.look_for_the_end().await;
                self.poll(most, timeout, patience).await
            }
        };
        if got && commits < u64::MAX && self.chance.once_in(commits) {
            self.commit().await;
        }
        if self.nature.kind == Kind::Seeking && self.chance.once_in(60) {
            self.seek().await;
        }
        if rests && self.chance.once_in(60) {
            sleep(50 * SECOND).await;
            self.rested();
        }
        // Time goes on, whatever takes none.
        sleep(if got { self.caller.work.max(MS) } else { self.caller.pause }).await;
    }

    /// A poll, which is dropped when the caller's patience ends. Whether a record has come.
    pub(crate) async fn poll(&mut self, most: usize, time: Duration, patience: Duration) -> bool {
        let (start, before) = (Instant::now(), self.asked());
        let polled = timeout(patience, self.consumer.poll(most, time)).await;
        let took = start.elapsed();
        self.check_busy(before, took);
        if took > time + SECOND + 2 * MS {
            self.fail(&format!("c1: a poll of {time:?} took {took:?}"));
        }
        let got = match polled {
            Ok(Ok(batch)) => {
                if batch.is_empty() && batch.notices.is_empty() && took < time {
                    self.fail(&format!("c1: a poll of {time:?} is empty after {took:?}"));
                }
                self.took(&batch, most);
                !batch.is_empty()
            }
            Ok(Err(error)) => {
                if took < time {
                    self.fail(&format!("a poll of {time:?} failed after {took:?}: {error:?}"));
                }
                self.failed(&error);
                false
            }
            Err(_) => false,
        };
        self.check_waiting();
        got
    }

    fn failed(&mut self, error: &Error) {
        self.note(|| format!("    {error:?}"));
        if !error.is_retryable() {
            self.fail(&format!("{error:?}"));
        }
    }

    /// A few batches of a stream. Whether a record has come.
    async fn stream(&mut self, most: usize, catches_up: bool) -> bool {
        let (start, before) = (Instant::now(), self.asked());
        let highs: Vec<_> = self.server.change(|state| state.parts.iter().map(|part| part.high).collect());
        let (mut items, mut is_over) = (Vec::<Result<EventBatch<RawEvent>, Error>>::new(), false);
        {
            let mut stream =
                if catches_up { self.consumer.until_caught_up(most) } else { self.consumer.stream(most) };
            while items.len() < 20 {
                match timeout(20 * SECOND, stream.next()).await {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => {
                        is_over = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        let mut got = false;
        self.is_late = true;
        for item in items {
            match item {
                Ok(batch) => {
                    self.took(&batch, most);
                    got |= !batch.is_empty();
                }
                Err(error) => self.failed(&error),
            }
        }
        self.is_late = false;
        self.check_busy(before, start.elapsed());
        if is_over && !catches_up {
            self.fail("the stream has ended");
        }
        if is_over && matches!(self.nature.kind, Kind::Plain | Kind::Seeking | Kind::Forgetting) {
            for (partition, next) in self.consumer.position().iter() {
                if next.0 < highs[partition.0 as usize] {
                    self.fail(&format!(
                        "c10: it has caught up, and stands at {partition}@{next} of {highs:?}"
                    ));
                }
            }
        }
        self.check_waiting();
        got
    }

    async fn look_for_the_end(&mut self) {
        let start = Instant::now();
        let before: Vec<_> = self.server.change(|state| state.parts.iter().map(|part| part.high).collect());
        let Ok(end) = timeout(self.caller.patience, self.consumer.end()).await else { return };
        self.rested_for(start.elapsed());
        let Ok(end) = end else { return };
        for (partition, end) in end.iter() {
            if end.0 < before[partition.0 as usize] && self.nature.kind != Kind::BeginningAgain {
                self.fail(&format!("the end of {partition} is {end}, and it was {before:?}"));
            }
        }
    }

    async fn commit(&mut self) {
        // The last one as a rule, and one from before now and then.
        let Some(mut cursor) = self.cursors.back().cloned() else { return };
        if self.chance.once_in(10) {
            cursor = self.cursors.front().cloned().unwrap_or(cursor);
        }
        if self.caller.writes {
            cursor = serde_json::from_slice(&serde_json::to_vec(&cursor).unwrap()).unwrap();
        }
        let (start, before) = (Instant::now(), self.places());
        let patience = self.caller.patience.max(700 * MS);
        let committed = timeout(patience, self.consumer.commit(&cursor)).await;
        let took = start.elapsed();
        self.note(|| format!("commit {cursor}: {committed:?} after {took:?}"));
        self.check_places(&before);
        match committed {
            Ok(Ok(())) => self.check_stored(&cursor),
            Ok(Err(error)) => {
                let stored = error.stored().clone();
                self.check_stored(&stored);
                let is_mix_up = |kind: &CommitErrorKind| {
                    matches!(kind, CommitErrorKind::Foreign | CommitErrorKind::BeyondDelivered { .. })
                };
                // What was read again has no epoch, and may be of a log that is gone.
                let may_be = self.caller.writes && self.nature.kind == Kind::BeginningAgain;
                if !may_be && error.failures().iter().any(|(_, kind)| is_mix_up(kind)) {
                    self.fail(&format!("c13: {error:?}"));
                }
            }
            Err(_) => {}
        }
        if took > 600 * SECOND {
            self.fail("a commit takes ten minutes");
        }
        self.rested_for(took);
    }

    async fn seek(&mut self) {
        let kept = self.cursors.front().cloned().unwrap_or_default();
        let to = match self.chance.below(5) {
            0 => SeekPosition::Beginning,
            1 => SeekPosition::End,
            2 => SeekPosition::FromEnd(self.chance.of(&[0, 3, 50])),
            _ => SeekPosition::Cursor(kept),
        };
        let start = Instant::now();
        let sought = timeout(self.caller.patience.max(5 * SECOND), self.consumer.seek(to.clone())).await;
        let took = start.elapsed();
        let position = self.consumer.position().clone();
        self.note(|| format!("seek {to:?}: {sought:?} after {took:?}, at {position}"));
        match sought {
            Ok(Ok(())) => self.sought(&to),
            Ok(Err(error)) => self.failed(&error),
            Err(_) => {}
        }
        self.rested_for(took);
    }
}
