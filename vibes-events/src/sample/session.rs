//! One session of a sample, turn by turn.

use std::collections::VecDeque;

use serde_json::json;

use super::rng::Rng;
use super::sequence::mark;
use crate::claude::{ClaudeEvent, Usage};
use crate::event::{InputSource, VibesEvent};
use crate::hook::{HookContext, HookEvent, NotificationType};
use crate::raw_json::RawJson;

/// Events before and after what the agent does in a turn.
const TURN_FRAME: usize = 7;
/// A turn has something in its frame.
const TURN_MIN: usize = TURN_FRAME + 1;
const TURN_MAX: usize = 48;
/// The events of a tool's use, if the user is not asked.
const TOOL_EVENTS: usize = 5;
/// The events of asking the user.
const PERMISSION_EVENTS: usize = 3;

const PROMPTS: &[&str] = &[
    "Fix the failing test",
    "Explain this module",
    "Add a flag for verbose output",
    "Why does the build take so long?",
    "Rename the struct and its callers",
    "Schreibe größere Fehlermeldungen 🦀",
];
const WORDS: &[&str] =
    &["Let me", "look at", "the parser,", "then", "run", "the tests", "again.", "\n\nDone:"];
const THOUGHTS: &[&str] = &["The error points at", "Perhaps", "It would be simpler to", "First I should"];
const TOOLS: &[(&str, &str, &str)] = &[
    ("Bash", "command", "cargo test --workspace"),
    ("Read", "file_path", "/home/dev/project/src/lib.rs"),
    ("Grep", "pattern", "fn main"),
    ("WebFetch", "url", "https://docs.example.com/"),
];

/// A session that has a number of events to give.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    rng: Rng,
    id: String,
    number: usize,
    /// Events still to be given, the planned ones among them.
    remaining: usize,
    /// Events to be planned at the end of the session.
    closing: usize,
    /// The place of the next event to be planned.
    place: u64,
    planned: VecDeque<VibesEvent>,
}

impl Session {
    /// A session of this many events.
    pub(crate) fn new(mut rng: Rng, number: usize, events: usize) -> Self {
        let id = format!("session-{number:03}-{:08x}", rng.next() >> 32);
        let mut session =
            Self { rng, id, number, remaining: events, closing: 0, place: 0, planned: VecDeque::new() };
        session.open();
        session
    }

    pub(crate) fn remaining(&self) -> usize {
        self.remaining
    }

    /// The next event, of which at least one has to remain.
    pub(crate) fn next_event(&mut self) -> VibesEvent {
        if self.planned.is_empty() {
            self.plan();
        }
        let event = self.planned.pop_front().expect("a session plans while events remain");
        self.remaining -= 1;
        event
    }

    /// Up to two events open a session and up to two close it; a short one has fewer, but its removal rather
    /// than a second event to open it.
    fn open(&mut self) {
        let events = self.remaining;
        self.closing = (events / 2).min(2);
        let opening = (events - self.closing).min(2);
        if opening >= 1 {
            let number = self.number;
            self.push(|session_id, place| VibesEvent::SessionCreated {
                session_id,
                name: Some(mark(&format!("session {number}"), place)),
            });
        }
        if opening >= 2 {
            self.push_hook("SessionStart", |context, _| HookEvent::SessionStart {
                context,
                project_path: Some("/home/dev/project".to_owned()),
            });
        }
    }

    fn plan(&mut self) {
        let turns = self.remaining - self.closing;
        if turns == 0 {
            self.close();
        } else if turns < TURN_MIN {
            // Too short for a turn: the user talks to an agent that does not answer.
            for _ in 0..turns {
                self.user_input();
            }
        } else {
            let events = TURN_MIN + self.rng.below(TURN_MAX - TURN_MIN + 1);
            // What would be left over, and too short for a turn of its own, belongs to this one.
            self.turn(if turns < events + TURN_MIN { turns } else { events });
        }
    }

