//! Letters in the encodings of formats that do not say the names of fields.

use event_log_core::{DeadLetter, Partitionable as _};
use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde::ser::{Impossible, Serialize, SerializeStruct, Serializer};
use serde_json::Value;

/// What is written by a format that does not say the names of fields, as bincode and postcard are: values, one after the other.
#[derive(Default)]
struct Positional(Vec<Value>);

#[derive(Debug)]
struct Failed(String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl serde::ser::Error for Failed {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

macro_rules! refuse {
    ($($name:ident($($type:ty),*));*) => {$(
        fn $name(self, $(_: $type),*) -> Result<Self::Ok, Failed> {
            Err(Failed(stringify!($name).to_owned()))
        }
    )*};
}

impl Serializer for Positional {
    type Ok = Vec<Value>;
    type Error = Failed;
    type SerializeSeq = Impossible<Vec<Value>, Failed>;
    type SerializeTuple = Impossible<Vec<Value>, Failed>;
    type SerializeTupleStruct = Impossible<Vec<Value>, Failed>;
    type SerializeTupleVariant = Impossible<Vec<Value>, Failed>;
    type SerializeMap = Impossible<Vec<Value>, Failed>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<Vec<Value>, Failed>;

    refuse!(
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_f32(f32);
        serialize_f64(f64); serialize_char(char); serialize_str(&str); serialize_bytes(&[u8]); serialize_none();
        serialize_unit(); serialize_unit_struct(&'static str); serialize_unit_variant(&'static str, u32, &'static str)
    );

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Vec<Value>, Failed> {
        Err(Failed(String::new()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<Vec<Value>, Failed> {
        Err(Failed(String::new()))
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Vec<Value>, Failed> {
        Err(Failed(String::new()))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Failed> {
        Err(Failed(String::new()))
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Failed> {
        Err(Failed(String::new()))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Failed> {
        Err(Failed(String::new()))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Failed> {
        Err(Failed(String::new()))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Failed> {
        Err(Failed(String::new()))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Failed> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Failed> {
        Err(Failed(String::new()))
    }
}

impl SerializeStruct for Positional {
    type Ok = Vec<Value>;
    type Error = Failed;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Failed> {
        self.0.push(serde_json::to_value(value).map_err(|error| Failed(error.to_string()))?);
        Ok(())
    }

    fn end(self) -> Result<Vec<Value>, Failed> {
        Ok(self.0)
    }
}

/// Reads as many values as the struct has fields.
struct Reading(std::vec::IntoIter<Value>);

impl<'de> Deserializer<'de> for Reading {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("the format does not say what comes"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        struct Fields(std::vec::IntoIter<Value>, usize);
        impl<'de> SeqAccess<'de> for Fields {
            type Error = Error;
            fn next_element_seed<T: DeserializeSeed<'de>>(
                &mut self,
                seed: T,
            ) -> Result<Option<T::Value>, Error> {
                if self.1 == 0 {
                    return Ok(None);
                }
                self.1 -= 1;
                let value =
                    self.0.next().ok_or_else(|| serde::de::Error::custom("the payload ends too early"))?;
                let value = seed.deserialize(value.into_deserializer());
                value.map(Some).map_err(serde::de::Error::custom)
            }
        }
        visitor.visit_seq(Fields(self.0, fields.len()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

fn letter() -> DeadLetter {
    let json = r#"{"topic":"t","group":"g","position":{"partition":0,"offset":1},
        "id":"00000000-0000-0000-0000-000000000001","timestamp":5,"reason":"bad","payload":"YmFk"}"#;
    serde_json::from_str(json).unwrap()
}

/// c6: the letters of one group stay in order, so that they are in one partition.
#[test]
fn c6_the_key_of_a_letter_is_its_group() {
    assert_eq!(letter().partition_key(), Some("g"));
}

/// c6: "parked in a dead-letter log". A letter is serialised by the codec of its log, whatever that is.
#[test]
fn c6_a_letter_without_headers_can_be_read_in_every_format() {
    let letter = letter();
    let written = letter.serialize(Positional::default()).unwrap();
    let read = DeadLetter::deserialize(Reading(written.into_iter()));
    assert_eq!(read.map_err(|error| error.to_string()), Ok(letter));
}
