//! One list of variants per enum, which the compiler holds complete.

/// Gives an enum of events its `TYPES` and its `event_type`.
///
/// Both come from one list, and the match is exhaustive: a variant cannot be added without its tag, and a tag
/// cannot be added without the golden file that the tests demand for each of `TYPES`.
macro_rules! event_types {
    ($event:ident { $($variant:ident => $tag:literal,)+ }) => {
        impl $event {
            /// The `type` of every event that this version of the crate knows, in the order of the variants.
            pub const TYPES: &'static [&'static str] = &[$($tag),+];

            /// The event's `type`, as its JSON has it.
            #[must_use]
            pub fn event_type(&self) -> &str {
                match self {
                    $(Self::$variant { .. } => $tag,)+
                    Self::Unknown(unknown) => unknown.event_type(),
                }
            }
        }
    };
}

pub(crate) use event_types;