    fn close(&mut self) {
        if self.closing >= 2 {
            self.push_hook("SessionEnd", |context, place| HookEvent::SessionEnd {
                context,
                reason: Some(mark("prompt_input_exit", place)),
            });
        }
        self.push(|session_id, place| VibesEvent::SessionRemoved {
            session_id,
            reason: mark("completed", place),
        });
        self.closing = 0;
    }

    /// A turn of exactly this many events.
    fn turn(&mut self, events: usize) {
        let prompt = self.user_input();
        self.push_hook("UserPromptSubmit", |context, place| HookEvent::UserPromptSubmit {
            context,
            prompt: Some(mark(prompt, place)),
        });
        self.state("processing");
        self.push_claude(|_| ClaudeEvent::TurnStart);

        let mut budget = events - TURN_FRAME;
        while budget > 0 {
            let before = self.planned.len();
            self.step(budget);
            budget -= self.planned.len() - before;
        }

        let usage = Usage {
            input_tokens: 1_000 + self.rng.below(50_000) as u32,
            output_tokens: 10 + self.rng.below(5_000) as u32,
        };
        self.push_claude(|_| ClaudeEvent::TurnComplete { usage });
        self.push_hook("Stop", |context, _| HookEvent::Stop {
            context,
            permission_mode: Some("default".to_owned()),
            stop_hook_active: Some(false),
        });
        self.state("idle");
    }

    /// Something that the agent does, in at most `budget` events.
    fn step(&mut self, budget: usize) {
        // What the session cannot recover from ends the turn.
        if budget == 1 && self.rng.one_in(8) {
            return self.error("the context is full", false);
        }
        match self.rng.below(100) {
            0..20 if budget >= TOOL_EVENTS + PERMISSION_EVENTS => self.tool(),
            20..35 => {
                let text = self.rng.pick(THOUGHTS);
                self.push_claude(|place| ClaudeEvent::ThinkingDelta { text: mark(text, place) });
            }
            35..37 => self.error("the service is overloaded", true),
            37..39 => self.notification(),
            39..41 => self.subagent_stop(),
            41..42 => self.push_hook("PreCompact", |context, _| HookEvent::PreCompact { context }),
            42..43 => {
                let new_owner_id = format!("client-{}", 1 + self.rng.below(20));
                self.push(|session_id, _| VibesEvent::OwnershipTransferred { session_id, new_owner_id });
            }
            _ => {
                let text = self.rng.pick(WORDS);
                self.push_claude(|place| ClaudeEvent::TextDelta { text: mark(text, place) });
            }
        }
    }

    /// A tool is called, perhaps after the user was asked, and returns.
    fn tool(&mut self) {
        let (tool, argument, value) = self.rng.pick(TOOLS);
        let input = |place| RawJson::from(json!({ argument: mark(value, place) }));
        let call = format!("toolu_{:016x}", self.rng.next());
        let failed = self.rng.one_in(8);

        let id = call.clone();
        self.push_claude(|_| ClaudeEvent::ToolUseStart { id, name: tool.to_owned() });
        let id = call.clone();
        self.push_claude(|place| ClaudeEvent::ToolInputDelta { id, delta: input(place).to_string() });
        let tool_use_id = Some(call.clone());
        self.push_hook("PreToolUse", |context, place| HookEvent::PreToolUse {
            context,
            permission_mode: Some("default".to_owned()),
            tool_name: tool.to_owned(),
            tool_input: input(place),
            tool_use_id,
        });
        let allowed = !self.rng.one_in(3) || self.permission(tool, input);
        if !allowed {
            self.push_claude(|place| ClaudeEvent::ToolResult {
                id: call,
                output: mark("the user said no", place),
                is_error: true,
            });
            return;
        }
        let output = if failed { "exit status 101" } else { "ok" };
        let tool_use_id = Some(call.clone());
        self.push_hook("PostToolUse", |context, place| HookEvent::PostToolUse {
            context,
            permission_mode: None,
            tool_name: tool.to_owned(),
            tool_input: None,
            tool_response: RawJson::from(json!({ "output": mark(output, place) })),
            tool_use_id,
        });
        self.push_claude(|place| ClaudeEvent::ToolResult {
            id: call,
            output: mark(output, place),
            is_error: failed,
        });
    }

