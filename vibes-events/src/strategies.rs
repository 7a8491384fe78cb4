//! Arbitrary events, for the property tests of whoever stores or forwards them.
//!
//! Every variant comes, and so do empty, long and odd strings, numbers that no machine type holds, and events of
//! types that no version knows.

use std::fmt::Debug;

use event_log_core::EventId;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Union;

use crate::claude::{ClaudeEvent, Usage};
use crate::event::{InputSource, VibesEvent};
use crate::hook::{HookContext, HookEvent, NotificationType};
use crate::raw_json::RawJson;
use crate::stored::{StoredEvent, StoredOrBare};
use crate::unknown::UnknownEvent;

/// The strategies of an enum's variants, each with its type.
type Variants<E> = Vec<(&'static str, BoxedStrategy<E>)>;

/// Any event, bare.
pub fn vibes_event() -> impl Strategy<Value = VibesEvent> {
    one_of(vibes_variants())
}

/// Any event of the agent.
pub fn claude_event() -> impl Strategy<Value = ClaudeEvent> {
    one_of(claude_variants())
}

/// Any event of a hook.
pub fn hook_event() -> impl Strategy<Value = HookEvent> {
    one_of(hook_variants())
}

/// Any event with any UUIDv7.
pub fn stored_event() -> impl Strategy<Value = StoredEvent> {
    (event_id(), vibes_event()).prop_map(|(id, event)| StoredEvent::with_id(id, event))
}

/// Any event, with or without an id.
pub fn stored_or_bare() -> impl Strategy<Value = StoredOrBare> {
    prop_oneof![stored_event().prop_map(StoredOrBare::Stored), vibes_event().prop_map(StoredOrBare::Bare),]
}

/// Any UUIDv7.
pub fn event_id() -> impl Strategy<Value = EventId> {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    any::<u128>().prop_map(|bits| EventId::from_u128(bits & !VERSION & !VARIANT | 0x7 << 76 | 0b10 << 62))
}

/// Any JSON: well-formed, though not always something that a number or a string of Rust could hold.
pub fn raw_json() -> impl Strategy<Value = RawJson> {
    json_text().prop_map(|text| text.parse().expect("the strategy writes JSON"))
}

/// The text of any JSON value, with whitespace here and there.
fn json_text() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?";
    let string = prop_oneof![text().prop_map(|text| quoted(&text)), r#""(\\u[0-9a-fA-F]{4}|\\[nrt"/])*""#];
    let leaf =
        prop_oneof![Just("null".to_owned()), any::<bool>().prop_map(|b| b.to_string()), number, string];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let member = (text(), inner.clone()).prop_map(|(name, value)| format!("{} : {value}", quoted(&name)));
        prop_oneof![
            vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(", "))),
            vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(",\n"))),
        ]
    })
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("every string has a JSON text")
}

/// Any string, control characters and all.
fn text() -> impl Strategy<Value = String> + Clone {
    prop_oneof![8 => "(?s).{0,12}", 1 => "[a-z_]{0,12}", 1 => " {0,3}[\"\\\\/]{0,3}\u{10ffff}?"]
}

fn maybe_text() -> impl Strategy<Value = Option<String>> {
    option::of(text())
}

