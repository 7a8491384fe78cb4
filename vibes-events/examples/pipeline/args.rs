//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

pub(crate) const HELP: &str = "\
Appends coding-agent events to a log while three consumer groups read along,
and says at the end what became of every event.

usage: pipeline [FILE.jsonl | -] [OPTIONS]

  FILE.jsonl        events as JSON lines, bare or stored; `-` reads standard input.
                    Without a file: a made-up sample over 40 interleaved sessions.

  --log URL         where the events go (default: memory:)
                      memory:                  in this process
                      memory:?partitions=N     the same with N partitions
                      iggy://USER:PASSWORD@HOST:PORT/STREAM/TOPIC?PARAMETERS
                                               on a running iggy-server
                      iggy+spawn:FOLDER        on an iggy-server that this starts, with its
                                               data in FOLDER, and stops at the end
                    The last two need a build with --features iggy. Run twice, the second
                    run goes on where the groups left off.
  --events N        how many events the sample has (default: 5000)
  --parked FILE     write malformed lines to this file as they were
  --json            print the result as JSON, for machines
  -h, --help        this text

A malformed line is reported with its number, parked, and counted; it stops nothing.

exit status: 0  every event is in the log, and every group has read it, in order
             1  an event was lost, dropped, or read out of order
             2  the command line, the input or the log was not usable
";

/// What the user asked for.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) input: Input,
    pub(crate) destination: Destination,
    pub(crate) parked: Option<PathBuf>,
    pub(crate) json: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Input {
    Sample { events: usize },
    Stdin,
    File(PathBuf),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Memory {
        partitions: u32,
    },
    /// A URL with a password in it: not to be shown.
    Iggy {
        url: String,
    },
    IggySpawn {
        folder: PathBuf,
    },
}

const SAMPLE_EVENTS: usize = 5_000;

impl Args {
    /// How many events there will be, if that is known beforehand.
    pub(crate) const fn known_length(&self) -> Option<u64> {
        match self.input {
            Input::Sample { events } => Some(events as u64),
            Input::Stdin | Input::File(_) => None,
        }
    }
}

/// `None` asks for the help.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Args>, String> {
    let mut parser = lexopt::Parser::from_args(args);
    let (mut input, mut events) = (None, None);
    let mut args = Args {
        input: Input::Sample { events: SAMPLE_EVENTS },
        destination: Destination::Memory { partitions: vibes_events::PARTITIONS },
        parked: None,
        json: false,
    };
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Long("json") => args.json = true,
            Long("log") => args.destination = destination(&value(&mut parser)?)?,
            Long("parked") => {
                args.parked = Some(parser.value().map_err(|error| error.to_string())?.into());
            }
            Long("events") => {
                let count = value(&mut parser)?;
                events = Some(count.parse().map_err(|_| format!("--events: {count:?} is not a number"))?);
            }
            Value(path) if input.is_none() => input = Some(path),
            other => return Err(other.unexpected().to_string()),
        }
    }
    args.input = match (input, events) {
        (Some(_), Some(_)) => return Err("--events is for the sample, not for a file".to_owned()),
        (Some(path), None) if path == "-" => Input::Stdin,
        (Some(path), None) => Input::File(path.into()),
        (None, events) => Input::Sample { events: events.unwrap_or(SAMPLE_EVENTS) },
    };
    Ok(Some(args))
}

fn value(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value.into_string().map_err(|value| format!("{value:?} is not text"))
}

fn destination(url: &str) -> Result<Destination, String> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "memory" => {}
        "iggy" => return Ok(Destination::Iggy { url: url.to_owned() }),
        "iggy+spawn" if !rest.is_empty() => return Ok(Destination::IggySpawn { folder: rest.into() }),
        "iggy+spawn" => return Err("--log iggy+spawn: needs a folder for the server's data".to_owned()),
        _ => return Err(format!("--log: there is no {scheme:?} log, only memory, iggy and iggy+spawn")),
    }
    let Some(query) = rest.trim_start_matches('/').strip_prefix('?') else {
        return match rest.trim_start_matches('/') {
            "" => Ok(Destination::Memory { partitions: vibes_events::PARTITIONS }),
            path => Err(format!("--log {url}: {path:?} is not understood")),
        };
    };
    match query.strip_prefix("partitions=").map(str::parse) {
        Some(Ok(partitions)) => Ok(Destination::Memory { partitions }),
        _ => Err(format!("--log {url}: {query:?} is not understood, only partitions=N")),
    }
}
