//! What holds for every event, and for bytes that are none.
//!
//! Failures that proptest has found are kept in `proptest-regressions` and tried first.

use event_log_core::Partitionable;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::strategies::*;
use crate::{ClaudeEvent, HookEvent, RawJson, StoredEvent, StoredOrBare, VibesEvent, upcast};

/// What is written is read as the same, and written again to the byte.
fn round_trips<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    event: &T,
) -> Result<(), TestCaseError> {
    let json = serde_json::to_string(event).unwrap();
    let read: T =
        serde_json::from_str(&json).map_err(|error| TestCaseError::fail(format!("{error}: {json}")))?;
    prop_assert_eq!(&read, event);
    prop_assert_eq!(serde_json::to_string(&read).unwrap(), json.as_str());
    prop_assert!(!json.contains('\n'), "an event is one line: {json:?}");

    // Other ways to read the same text.
    prop_assert_eq!(&serde_json::from_slice::<T>(json.as_bytes()).unwrap(), event);
    prop_assert_eq!(&serde_json::from_reader::<_, T>(json.as_bytes()).unwrap(), event);
    Ok(())
}

/// Reads bytes as everything that can be read. What can be read can be written and read again.
fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        bytes: &[u8],
    ) -> Result<(), TestCaseError> {
        match serde_json::from_slice::<T>(bytes) {
            Ok(event) => round_trips(&event),
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                Ok(())
            }
        }
    }
    check::<VibesEvent>(bytes)?;
    check::<ClaudeEvent>(bytes)?;
    check::<HookEvent>(bytes)?;
    check::<StoredEvent>(bytes)?;
    check::<StoredOrBare>(bytes)?;
    check::<RawJson>(bytes)
}

/// One small damage to a JSON text.
#[derive(Clone, Debug)]
enum Damage {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
    /// A piece of the text once more, somewhere.
    Repeat(Index, Index, Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Replace(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
            Self::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Self::Truncate(at) => bytes.truncate(at.index(bytes.len())),
            Self::Repeat(at, from, to) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                let at = at.index(bytes.len());
                bytes.splice(at..at, piece);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![prop::sample::select(br#"{}[]",:\0e-ntu "#.to_vec()), any::<u8>()];
    prop_oneof![
        (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<Index>(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<Index>().prop_map(Damage::Remove),
        any::<Index>().prop_map(Damage::Truncate),
        any::<(Index, Index, Index)>().prop_map(|(at, from, to)| Damage::Repeat(at, from, to)),
    ]
}

proptest! {
    #[test]
    fn a_bare_event_round_trips(event in vibes_event()) {
        round_trips(&event)?;
        round_trips(&StoredOrBare::Bare(event))?;
    }

    #[test]
    fn a_stored_event_round_trips(event in stored_event()) {
        round_trips(&event)?;
        prop_assert!(event.timestamp().is_some());
        let bare: VibesEvent = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        prop_assert_eq!(&bare, &event.event, "read bare, a stored event loses its id and nothing else");
        prop_assert_eq!(bare.partition_key(), event.partition_key());
        round_trips(&StoredOrBare::Stored(event))?;
    }

    #[test]
    fn an_inner_event_round_trips(claude in claude_event(), hook in hook_event()) {
        round_trips(&claude)?;
        round_trips(&hook)?;
    }

    #[test]
    fn any_json_round_trips(json in raw_json()) {
        round_trips(&json)?;
    }

    #[test]
    fn whitespace_and_order_do_not_matter(event in stored_or_bare()) {
        let Ok(value) = serde_json::to_value(&event) else { return Ok(()) };
        // Sorted by name, numbers normalised: what is not raw JSON is the same.
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let read: StoredOrBare = serde_json::from_str(&pretty).unwrap();
        prop_assert_eq!(&read, &serde_json::from_value::<StoredOrBare>(value).unwrap());
        prop_assert_eq!(read.event().session_id(), event.event().session_id());
        prop_assert_eq!(read.event().event_type(), event.event().event_type());
        prop_assert_eq!(read.event_id(), event.event_id());
    }

    #[test]
    fn arbitrary_bytes_are_survived(bytes in vec(any::<u8>(), 0..256)) {
        survives(&bytes)?;
    }

    #[test]
    fn arbitrary_json_is_survived(json in raw_json()) {
        survives(json.as_str().as_bytes())?;
    }

    #[test]
    fn damaged_events_are_survived(event in stored_or_bare(), damages in vec(damage(), 1..4)) {
        let mut bytes = serde_json::to_vec(&event).unwrap();
        for damage in &damages {
            damage.apply(&mut bytes);
        }
        survives(&bytes)?;
    }

    #[test]
    fn upcasting_is_idempotent_and_leaves_the_present_shape_alone(event in hook_event()) {
        let Ok(serde_json::Value::Object(event)) = serde_json::to_value(&event) else { return Ok(()) };
        prop_assert_eq!(upcast::hook(event.clone()), event);
    }
}

/// Every variant has a strategy, which makes events of that variant and no other.
#[track_caller]
fn check_variants<E: std::fmt::Debug>(
    types: &[&str],
    variants: &[(&str, BoxedStrategy<E>)],
    event_type: fn(&E) -> &str,
) {
    let (unknown, known) = variants.split_last().unwrap();
    assert_eq!(known.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), types);
    assert_eq!(unknown.0, "");
    let mut runner = TestRunner::deterministic();
    for (tag, strategy) in known {
        let event = strategy.new_tree(&mut runner).unwrap().current();
        assert_eq!(event_type(&event), *tag);
    }
    let event = unknown.1.new_tree(&mut runner).unwrap().current();
    assert!(!types.contains(&event_type(&event)));
}

#[test]
fn every_variant_has_a_strategy() {
    check_variants(VibesEvent::TYPES, &vibes_variants(), VibesEvent::event_type);
    check_variants(ClaudeEvent::TYPES, &claude_variants(), ClaudeEvent::event_type);
    check_variants(HookEvent::TYPES, &hook_variants(), HookEvent::event_type);
}