/// The JSON of an object whose type no version knows.
fn unknown_json() -> impl Strategy<Value = String> {
    // Not the names with a meaning at this level; the session is added on purpose.
    let name = text()
        .prop_filter("a name of its own", |name| !matches!(&**name, "type" | "event_id" | "session_id"));
    let members = vec((name, raw_json()), 0..4);
    let session = option::of(prop_oneof![text().prop_map(|id| quoted(&id)), Just("7".to_owned())]);
    ("x_[a-z]{0,8}", members, session).prop_map(|(event_type, members, session)| {
        let members = members.into_iter().map(|(name, value)| (quoted(&name), value.to_string()));
        let members = members
            .chain(Some((quoted("type"), quoted(&event_type))))
            .chain(session.map(|session| (quoted("session_id"), session)))
            .map(|(name, value)| format!("{name}:{value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    })
}

fn unknown_event() -> impl Strategy<Value = UnknownEvent> {
    unknown_json().prop_map(|json| match serde_json::from_str(&json) {
        Ok(VibesEvent::Unknown(unknown)) => unknown,
        other => panic!("{json} became {other:?}"),
    })
}

fn one_of<E: Clone + Debug + 'static>(variants: Variants<E>) -> Union<BoxedStrategy<E>> {
    Union::new(variants.into_iter().map(|(_, strategy)| strategy))
}

/// A strategy for every variant but the unknown one, which comes last without a type.
macro_rules! variants {
    ($($tag:literal => ($($field:ident: $strategy:expr),* $(,)?) $event:expr,)+ _ => $unknown:expr $(,)?) => {
        vec![
            $(($tag, (Just(()), $($strategy),*).prop_map(|((), $($field),*)| $event).boxed()),)+
            ("", $unknown.boxed()),
        ]
    };
}

pub(crate) fn claude_variants() -> Variants<ClaudeEvent> {
    variants! {
        "text_delta" => (text: text()) ClaudeEvent::TextDelta { text },
        "thinking_delta" => (text: text()) ClaudeEvent::ThinkingDelta { text },
        "tool_use_start" => (id: text(), name: text()) ClaudeEvent::ToolUseStart { id, name },
        "tool_input_delta" => (id: text(), delta: text()) ClaudeEvent::ToolInputDelta { id, delta },
        "tool_result" => (id: text(), output: text(), is_error: any::<bool>())
            ClaudeEvent::ToolResult { id, output, is_error },
        "turn_start" => () ClaudeEvent::TurnStart,
        "turn_complete" => (input_tokens: any::<u32>(), output_tokens: any::<u32>())
            ClaudeEvent::TurnComplete { usage: Usage { input_tokens, output_tokens } },
        "error" => (message: text(), recoverable: any::<bool>()) ClaudeEvent::Error { message, recoverable },
        "permission_request" => (id: text(), tool: text(), description: text())
            ClaudeEvent::PermissionRequest { id, tool, description },
        _ => unknown_event().prop_map(ClaudeEvent::Unknown),
    }
}

pub(crate) fn hook_variants() -> Variants<HookEvent> {
    variants! {
        "pre_tool_use" => (
            context: context(),
            permission_mode: maybe_text(),
            tool_name: text(),
            tool_input: raw_json(),
            tool_use_id: maybe_text(),
        ) HookEvent::PreToolUse { context, permission_mode, tool_name, tool_input, tool_use_id },
        "post_tool_use" => (
            context: context(),
            permission_mode: maybe_text(),
            tool_name: text(),
            tool_input: maybe_json(),
            tool_response: raw_json(),
            tool_use_id: maybe_text(),
        ) HookEvent::PostToolUse { context, permission_mode, tool_name, tool_input, tool_response, tool_use_id },
        "stop" => (context: context(), permission_mode: maybe_text(), stop_hook_active: any::<Option<bool>>())
            HookEvent::Stop { context, permission_mode, stop_hook_active },
        "session_start" => (context: context(), project_path: maybe_text())
            HookEvent::SessionStart { context, project_path },
        "user_prompt_submit" => (context: context(), prompt: maybe_text())
            HookEvent::UserPromptSubmit { context, prompt },
        "permission_request" => (context: context(), tool_name: maybe_text(), tool_input: maybe_json())
            HookEvent::PermissionRequest { context, tool_name, tool_input },
        "notification" => (context: context(), message: text(), kind: option::of(notification_type()))
            HookEvent::Notification { context, message, notification_type: kind },
        "subagent_stop" => (
            context: context(),
            permission_mode: maybe_text(),
            stop_hook_active: any::<Option<bool>>(),
            agent_id: text(),
            path: maybe_text(),
        ) HookEvent::SubagentStop {
            context, permission_mode, stop_hook_active, agent_id, agent_transcript_path: path,
        },
        "pre_compact" => (context: context()) HookEvent::PreCompact { context },
        "session_end" => (context: context(), reason: maybe_text()) HookEvent::SessionEnd { context, reason },
        _ => unknown_event().prop_map(HookEvent::Unknown),
    }
}

pub(crate) fn vibes_variants() -> Variants<VibesEvent> {
    variants! {
        "claude" => (session_id: text(), event: claude_event()) VibesEvent::Claude { session_id, event },
        "user_input" => (session_id: text(), content: text(), source: input_source())
            VibesEvent::UserInput { session_id, content, source },
        "permission_response" => (session_id: text(), request_id: text(), approved: any::<bool>())
            VibesEvent::PermissionResponse { session_id, request_id, approved },
        "session_created" => (session_id: text(), name: maybe_text())
            VibesEvent::SessionCreated { session_id, name },
        "session_state_changed" => (session_id: text(), state: text())
            VibesEvent::SessionStateChanged { session_id, state },
        "client_connected" => (client_id: text()) VibesEvent::ClientConnected { client_id },
        "client_disconnected" => (client_id: text()) VibesEvent::ClientDisconnected { client_id },
        "tunnel_state_changed" => (state: text(), url: maybe_text())
            VibesEvent::TunnelStateChanged { state, url },
        "ownership_transferred" => (session_id: text(), new_owner_id: text())
            VibesEvent::OwnershipTransferred { session_id, new_owner_id },
        "session_removed" => (session_id: text(), reason: text())
            VibesEvent::SessionRemoved { session_id, reason },
        "hook" => (session_id: maybe_text(), event: hook_event()) VibesEvent::Hook { session_id, event },
        _ => unknown_event().prop_map(VibesEvent::Unknown),
    }
}

fn context() -> impl Strategy<Value = HookContext> {
    (maybe_text(), maybe_text(), maybe_text(), maybe_text()).prop_map(
        |(session_id, transcript_path, cwd, hook_event_name)| HookContext {
            session_id,
            transcript_path,
            cwd,
            hook_event_name,
        },
    )
}

/// An optional field that holds any JSON cannot hold `null`: that is how its absence is written.
fn maybe_json() -> impl Strategy<Value = Option<RawJson>> {
    option::of(raw_json().prop_filter("null is absence", |json| json.as_str() != "null"))
}

fn input_source() -> impl Strategy<Value = InputSource> {
    prop_oneof![
        Just(InputSource::Cli),
        Just(InputSource::WebUi),
        Just(InputSource::Unknown),
        "x_.{0,4}".prop_map(InputSource::Other),
    ]
}

fn notification_type() -> impl Strategy<Value = NotificationType> {
    prop_oneof![
        Just(NotificationType::PermissionPrompt),
        Just(NotificationType::IdlePrompt),
        "x_.{0,4}".prop_map(NotificationType::Other),
    ]
}
