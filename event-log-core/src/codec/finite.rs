//! Looks at an event for numbers that JSON has not.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

/// A serializer that writes nothing, and fails at the first number that is not finite.
#[derive(Clone, Copy)]
pub(super) struct Check;

/// What was found, or what the event itself refused with.
#[derive(Debug)]
pub(super) struct NotFinite(String);

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFinite {}

impl ser::Error for NotFinite {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Checked = Result<(), NotFinite>;

fn number(value: f64) -> Checked {
    if value.is_finite() { Ok(()) } else { Err(NotFinite(format!("JSON has no number {value}"))) }
}

/// Values in which there is nothing to look for.
macro_rules! harmless {
    ($($method:ident($type:ty)),* $(,)?) => {$(
        fn $method(self, _: $type) -> Checked {
            Ok(())
        }
    )*};
}

impl Serializer for Check {
    type Ok = ();
    type Error = NotFinite;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    harmless! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
        serialize_u128(u128), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str),
    }

    fn serialize_f32(self, value: f32) -> Checked {
        number(value.into())
    }

    fn serialize_f64(self, value: f64) -> Checked {
        number(value)
    }

    fn serialize_none(self) -> Checked {
        Ok(())
    }

    fn serialize_unit(self) -> Checked {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Checked {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Checked {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Checked {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Checked {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, NotFinite> {
        Ok(self)
    }
}

/// Compounds, each of which looks at every part.
macro_rules! compound {
    ($($trait:ident::$method:ident),* $(,)?) => {$(
        impl ser::$trait for Check {
            type Ok = ();
            type Error = NotFinite;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
                value.serialize(Self)
            }

            fn end(self) -> Checked {
                Ok(())
            }
        }
    )*};
}

compound! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

impl ser::SerializeMap for Check {
    type Ok = ();
    type Error = NotFinite;

    /// serde_json refuses a key that is such a number by itself.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Checked {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
        value.serialize(Self)
    }

    fn end(self) -> Checked {
        Ok(())
    }
}

/// Structs, whose parts have names.
macro_rules! named {
    ($($trait:ident),* $(,)?) => {$(
        impl ser::$trait for Check {
            type Ok = ();
            type Error = NotFinite;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Checked {
                value.serialize(Self)
            }

            fn end(self) -> Checked {
                Ok(())
            }
        }
    )*};
}

named!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    enum Part {
        Nothing,
        Number(f64),
        Pair(f32, Option<f64>),
        Named { value: Option<f64> },
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_wherever_it_is() {
        for found in [
            vec![Part::Nothing, Part::Number(f64::NAN)],
            vec![Part::Pair(f32::INFINITY, None)],
            vec![Part::Pair(1.0, Some(f64::NEG_INFINITY))],
            vec![Part::Named { value: Some(f64::NAN) }],
        ] {
            let map: BTreeMap<_, _> = [("k", (found, ()))].into();
            let error = map.serialize(Check).unwrap_err();
            assert!(error.to_string().starts_with("JSON has no number"), "{error}");
        }
    }

    #[test]
    fn everything_else_passes() {
        let parts = [Part::Nothing, Part::Number(1.5), Part::Pair(0.0, None), Part::Named { value: None }];
        parts.serialize(Check).unwrap();
        ("text", 'c', [1_u8], -1_i128, true).serialize(Check).unwrap();
    }
}
