//! Arbitrary bytes as events of `vibes-events`, bare and in their envelope.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use event_log_core::{EventId, Partitionable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use vibes_events::{ClaudeEvent, HookEvent, RawJson, StoredEvent, StoredOrBare, VibesEvent, upcast};

use super::{parts, read_json, write_json};

/// The byte that an input begins with of which an event is made. Another one follows that chooses its type.
const MADE: u8 = 1;

/// JSON that is none of the machine's numbers and strings. Whoever reads it has to leave it as it is.
const ODD: &str = r#"[1e400,"\ud800",123456789012345678901234567890]"#;

/// The fields of any event that hold text. An event ignores those that are not its own.
const TEXTS: &[&str] = &[
    "session_id",
    "content",
    "source",
    "request_id",
    "name",
    "state",
    "client_id",
    "url",
    "new_owner_id",
    "reason",
    "text",
    "id",
    "delta",
    "output",
    "message",
    "tool",
    "description",
    "transcript_path",
    "cwd",
    "hook_event_name",
    "permission_mode",
    "tool_name",
    "tool_use_id",
    "project_path",
    "prompt",
    "notification_type",
    "agent_id",
    "agent_transcript_path",
];

/// Those that are true or false.
const FLAGS: &[&str] = &["approved", "is_error", "recoverable", "stop_hook_active"];

/// Reads bytes as every kind of event; or makes an event with the parts of the input as its fields, and reads that.
///
/// What can be read can be written and read again, in whatever it is put. What is of no known type is kept as it was. A
/// member that is not known changes nothing, and a known one that is there twice is refused. Older shapes become the present
/// one, which stays as it is.
///
/// # Panics
///
/// If that does not hold.
pub fn envelope(data: &[u8]) {
    match data.split_first() {
        Some((&MADE, [choice, data @ ..])) => {
            let texts: Vec<_> = parts(data).map(String::from_utf8_lossy).collect();
            make(usize::from(*choice), &texts);
        }
        _ => check(data),
    }
}

