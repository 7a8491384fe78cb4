//! Where events come from: a file, standard input, or the sample.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use vibes_events::{StoredOrBare, sample};

use crate::args::Input;

/// A line of input.
#[derive(Debug)]
pub(crate) enum Line {
    Event(StoredOrBare),
    Malformed { number: u64, text: Vec<u8>, reason: String },
}

/// Sessions in the sample.
const SAMPLE_SESSIONS: usize = 40;
const SAMPLE_SEED: u64 = 2_026;

/// The lines of the input. Blocking: for a thread of its own.
pub(crate) fn lines(input: &Input) -> io::Result<Box<dyn Iterator<Item = io::Result<Line>>>> {
    Ok(match input {
        Input::Sample { events } => {
            let events = sample::events(SAMPLE_SEED, SAMPLE_SESSIONS, *events);
            Box::new(events.map(|event| Ok(Line::Event(event.into()))))
        }
        Input::Stdin => Box::new(parsed(io::stdin().lock())),
        Input::File(path) => Box::new(parsed(BufReader::new(open(path)?))),
    })
}

fn open(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// By bytes, so that a line that is not UTF-8 is malformed rather than the end of everything.
fn parsed(reader: impl BufRead) -> impl Iterator<Item = io::Result<Line>> {
    reader.split(b'\n').zip(1..).filter_map(|(text, number)| match text {
        Err(error) => Some(Err(error)),
        Ok(text) if text.trim_ascii().is_empty() => None,
        Ok(text) => Some(Ok(match serde_json::from_slice(&text) {
            Ok(event) => Line::Event(event),
            Err(error) => Line::Malformed { number, reason: error.to_string(), text },
        })),
    })
}
