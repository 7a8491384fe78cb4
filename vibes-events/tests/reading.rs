//! What is read leniently, and what is not.

use event_log_core::{EventId, Partitionable};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vibes_events::{
    ClaudeEvent, HookEvent, InputSource, NotificationType, StoredEvent, StoredOrBare, VibesEvent,
};

const ID: &str = "019a0b1c-2d3e-7f40-8123-456789abcdef";

#[track_caller]
fn read(json: &str) -> VibesEvent {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"))
}

#[track_caller]
fn refusal<T: serde::de::DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
    serde_json::from_str::<T>(json).expect_err(json).to_string()
}

#[test]
fn the_examples_of_the_schema_are_read() {
    let text = read(r#"{"type":"claude","session_id":"s","event":{"type":"text_delta","text":"Hi"}}"#);
    let delta = ClaudeEvent::TextDelta { text: "Hi".into() };
    assert_eq!(text, VibesEvent::Claude { session_id: "s".into(), event: delta });

    let created = read(r#"{"type":"session_created","session_id":"s","name":null}"#);
    assert_eq!(created, VibesEvent::SessionCreated { session_id: "s".into(), name: None });

    let hook = read(r#"{"type":"hook","session_id":"s","event":{"type":"stop"}}"#);
    let VibesEvent::Hook { event: HookEvent::Stop { context, permission_mode, stop_hook_active }, .. } = hook
    else {
        panic!("{hook:?}")
    };
    assert_eq!((context, permission_mode, stop_hook_active), Default::default());
}

#[test]
fn absent_options_unknown_members_whitespace_and_order_do_not_matter() {
    let canonical = read(r#"{"type":"session_created","session_id":"s","name":null}"#);
    for json in [
        r#"{"type":"session_created","session_id":"s"}"#,
        r#"{"session_id":"s","name":null,"type":"session_created"}"#,
        r#"{"type":"session_created","schema_version":3,"session_id":"s","more":{"type":"x"}}"#,
        " {\n\t\"type\" : \"session_created\" ,\r\n \"session_id\":\"\\u0073\" } ",
    ] {
        assert_eq!(read(json), canonical, "{json}");
    }
}

#[test]
fn a_source_may_be_absent_or_new() {
    let source = |json: &str| match read(json) {
        VibesEvent::UserInput { source, .. } => source,
        other => panic!("{other:?}"),
    };
    assert_eq!(source(r#"{"type":"user_input","session_id":"s","content":""}"#), InputSource::Unknown);
    assert_eq!(
        source(r#"{"type":"user_input","session_id":"s","content":"","source":"mobile"}"#),
        InputSource::Other("mobile".into())
    );
    let hook = r#"{"type":"notification","message":"","notification_type":"auth_success"}"#;
    let HookEvent::Notification { notification_type, .. } = serde_json::from_str(hook).unwrap() else {
        panic!()
    };
    assert_eq!(notification_type, Some(NotificationType::Other("auth_success".into())));
}

#[test]
fn the_session_of_a_hook_is_the_outer_one_then_its_own() {
    let session = |outer: &str, inner: &str| {
        let hook = format!(
            r#"{{"type":"hook","session_id":{outer},"event":{{"type":"stop","session_id":{inner}}}}}"#
        );
        read(&hook).partition_key().map(str::to_owned)
    };
    assert_eq!(session(r#""outer""#, r#""inner""#).as_deref(), Some("outer"));
    assert_eq!(session("null", r#""inner""#).as_deref(), Some("inner"));
    assert_eq!(session(r#""""#, r#""inner""#).as_deref(), Some(""), "an empty key is a key");
    assert_eq!(session("null", "null"), None);
}

#[test]
fn an_unknown_event_keeps_its_session() {
    let key = |json: &str| read(json).partition_key().map(str::to_owned);
    assert_eq!(key(r#"{"type":"new","session_id":"s"}"#).as_deref(), Some("s"));
    assert_eq!(key(r#"{"type":"new","session_id":7}"#), None);
    assert_eq!(key(r#"{"type":"new","session_id":null}"#), None);
    assert_eq!(key(r#"{"type":"new"}"#), None);
    assert_eq!(key(r#"{"type":"hook","event":{"type":"new","session_id":"s"}}"#).as_deref(), Some("s"));
    assert_eq!(key(r#"{"type":"claude","session_id":"s","event":{"type":"new"}}"#).as_deref(), Some("s"));
}

#[test]
fn a_known_type_with_malformed_fields_is_refused_and_says_where() {
    for (json, why) in [
        (r#"{"type":"session_removed","session_id":"s"}"#, "session_removed event: missing field `reason`"),
        (
            r#"{"type":"session_removed","session_id":null,"reason":""}"#,
            "session_removed event: `session_id`: invalid type: null, expected a string",
        ),
        (
            r#"{"type":"claude","session_id":"s","event":{"type":"text_delta","text":5}}"#,
            "claude event: `event`: text_delta event: `text`: invalid type: integer `5`, expected a string",
        ),
        (
            r#"{"type":"claude","session_id":"s","event":{"type":"turn_complete","usage":{"input_tokens":-1,"output_tokens":0}}}"#,
            "claude event: `event`: turn_complete event: `usage`: invalid value: integer `-1`, expected u32",
        ),
        (r#"{"type":"claude","session_id":"s"}"#, "claude event: missing field `event`"),
        (
            r#"{"type":"hook","event":{"type":"pre_tool_use","tool_name":"Bash"}}"#,
            "hook event: `event`: pre_tool_use event: missing field `tool_input`",
        ),
        (
            r#"{"type":"hook","event":{"type":"pre_tool_use","tool_name":"Bash","input":{}}}"#,
            "hook event: `event`: pre_tool_use event: missing field `tool_input`",
        ),
        (
            r#"{"type":"client_connected","client_id":"a","client_id":"b"}"#,
            "client_connected event: duplicate field `client_id`",
        ),
        (r#"{"session_id":"s"}"#, "missing field `type`"),
        (r#"{"type":7}"#, "`type`: invalid type: integer `7`, expected a string"),
        (r#"{"type":"new","type":"newer"}"#, "duplicate field `type`"),
        (r#"{}"#, "missing field `type`"),
    ] {
        assert_eq!(refusal::<VibesEvent>(json), why, "{json}");
    }
}

#[test]
fn what_is_not_an_object_is_refused() {
    for json in
        [r#"["client_connected"]"#, r#"["client_connected","c"]"#, r#""turn_start""#, "7", "null", "[]"]
    {
        assert!(refusal::<VibesEvent>(json).contains("expected an event, which is a JSON object"), "{json}");
        assert!(refusal::<StoredOrBare>(json).contains("expected an event"), "{json}");
    }
    let nested = r#"{"type":"claude","session_id":"s","event":"turn_start"}"#;
    assert!(refusal::<VibesEvent>(nested).contains("expected an event"));
}

#[test]
fn an_envelope_is_read_wherever_the_id_stands() {
    let json = format!(r#"{{"type":"client_connected","client_id":"c","event_id":"{ID}"}}"#);
    let stored: StoredEvent = serde_json::from_str(&json).unwrap();
    assert_eq!(stored.event_id(), Some(ID.parse().unwrap()));
    assert_eq!(stored.event, VibesEvent::ClientConnected { client_id: "c".into() });
}

#[test]
fn an_id_that_is_none_makes_a_bare_event_and_a_malformed_one_an_error() {
    let with_id = |id: &str| format!(r#"{{"event_id":{id},"type":"client_connected","client_id":"c"}}"#);
    let bare: StoredOrBare = serde_json::from_str(&with_id("null")).unwrap();
    assert_eq!(bare, StoredOrBare::Bare(VibesEvent::ClientConnected { client_id: "c".into() }));
    assert_eq!(refusal::<StoredEvent>(&with_id("null")), "missing field `event_id`");
    assert!(refusal::<StoredOrBare>(&with_id("7")).starts_with("`event_id`: invalid type"));
    assert!(refusal::<StoredOrBare>(&with_id(r#""x""#)).starts_with("`event_id`: UUID parsing failed"));
}

#[test]
fn an_envelope_takes_its_id_out_of_an_unknown_event() {
    let json = format!(r#"{{"type":"new","event_id":"{ID}","b":1.0}}"#);
    let stored: StoredEvent = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&stored.event).unwrap(), r#"{"type":"new","b":1.0}"#);
    assert_eq!(
        serde_json::to_string(&stored).unwrap(),
        format!(r#"{{"event_id":"{ID}","type":"new","b":1.0}}"#)
    );
}

#[test]
fn an_unknown_event_that_was_read_bare_can_be_put_in_an_envelope_again() {
    let event = read(&format!(r#"{{"type":"new","event_id":"{ID}","b":1.0}}"#));
    assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"type":"new","b":1.0}"#);
    let stored = StoredEvent::new(event);
    let json = serde_json::to_string(&stored).unwrap();
    assert_eq!(serde_json::from_str::<StoredEvent>(&json).unwrap(), stored);
}

#[test]
fn an_older_shape_is_no_stricter_about_the_rest_of_the_event() {
    let hook = |more: &str| {
        let json = format!(r#"{{"type":"post_tool_use","tool_name":"t","output":"o"{more}}}"#);
        serde_json::from_str::<HookEvent>(&json)
    };
    let plain = hook("").unwrap();
    for unknown in [r#""x":1e400"#, r#""x":"\ud800""#, r#""x":1,"x":2"#] {
        assert_eq!(hook(&format!(",{unknown}")).unwrap(), plain, "{unknown}");
    }
    let HookEvent::PostToolUse { tool_input, .. } = hook(r#","tool_input":{"n":1e400}"#).unwrap() else {
        panic!()
    };
    assert_eq!(tool_input.unwrap().as_str(), r#"{"n":1e400}"#);
    // Nor is it laxer.
    for twice in [r#""tool_name":"u""#, r#""output":"p""#] {
        assert!(hook(&format!(",{twice}")).unwrap_err().to_string().contains("duplicate field"), "{twice}");
    }
}

#[test]
fn the_time_of_an_event_is_that_of_its_id() {
    let event = || VibesEvent::ClientConnected { client_id: "c".into() };
    let time = |id: u128| StoredEvent::with_id(EventId::from_u128(id), event()).timestamp();
    let version_and_variant = 0x7 << 76 | 0b10 << 62;
    assert_eq!(time(version_and_variant).map(|time| time.as_millis()), Some(0));
    let last = 0xffff_ffff_ffff_u128;
    assert_eq!(time(last << 80 | version_and_variant).map(|time| time.as_millis()), Some(last as u64));
    assert_eq!(time(0x4 << 76 | 0b10 << 62), None, "a UUIDv4 has no time");

    let (first, second) = (StoredEvent::new(event()), StoredEvent::new(event()));
    assert!(first.event_id < second.event_id, "ids of one process increase");
    assert!(first.timestamp().is_some());
}

/// What programs wrap events in. Serde buffers these in its own way, which forgets the text: what comes back is the
/// same value, though perhaps in another order.
#[test]
fn an_event_can_be_wrapped() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Message {
        Event { event: VibesEvent },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Framed {
        seq: u64,
        #[serde(flatten)]
        event: VibesEvent,
    }

    for json in [
        r#"{"type":"new","a":{"b":[1,2.5,null]}}"#,
        r#"{"type":"claude","session_id":"s","event":{"type":"turn_start"}}"#,
        r#"{"type":"claude","session_id":"s","event":{"type":"new","a":1}}"#,
        r#"{"type":"hook","session_id":"s","event":{"type":"pre_tool_use","session_id":null,"transcript_path":null,"cwd":null,"hook_event_name":null,"permission_mode":null,"tool_name":"Bash","tool_input":{"a":1},"tool_use_id":null}}"#,
    ] {
        let event = read(json);

        let message = Message::Event { event: event.clone() };
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(text, format!(r#"{{"kind":"event","event":{json}}}"#));
        let read = serde_json::from_str::<Message>(&text).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&message).unwrap());

        let framed = Framed { seq: 7, event: event.clone() };
        let text = serde_json::to_string(&framed).unwrap();
        assert_eq!(text, format!(r#"{{"seq":7,{}"#, &json[1..]));
        let read = serde_json::from_str::<Framed>(&text).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&framed).unwrap());

        let value = serde_json::to_value(&event).unwrap();
        let read = serde_json::from_value::<VibesEvent>(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), value);
    }
}

#[test]
fn an_event_can_be_built_from_a_value() {
    let value = json!({ "type": "session_removed", "session_id": "s", "reason": "r" });
    let removed = VibesEvent::SessionRemoved { session_id: "s".into(), reason: "r".into() };
    assert_eq!(serde_json::from_value::<VibesEvent>(value).unwrap(), removed);
}