/// An event can be of any known type, with any text in its fields.
fn make(choice: usize, texts: &[Cow<'_, str>]) {
    let id = EventId::from_u128(
        texts
            .iter()
            .flat_map(|text| text.bytes())
            .fold(7, |id: u128, byte| id.rotate_left(8) ^ u128::from(byte)),
    );
    let outer = VibesEvent::TYPES[choice % VibesEvent::TYPES.len()];
    let choice = choice / VibesEvent::TYPES.len();
    let inner = if outer == "claude" {
        ClaudeEvent::TYPES[choice % ClaudeEvent::TYPES.len()]
    } else {
        HookEvent::TYPES[choice % HookEvent::TYPES.len()]
    };
    let mut json = object(outer, texts);
    json.insert("event".to_owned(), object(inner, texts).into());
    json.insert("event_id".to_owned(), id.to_string().into());
    let json = Value::Object(json).to_string();

    let event: StoredEvent = read_json(json.as_bytes()).unwrap_or_else(|| panic!("{json} is refused"));
    assert_eq!((event.event_id, event.event.event_type()), (id, outer));
    let written = write_json(&event);
    let written: Value = serde_json::from_str(&written).expect("it was read before");
    for event in [&written, &written["event"]] {
        for (name, text) in TEXTS.iter().zip(texts.iter().cycle()) {
            assert!(event.get(name).is_none_or(|read| read == &**text), "{name} of {json}");
        }
    }
    assert!(written.get("event").is_none_or(|event| event["type"] == inner), "{json}");
    check(json.as_bytes());
}

/// An object with every field that an event of this type may have.
fn object(event_type: &str, texts: &[Cow<'_, str>]) -> Map<String, Value> {
    let count = texts.len();
    let any = |text: &str| serde_json::from_str(text).ok().filter(|json: &Value| !json.is_null());
    let texts_of = TEXTS.iter().zip(texts.iter().cycle()).map(|(name, text)| (*name, Value::from(&**text)));
    let flags = FLAGS.iter().zip(0..).map(|(name, at)| (*name, Value::from(count >> at & 1 == 1)));
    let more = ["tool_input", "tool_response"].into_iter().zip(texts.iter().rev().cycle());
    let more = more.map(|(name, text)| (name, any(text).unwrap_or_else(|| Value::from(&**text))));
    let rest = [
        ("type", Value::from(event_type)),
        ("usage", serde_json::json!({ "input_tokens": count, "output_tokens": u32::MAX })),
    ];
    let fields = texts_of.chain(flags).chain(more).chain(rest);
    fields.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn check(json: &[u8]) {
    read_json::<RawJson>(json);
    check_event::<VibesEvent>(json, |event| matches!(event, VibesEvent::Unknown(_)));
    check_event::<StoredOrBare>(json, |event| matches!(event.event(), VibesEvent::Unknown(_)));
    check_envelope(json);
    check_inner(json);
    if let Some(inner) = members(json).and_then(|mut members| members.remove("event")) {
        check_inner(inner.as_str().as_bytes());
    }
}

/// What may be in another event.
fn check_inner(json: &[u8]) {
    check_event::<ClaudeEvent>(json, |event| matches!(event, ClaudeEvent::Unknown(_)));
    check_event::<HookEvent>(json, |event| matches!(event, HookEvent::Unknown(_)));
    check_upcast(json);
}

fn check_event<T>(json: &[u8], is_unknown: fn(&T) -> bool)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let Some(event) = read_json::<T>(json) else { return };
    let text = text(json);
    let written = write_json(&event);
    if is_unknown(&event) {
        // An id is put first, and what is escaped in the name of a member need not be.
        let is_plain = !text.contains('\\') && !text.contains("event_id");
        let kept: RawJson = text.parse().expect("it was read before");
        assert!(!is_plain || written == kept.as_str(), "{text} became {written}");
        return;
    }
    let more = with_member(text, "x_unknown", ODD);
    match serde_json::from_str::<T>(&more) {
        Ok(read) => assert_eq!(read, event, "{more}"),
        Err(error) => panic!("{error}: {more}"),
    }
    for name in members(written.as_bytes()).into_iter().flatten().map(|(name, _)| name) {
        assert_refused::<T>(&with_member(&written, &name, "null"));
    }
}

/// An envelope changes nothing of its event, and nothing is lost by reading one where there is none, or the other way round.
fn check_envelope(json: &[u8]) {
    let bare: Option<VibesEvent> = serde_json::from_slice(json).ok();
    let stored: Option<StoredEvent> = serde_json::from_slice(json).ok();
    let either: Option<StoredOrBare> = serde_json::from_slice(json).ok();
    match &either {
        Some(StoredOrBare::Stored(event)) => assert_eq!(stored.as_ref(), Some(event)),
        _ => assert_eq!(stored, None),
    }
    if let Some(either) = &either {
        assert_eq!(bare.as_ref(), Some(either.event()), "reading it bare loses the id and nothing else");
        assert_eq!(either.partition_key(), either.event().partition_key());
    }
    if let Some(event) = bare {
        let id = EventId::from_u128(0x019a_0b1c_2d3e_7f40_8123_4567_89ab_cdef);
        let stored = StoredEvent::with_id(id, event);
        assert_eq!(read_json(write_json(&stored).as_bytes()).as_ref(), Some(&stored));
    }
}

fn check_upcast(json: &[u8]) {
    let Ok(Value::Object(object)) = serde_json::from_slice(json) else { return };
    let present = upcast::hook(object.clone());
    assert_eq!(upcast::hook(present.clone()), present, "not idempotent");
    let Ok(event) = serde_json::from_slice::<HookEvent>(json) else { return };
    let as_value = |event: &HookEvent| serde_json::to_value(event).expect("it came from a value");
    let again = serde_json::from_value(Value::Object(present.clone()));
    let again: HookEvent = again.unwrap_or_else(|error| panic!("{error}: {}", text(json)));
    assert_eq!(without_fractions(as_value(&again)), without_fractions(as_value(&event)), "{}", text(json));
    for name in object.keys().filter(|name| !present.contains_key(*name)) {
        assert_refused::<HookEvent>(&with_member(text(json), name, "null"));
    }
}

fn assert_refused<T: DeserializeOwned + Debug>(json: &str) {
    if let Ok(event) = serde_json::from_str::<T>(json) {
        panic!("{json} was read as {event:?}");
    }
}

fn text(json: &[u8]) -> &str {
    std::str::from_utf8(json).expect("what was read as JSON is UTF-8")
}

/// The members of an object; of one that is there twice, the last.
fn members(json: &[u8]) -> Option<BTreeMap<String, RawJson>> {
    serde_json::from_slice(json).ok()
}

/// The JSON of an object with one more member, which comes first.
fn with_member(json: &str, name: &str, value: &str) -> String {
    let rest = json.trim_start().strip_prefix('{').expect("an event is an object, which has a type");
    format!("{{{}:{value},{rest}", write_json(&name))
}

/// Reading a fraction may change its last digit, so that reading twice may change it twice.
fn without_fractions(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::Null,
        Value::Array(values) => values.into_iter().map(without_fractions).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, without_fractions(value))).collect()
        }
        other => other,
    }
}
