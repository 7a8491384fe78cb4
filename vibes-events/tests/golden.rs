//! Every file under `golden` is read and written again as it is, and every variant has one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use vibes_events::{ClaudeEvent, HookEvent, StoredEvent, StoredOrBare, VibesEvent};

/// The files of a folder by name without `.json`; each is one line.
fn files(folder: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(folder);
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let line =
            text.strip_suffix('\n').unwrap_or_else(|| panic!("{folder}/{name} ends without a newline"));
        assert!(!line.contains('\n'), "{folder}/{name} is more than one line");
        let stem = name.strip_suffix(".json").unwrap_or_else(|| panic!("{folder}/{name} is not JSON"));
        (stem.to_owned(), line.to_owned())
    };
    fs::read_dir(path).unwrap().map(file).collect()
}

/// What a file is about: its name up to the note.
fn subject(name: &str) -> &str {
    name.split_once('.').map_or(name, |(subject, _)| subject)
}

/// Every type has a file of its name, and no file is about anything else.
#[track_caller]
fn assert_complete(folder: &str, files: &BTreeMap<String, String>, types: &[&str]) {
    for event_type in types {
        assert!(files.contains_key(*event_type), "golden/{folder}/{event_type}.json is missing");
    }
    for name in files.keys() {
        assert!(types.contains(&subject(name)), "golden/{folder}/{name}.json is about no known type");
    }
}

#[track_caller]
fn read(json: &str) -> StoredOrBare {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"))
}

#[track_caller]
fn assert_written(event: &impl serde::Serialize, json: &str) {
    assert_eq!(serde_json::to_string(event).unwrap(), json);
}

/// Reads a bare event in every way there is, and checks that each writes it as it was.
#[track_caller]
fn read_bare(json: &str) -> VibesEvent {
    let event: VibesEvent = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"));
    assert_written(&event, json);
    assert_written(&read(json), json);
    assert_eq!(read(json), StoredOrBare::Bare(event.clone()));
    assert_eq!(serde_json::from_reader::<_, VibesEvent>(json.as_bytes()).unwrap(), event);
    event
}

#[test]
fn no_folder_is_forgotten() {
    let folders: BTreeSet<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        folders.iter().map(String::as_str).collect::<Vec<_>>(),
        ["README.md", "claude", "hook", "stored", "unknown", "upcast", "vibes"]
    );
}

#[test]
fn every_event() {
    let files = files("vibes");
    assert_complete("vibes", &files, VibesEvent::TYPES);
    for (name, json) in &files {
        let event = read_bare(json);
        assert_eq!(event.event_type(), subject(name));
        assert!(!matches!(event, VibesEvent::Unknown(_)), "{name} is not read as what it is");
    }
}

#[test]
fn every_claude_event() {
    let files = files("claude");
    assert_complete("claude", &files, ClaudeEvent::TYPES);
    for (name, json) in &files {
        let VibesEvent::Claude { event, .. } = read_bare(json) else { panic!("{name} is not of the agent") };
        assert_eq!(event.event_type(), subject(name));
        assert!(!matches!(event, ClaudeEvent::Unknown(_)), "{name} is not read as what it is");
    }
}

#[test]
fn every_hook_event() {
    let files = files("hook");
    assert_complete("hook", &files, HookEvent::TYPES);
    for (name, json) in &files {
        let VibesEvent::Hook { event, .. } = read_bare(json) else { panic!("{name} is not of a hook") };
        assert_eq!(event.event_type(), subject(name));
        assert!(!matches!(event, HookEvent::Unknown(_)), "{name} is not read as what it is");
    }
}

#[test]
fn every_stored_event() {
    let files = files("stored");
    assert_complete("stored", &files, VibesEvent::TYPES);
    let bare = self::files("vibes");
    for (name, json) in &files {
        let stored: StoredEvent =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"));
        assert_written(&stored, json);
        assert_written(&read(json), json);
        assert_eq!(read(json), StoredOrBare::Stored(stored.clone()));
        // Read as a bare one it loses its id, and nothing else.
        assert_eq!(serde_json::from_str::<VibesEvent>(json).unwrap(), stored.event);
        assert_written(&stored.event, &bare[name]);
    }
}

#[test]
fn every_level_at_which_a_type_may_be_unknown() {
    let files = files("unknown");
    let mut levels = BTreeSet::new();
    for (name, json) in &files {
        let event = read(json);
        assert_written(&event, json);
        let (level, unknown) = match event {
            StoredOrBare::Stored(StoredEvent { event: VibesEvent::Unknown(unknown), .. }) => {
                ("stored", unknown)
            }
            StoredOrBare::Bare(VibesEvent::Unknown(unknown)) => ("vibes", unknown),
            StoredOrBare::Bare(VibesEvent::Claude { event: ClaudeEvent::Unknown(unknown), .. }) => {
                ("claude", unknown)
            }
            StoredOrBare::Bare(VibesEvent::Hook { event: HookEvent::Unknown(unknown), .. }) => {
                ("hook", unknown)
            }
            known => panic!("{name} is known: {known:?}"),
        };
        assert_eq!(level, subject(name));
        assert!(json.contains(&format!(r#""type":"{}""#, unknown.event_type())));
        levels.insert(level);
    }
    assert_eq!(levels.into_iter().collect::<Vec<_>>(), ["claude", "hook", "stored", "vibes"]);
}

#[test]
fn every_older_shape() {
    let files = files("upcast");
    let names: BTreeSet<_> = files.keys().map(|name| subject(name)).collect();
    assert_eq!(files.len(), 2 * names.len(), "old and new come in pairs");
    for name in names {
        let old = read(&files[&format!("{name}.old")]);
        let new = &files[&format!("{name}.new")];
        assert_written(&old, new);
        assert_eq!(old, read(new));
    }
    let upcast_types: BTreeSet<_> = files.values().map(|json| inner_type(&read(json))).collect();
    assert_eq!(
        upcast_types.iter().map(String::as_str).collect::<Vec<_>>(),
        ["permission_request", "post_tool_use", "pre_tool_use", "subagent_stop"]
    );
}

fn inner_type(event: &StoredOrBare) -> String {
    let VibesEvent::Hook { event, .. } = event.event() else { panic!("only hooks have older shapes") };
    event.event_type().to_owned()
}
