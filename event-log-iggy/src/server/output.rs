//! What a server prints: into `tracing`, with the last lines kept for the error that says how it died.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::JoinHandle;
use tracing::Level;

use super::TARGET;
use super::error::LogTail;
use super::state::Places;
use crate::limits::{SERVER_LOG_LINE_BYTES, SERVER_LOG_LINES, SERVER_OUTPUT_GRACE};

/// Follows the output of one process until it ends.
#[derive(Debug)]
pub(super) struct Output {
    last: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

impl Output {
    pub(super) fn follow(
        output: impl AsyncRead + Send + Unpin + 'static,
        password: SecretString,
        places: Arc<Mutex<Places>>,
    ) -> Self {
        let last = Arc::default();
        let reader = Reader { password, places, last: Arc::clone(&last) };
        Self { last, reader: tokio::spawn(reader.read(output)) }
    }

    pub(super) fn tail(&self) -> LogTail {
        LogTail::new(self.last.lock().iter().cloned().collect())
    }

    /// Waits for the rest of what a dead process has printed. Cancel safe.
    pub(super) async fn drained(&mut self) {
        if !self.reader.is_finished() {
            // Neither outcome matters: what has come is kept, and the reader is ended with this value.
            let _rest = tokio::time::timeout(SERVER_OUTPUT_GRACE, &mut self.reader).await;
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Reader {
    password: SecretString,
    places: Arc<Mutex<Places>>,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Reader {
    async fn read(self, mut output: impl AsyncRead + Unpin) {
        let mut cutter = LineCutter::default();
        let mut chunk = [0; 4_096];
        loop {
            let read = match output.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            cutter.push(&chunk[..read], &mut |line| self.take(line));
        }
        cutter.finish(&mut |line| self.take(line));
    }

    fn take(&self, line: &[u8]) {
        let line = without_colours(&String::from_utf8_lossy(line));
        // The server does not print it. A later one might, and a wrapper around it too.
        let line = line.replace(self.password.expose_secret(), "***");
        let (level, text) = level_and_text(&line);
        if text.is_empty() {
            return;
        }
        match level {
            Level::ERROR => tracing::error!(target: TARGET, "{text}"),
            Level::WARN => tracing::warn!(target: TARGET, "{text}"),
            Level::INFO => tracing::info!(target: TARGET, "{text}"),
            Level::DEBUG => tracing::debug!(target: TARGET, "{text}"),
            _ => tracing::trace!(target: TARGET, "{text}"),
        }
        if let Some(address) = http_address(text) {
            self.places.lock().http = Some(address);
        }
        let mut last = self.last.lock();
        if last.len() == SERVER_LOG_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
}

/// Lines out of chunks, with long ones cut.
#[derive(Default)]
struct LineCutter {
    line: Vec<u8>,
}

impl LineCutter {
    fn push(&mut self, chunk: &[u8], take: &mut dyn FnMut(&[u8])) {
        for (part, piece) in chunk.split(|byte| *byte == b'\n').enumerate() {
            if part > 0 {
                take(&self.line);
                self.line.clear();
            }
            let space = SERVER_LOG_LINE_BYTES - self.line.len();
            self.line.extend_from_slice(&piece[..piece.len().min(space)]);
        }
    }

    fn finish(self, take: &mut dyn FnMut(&[u8])) {
        if !self.line.is_empty() {
            take(&self.line);
        }
    }
}

/// The server colours its lines also when it prints into a pipe.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, sequence)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = sequence.split_once(|c: char| ('@'..='~').contains(&c)).map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

/// The level of a line and what comes after it: the time is the subscriber's to add. What has no level is a panic,
/// or the complaint of a shell, and matters.
fn level_and_text(line: &str) -> (Level, &str) {
    let mut rest = line.trim();
    for _ in 0..2 {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let level = match word {
            "ERROR" => Level::ERROR,
            "WARN" => Level::WARN,
            "INFO" => Level::INFO,
            "DEBUG" => Level::DEBUG,
            "TRACE" => Level::TRACE,
            _ => {
                rest = after.trim_start();
                continue;
            }
        };
        return (level, after.trim_start());
    }
    (Level::WARN, line.trim())
}

fn http_address(text: &str) -> Option<SocketAddr> {
    let (_, fields) = text.split_once("HTTP listener started")?;
    fields.split_whitespace().find_map(|field| field.strip_prefix("address=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOURED: &str = "\u{1b}[2m2026-11-24T22:50:32.9Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m shard-0 \
        \u{1b}[2mserver::http\u{1b}[0m\u{1b}[2m:\u{1b}[0m server HTTP listener started \
        \u{1b}[3maddress\u{1b}[0m\u{1b}[2m=\u{1b}[0m127.0.0.1:36101";

    #[test]
    fn a_coloured_line_is_understood() {
        let line = without_colours(COLOURED);
        let (level, text) = level_and_text(&line);
        assert_eq!(level, Level::INFO);
        assert_eq!(text, "shard-0 server::http: server HTTP listener started address=127.0.0.1:36101");
        assert_eq!(http_address(text), Some(SocketAddr::from(([127, 0, 0, 1], 36_101))));
    }

    #[test]
    fn a_line_without_a_level_is_kept_whole_and_matters() {
        let panic = "thread 'main' panicked at src/main.rs:1:1:";
        assert_eq!(level_and_text(panic), (Level::WARN, panic));
        assert_eq!(level_and_text("WARN main: x"), (Level::WARN, "main: x"));
        assert_eq!(level_and_text(""), (Level::WARN, ""));
    }

    #[test]
    fn lines_are_cut_out_of_any_chunks_and_never_grow_without_end() {
        let mut lines = Vec::new();
        let mut cutter = LineCutter::default();
        let long = vec![b'x'; SERVER_LOG_LINE_BYTES + 7];
        for chunk in [&b"one\ntw"[..], b"o\n\nthr", b"ee\n", &long, b"y\nlast"] {
            cutter.push(chunk, &mut |line| lines.push(line.to_vec()));
        }
        cutter.finish(&mut |line| lines.push(line.to_vec()));
        let cut = &long[..SERVER_LOG_LINE_BYTES];
        assert_eq!(lines, [&b"one"[..], b"two", b"", b"three", cut, b"last"]);
    }

    #[tokio::test]
    async fn the_password_is_not_repeated_and_the_last_lines_are_kept() {
        let printed: String = (0..100).map(|n| format!("INFO {n} says hunter2\n")).collect();
        let password = SecretString::from("hunter2".to_owned());
        let mut output = Output::follow(std::io::Cursor::new(printed), password, Arc::default());
        output.drained().await;
        let tail = output.tail();
        assert_eq!(tail.lines().len(), SERVER_LOG_LINES);
        assert_eq!(tail.lines().last().unwrap(), "INFO 99 says ***");
    }
}
