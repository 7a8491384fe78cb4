//! The place of an event in its session, written where there is text to write it into.

use crate::claude::ClaudeEvent;
use crate::event::VibesEvent;
use crate::hook::HookEvent;

/// `text` with its place in the session.
pub(crate) fn mark(text: &str, place: u64) -> String {
    format!("{text} #{place}")
}

/// The place of a sample event in its session, counted from 0 over all of the session's events.
///
/// It is found in every event that has text for people or a tool to read. `None` for those that have not
/// (`turn_start`, say), for those of no session, and for events that are not from a sample.
#[must_use]
pub fn sequence_of(event: &VibesEvent) -> Option<u64> {
    let text = match event {
        VibesEvent::SessionCreated { name, .. } => name.as_deref()?,
        VibesEvent::UserInput { content, .. } => content,
        VibesEvent::SessionRemoved { reason, .. } => reason,
        VibesEvent::Claude { event, .. } => text_of_claude(event)?,
        VibesEvent::Hook { event, .. } => text_of_hook(event)?,
        _ => return None,
    };
    let (_, place) = text.rsplit_once('#')?;
    let digits = place.find(|c: char| !c.is_ascii_digit()).unwrap_or(place.len());
    place[..digits].parse().ok()
}

fn text_of_claude(event: &ClaudeEvent) -> Option<&str> {
    match event {
        ClaudeEvent::TextDelta { text } | ClaudeEvent::ThinkingDelta { text } => Some(text),
        ClaudeEvent::ToolInputDelta { delta, .. } => Some(delta),
        ClaudeEvent::ToolResult { output, .. } => Some(output),
        ClaudeEvent::Error { message, .. } => Some(message),
        ClaudeEvent::PermissionRequest { description, .. } => Some(description),
        _ => None,
    }
}

fn text_of_hook(event: &HookEvent) -> Option<&str> {
    match event {
        HookEvent::PreToolUse { tool_input, .. } => Some(tool_input.as_str()),
        HookEvent::PostToolUse { tool_response, .. } => Some(tool_response.as_str()),
        HookEvent::PermissionRequest { tool_input, .. } => Some(tool_input.as_ref()?.as_str()),
        HookEvent::UserPromptSubmit { prompt, .. } => prompt.as_deref(),
        HookEvent::Notification { message, .. } => Some(message),
        HookEvent::SessionEnd { reason, .. } => reason.as_deref(),
        _ => None,
    }
}
