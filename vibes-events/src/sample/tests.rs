use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::claude::ClaudeEvent;
use crate::hook::HookEvent;

/// The types of the events and of what is inside of them.
fn types_in(events: &[VibesEvent]) -> BTreeSet<(&str, &str)> {
    let outer = events.iter().map(|event| ("vibes", event.event_type()));
    let inner = events.iter().filter_map(|event| match event {
        VibesEvent::Claude { event, .. } => Some(("claude", event.event_type())),
        VibesEvent::Hook { event, .. } => Some(("hook", event.event_type())),
        _ => None,
    });
    outer.chain(inner).collect()
}

fn by_session(events: impl Iterator<Item = VibesEvent>) -> HashMap<String, Vec<VibesEvent>> {
    let mut sessions = HashMap::<_, Vec<_>>::new();
    for event in events {
        if let Some(session) = event.session_id() {
            sessions.entry(session.to_owned()).or_default().push(event);
        }
    }
    sessions
}

#[test]
fn the_bundled_sample_has_every_type() {
    let events: Vec<_> = bundled().collect();
    assert_eq!(events.len(), 5_000);
    let expected: BTreeSet<_> = (VibesEvent::TYPES.iter().map(|tag| ("vibes", *tag)))
        .chain(ClaudeEvent::TYPES.iter().map(|tag| ("claude", *tag)))
        .chain(HookEvent::TYPES.iter().map(|tag| ("hook", *tag)))
        .collect();
    assert_eq!(types_in(&events), expected);
}

#[test]
fn the_bundled_sample_stays_the_same() {
    // FNV-1a over the JSON. Changing it is a change that users see: say so in the changelog.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for event in bundled() {
        for byte in serde_json::to_vec(&event).unwrap() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    assert_eq!(hash, 0x2ab7_4c6d_1e68_52b0, "{hash:#018x}");
}

#[test]
fn a_seed_decides_everything() {
    assert!(events(1, 5, 500).eq(events(1, 5, 500)));
    assert!(events(1, 5, 500).ne(events(2, 5, 500)));
}

#[test]
fn sessions_run_side_by_side() {
    let sessions: Vec<_> = bundled().filter_map(|event| Some(event.session_id()?.to_owned())).collect();
    let switches = sessions.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(switches > sessions.len() * 9 / 10, "{switches} switches");
}

#[test]
fn any_size_is_kept_exactly_and_every_session_begins_and_ends() {
    for sessions in [0, 1, 2, 3, 40] {
        for count in (0..130).chain([1_000]) {
            let stream = events(9, sessions, count);
            assert_eq!(stream.len(), count);
            let stream: Vec<_> = stream.collect();
            assert_eq!(stream.len(), count);
            for (session, events) in by_session(stream.into_iter()) {
                let (first, last) = (&events[0], &events[events.len() - 1]);
                assert!(matches!(first, VibesEvent::SessionCreated { .. }), "{session}: {first:?}");
                assert!(
                    events.len() == 1 || matches!(last, VibesEvent::SessionRemoved { .. }),
                    "{session}: {last:?}"
                );
            }
        }
    }
}

#[test]
fn an_event_that_says_its_place_says_the_right_one() {
    for events in by_session(bundled()).values() {
        let mut marked = 0;
        for (place, event) in events.iter().enumerate() {
            if let Some(said) = sequence_of(event) {
                assert_eq!(said, place as u64, "{event:?}");
                marked += 1;
            }
        }
        assert!(marked * 2 > events.len(), "{marked} of {} say their place", events.len());
    }
}

#[test]
fn tools_return_what_was_started_and_answers_have_a_question() {
    for events in by_session(bundled()).values() {
        let mut calls = BTreeSet::new();
        let mut requests = BTreeSet::new();
        for event in events {
            match event {
                VibesEvent::Claude { event: ClaudeEvent::ToolUseStart { id, .. }, .. } => {
                    assert!(calls.insert(id));
                }
                VibesEvent::Claude { event: ClaudeEvent::ToolResult { id, .. }, .. } => {
                    assert!(calls.remove(id));
                }
                VibesEvent::Claude { event: ClaudeEvent::PermissionRequest { id, .. }, .. } => {
                    assert!(requests.insert(id));
                }
                VibesEvent::PermissionResponse { request_id, .. } => assert!(requests.remove(request_id)),
                _ => {}
            }
        }
        assert!(calls.is_empty() && requests.is_empty());
    }
}
