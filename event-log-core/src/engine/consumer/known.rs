//! What a reader knows of the log that its partition is of, and how an answer is told to be of another one.

use crate::engine::transport::FetchResponse;
use crate::position::Offset;

/// One log, as far as its answers have shown it.
#[derive(Clone, Copy)]
struct Log {
    incarnation: Option<u64>,
    /// The high watermark. It only falls when the partition is truncated.
    high: Offset,
}

impl Log {
    /// Whether the answer is of another log than this, or of one that has lost its tail since.
    fn is_contradicted(self, answer: &FetchResponse) -> bool {
        let is_another = self.incarnation.zip(answer.incarnation).is_some_and(|(known, now)| known != now);
        is_another || answer.high.is_some_and(|high| high < self.high)
    }
}

/// Survives seeks: what was read stays read, wherever reading goes on.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// The log that was read.
    read: Log,
    /// The log as an answer has shown it since: the partition was truncated, which is not told yet.
    truncated: Option<Log>,
    /// Both from before a place was found in the log as it is, until the next answer.
    former: Option<(Log, Option<Log>)>,
    /// The last answer has shown that `former` is gone.
    is_another: bool,
}

impl Known {
    pub(super) const fn nothing() -> Self {
        let read = Log { incarnation: None, high: Offset::ZERO };
        Self { read, truncated: None, former: None, is_another: false }
    }

    pub(super) const fn high(&self) -> Offset {
        self.read.high
    }

    pub(super) const fn incarnation(&self) -> Option<u64> {
        self.read.incarnation
    }

    pub(super) const fn is_truncated(&self) -> bool {
        self.truncated.is_some()
    }

    /// The partition is known to have reached this offset.
    pub(super) fn reaches(&mut self, offset: Offset) {
        self.read.high = self.read.high.max(offset);
    }

    /// The partition ends there, which is no news unless it has been longer.
    pub(super) fn ends_at(&mut self, high: Offset) {
        if high < self.read.high {
            // Which log it is that ends there is not known: it may be yet another one that is read.
            self.truncated.get_or_insert(Log { incarnation: None, high: Offset::ZERO });
        }
    }

    /// Reading begins at a place that was found in the log just now. What was read until then may be of another one, which the
    /// next answer shows.
    pub(super) fn found(&mut self, at: Offset) {
        let read = std::mem::replace(&mut self.read, Log { incarnation: None, high: at });
        let former = (read, self.truncated.take());
        // What was before the first of several seeks is what was read.
        self.former.get_or_insert(former);
    }

    /// Reading begins at a place that was kept: it is of the log that was read, whatever was found in between. Only how far the
    /// log reached then stays known.
    pub(super) fn kept(&mut self) {
        let Some((read, truncated)) = self.former.take() else { return };
        let reached = std::mem::replace(&mut self.read, read).high;
        // Unless what was found is gone, too.
        if self.truncated.is_none() {
            self.truncated = truncated;
            let log = self.truncated.as_mut().unwrap_or(&mut self.read);
            log.high = log.high.max(reached);
        }
    }

    /// A truncation that was found out is yet to be told, where reading goes on from now on.
    pub(super) fn is_untold(&mut self) {
        self.truncated.get_or_insert(self.read);
    }

    /// Takes note of an answer. True when the partition was truncated since it was read.
    pub(super) fn note(&mut self, answer: &FetchResponse) -> bool {
        if let Some((read, truncated)) = self.former.take() {
            self.is_another = truncated.is_some() || read.is_contradicted(answer);
        }
        let incarnation = answer.incarnation.or(self.read.incarnation);
        if answer.truncated || self.read.is_contradicted(answer) {
            // What was read stays what is known, until its end is told. Where that was is not where this one ends.
            self.truncated = Some(Log { incarnation, high: answer.high.unwrap_or_default() });
            return true;
        }
        self.read = Log { incarnation, high: answer.high.unwrap_or(self.read.high) };
        false
    }

    /// Whether the last answer is of another log than what was read before a seek found its place.
    pub(super) const fn take_is_another(&mut self) -> bool {
        std::mem::replace(&mut self.is_another, false)
    }

    /// The truncation is told, and reading goes on there.
    pub(super) fn resumed(&mut self, at: Offset) {
        // With it everything is told to be of another log that was read before, wherever.
        self.former = None;
        self.read = self.truncated.take().unwrap_or(self.read);
        self.reaches(at);
    }
}
