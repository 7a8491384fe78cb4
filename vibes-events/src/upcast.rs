//! Older shapes of the events, and how they become the present one.
//!
//! The hook events changed shape once, and records of both shapes are in the logs of the field. A record does
//! not say which [version](SCHEMA_VERSION) it has: no producer ever wrote one, and the schema stays as it is.
//! Its shape tells, because the old fields and the new have different names.
//!
//! | version 1 | version 2 | in |
//! |---|---|---|
//! | `input`, a string | `tool_input`: the object of which the string is the text, else the string | `pre_tool_use`, `post_tool_use`, `permission_request` |
//! | `output`, `success` | `tool_response`: an object of the two, as far as they are there | `post_tool_use` |
//! | `subagent_id` | `agent_id` | `subagent_stop` |
//!
//! A field is made only where it is absent: a record that has the new one is of the new shape, and an old name in
//! it is a member that this crate does not know.
//!
//! Reading a [`HookEvent`](crate::HookEvent), alone or inside of another event, upcasts it. The functions here are
//! what it uses: pure, from JSON to JSON, for programs that rewrite their records for good.

use serde_json::{Map, Value};

/// The version of the schema that this crate writes. It reads this and every older one.
pub const SCHEMA_VERSION: u32 = 2;

type Object = Map<String, Value>;

/// One field that has changed.
struct Change {
    events: &'static [&'static str],
    old: &'static [&'static str],
    new: &'static str,
    /// The new value from an event of the old shape; `None` when it is not that shape after all.
    value: fn(&Object) -> Option<Value>,
}

const HOOK_CHANGES: &[Change] = &[
    Change {
        events: &["pre_tool_use", "post_tool_use", "permission_request"],
        old: &["input"],
        new: "tool_input",
        value: tool_input,
    },
    Change {
        events: &["post_tool_use"],
        old: &["output", "success"],
        new: "tool_response",
        value: tool_response,
    },
    Change { events: &["subagent_stop"], old: &["subagent_id"], new: "agent_id", value: agent_id },
];

/// A hook event of any version in the present one: itself when it is that already, or nothing that this crate
/// knows.
///
/// ```
/// use serde_json::json;
/// use vibes_events::upcast;
///
/// let old = json!({ "type": "pre_tool_use", "tool_name": "Bash", "input": r#"{"command":"ls"}"# });
/// let new = json!({ "type": "pre_tool_use", "tool_name": "Bash", "tool_input": { "command": "ls" } });
///
/// let serde_json::Value::Object(old) = old else { unreachable!("it is an object") };
/// let upcast = upcast::hook(old);
/// assert_eq!(serde_json::Value::Object(upcast.clone()), new);
/// assert_eq!(upcast::hook(upcast.clone()), upcast);
/// ```
#[must_use]
pub fn hook(mut event: Map<String, Value>) -> Map<String, Value> {
    let event_type = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    for change in HOOK_CHANGES {
        if !change.concerns(&event_type, |name| event.contains_key(name)) {
            continue;
        }
        if let Some(value) = (change.value)(&event) {
            for old in change.old {
                event.remove(*old);
            }
            event.insert(change.new.to_owned(), value);
        }
    }
    event
}

/// The fields of which [`hook`] may make others. There are none in an event of the present shape.
pub(crate) fn old_hook_fields(event_type: &str, has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let changes = HOOK_CHANGES.iter().filter(|change| change.concerns(event_type, &has));
    changes.flat_map(|change| change.old).copied().collect()
}

impl Change {
    fn concerns(&self, event_type: &str, has: impl Fn(&str) -> bool) -> bool {
        self.events.contains(&event_type) && self.old.iter().any(|old| has(old)) && !has(self.new)
    }
}

/// Hook scripts used to pass on the arguments as one string: the text of an object.
fn tool_input(event: &Object) -> Option<Value> {
    let text = event.get("input")?.as_str()?;
    let object = serde_json::from_str::<Object>(text).map(Value::Object);
    Some(object.unwrap_or_else(|_| Value::String(text.to_owned())))
}

fn tool_response(event: &Object) -> Option<Value> {
    let field = |name: &str| Some((name.to_owned(), event.get(name)?.clone()));
    Some(Value::Object(["output", "success"].into_iter().filter_map(field).collect()))
}

fn agent_id(event: &Object) -> Option<Value> {
    event.get("subagent_id").cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(old: Value, new: &Value) {
        let Value::Object(old) = old else { panic!("not an object") };
        let upcast = hook(old);
        assert_eq!(Value::Object(upcast.clone()), *new);
        assert_eq!(hook(upcast), *new.as_object().unwrap(), "not idempotent");
    }

    #[track_caller]
    fn check_unchanged(event: &Value) {
        check(event.clone(), event);
    }

    #[test]
    fn a_string_of_arguments_becomes_the_object_that_it_spells() {
        for event_type in ["pre_tool_use", "post_tool_use", "permission_request"] {
            check(
                json!({ "type": event_type, "input": " {\"a\": [1]} " }),
                &json!({ "type": event_type, "tool_input": { "a": [1] } }),
            );
        }
    }

    #[test]
    fn a_string_that_spells_no_object_stays_a_string() {
        for text in ["ls -la", "", "42", "null", "[1]", "{\"cut\":"] {
            check(
                json!({ "type": "pre_tool_use", "input": text }),
                &json!({ "type": "pre_tool_use", "tool_input": text }),
            );
        }
    }

    #[test]
    fn output_and_success_become_the_response() {
        let response = |fields: Value| json!({ "type": "post_tool_use", "tool_response": fields });
        let old = json!({ "type": "post_tool_use", "output": "ok", "success": true });
        check(old, &response(json!({ "output": "ok", "success": true })));
        check(json!({ "type": "post_tool_use", "output": "ok" }), &response(json!({ "output": "ok" })));
        check(json!({ "type": "post_tool_use", "success": false }), &response(json!({ "success": false })));
    }

    #[test]
    fn a_subagent_becomes_an_agent() {
        check(
            json!({ "type": "subagent_stop", "subagent_id": "a" }),
            &json!({ "type": "subagent_stop", "agent_id": "a" }),
        );
    }

    #[test]
    fn a_field_that_is_there_is_left_alone() {
        check_unchanged(&json!({ "type": "pre_tool_use", "tool_input": null, "input": "old" }));
        check_unchanged(
            &json!({ "type": "post_tool_use", "tool_response": 1, "output": "old", "success": true }),
        );
        check_unchanged(&json!({ "type": "subagent_stop", "agent_id": "new", "subagent_id": "old" }));
    }

    #[test]
    fn other_events_are_left_alone() {
        check_unchanged(&json!({ "type": "stop", "input": "x", "output": "x", "subagent_id": "x" }));
        check_unchanged(&json!({ "type": "from_the_future", "input": "x" }));
        check_unchanged(&json!({ "input": "x" }));
        check_unchanged(&json!({ "type": "pre_tool_use", "input": { "not": "a string" } }));
    }
}