    /// The user is asked whether the agent may use a tool, and gives the answer that is returned.
    fn permission(&mut self, tool: &str, input: impl FnOnce(u64) -> RawJson) -> bool {
        let request = format!("permission_{:016x}", self.rng.next());
        let approved = !self.rng.one_in(10);
        self.push_hook("PermissionRequest", |context, place| HookEvent::PermissionRequest {
            context,
            tool_name: Some(tool.to_owned()),
            tool_input: Some(input(place)),
        });
        let id = request.clone();
        self.push_claude(|place| ClaudeEvent::PermissionRequest {
            id,
            tool: tool.to_owned(),
            description: mark(&format!("use {tool}"), place),
        });
        self.push(|session_id, _| VibesEvent::PermissionResponse {
            session_id,
            request_id: request,
            approved,
        });
        approved
    }

    /// The user says something: what is returned, without its place.
    fn user_input(&mut self) -> &'static str {
        let content = self.rng.pick(PROMPTS);
        let source = match self.rng.below(10) {
            0 => InputSource::Unknown,
            1..4 => InputSource::WebUi,
            _ => InputSource::Cli,
        };
        self.push(|session_id, place| VibesEvent::UserInput {
            session_id,
            content: mark(content, place),
            source,
        });
        content
    }

    fn state(&mut self, state: &str) {
        self.push(|session_id, _| VibesEvent::SessionStateChanged { session_id, state: state.to_owned() });
    }

    fn error(&mut self, message: &str, recoverable: bool) {
        self.push_claude(|place| ClaudeEvent::Error { message: mark(message, place), recoverable });
    }

    fn notification(&mut self) {
        let kind = match self.rng.below(3) {
            0 => None,
            1 => Some(NotificationType::PermissionPrompt),
            _ => Some(NotificationType::IdlePrompt),
        };
        self.push_hook("Notification", |context, place| HookEvent::Notification {
            context,
            message: mark("Claude is waiting for you", place),
            notification_type: kind,
        });
    }

    fn subagent_stop(&mut self) {
        let agent_id = format!("agent-{:08x}", self.rng.next() >> 32);
        self.push_hook("SubagentStop", |context, _| HookEvent::SubagentStop {
            context,
            permission_mode: None,
            stop_hook_active: Some(false),
            agent_transcript_path: Some(format!("/home/dev/.claude/{agent_id}.jsonl")),
            agent_id,
        });
    }

    fn push(&mut self, event: impl FnOnce(String, u64) -> VibesEvent) {
        let event = event(self.id.clone(), self.place);
        self.place += 1;
        self.planned.push_back(event);
    }

    fn push_claude(&mut self, event: impl FnOnce(u64) -> ClaudeEvent) {
        self.push(|session_id, place| VibesEvent::Claude { session_id, event: event(place) });
    }

    /// Every other hook script knows the session only from inside.
    fn push_hook(&mut self, name: &str, event: impl FnOnce(HookContext, u64) -> HookEvent) {
        let outer = self.rng.one_in(2);
        self.push(|session_id, place| {
            let context = HookContext {
                session_id: Some(session_id.clone()),
                transcript_path: Some(format!("/home/dev/.claude/{session_id}.jsonl")),
                cwd: Some("/home/dev/project".to_owned()),
                hook_event_name: Some(name.to_owned()),
            };
            VibesEvent::Hook { session_id: outer.then_some(session_id), event: event(context, place) }
        });
    }
}
