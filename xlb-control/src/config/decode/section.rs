//! A table of the file, and its keys.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{complaints::Complaints, schema};
use crate::config::suggest;

/// A table of the file: `[dataplane]`, one `[[pool]]`, one backend.
pub(super) struct Section<'a> {
    /// How messages call it, such as `[dataplane]`.
    pub(super) title: &'static str,
    /// Its header, or all of an inline table.
    pub(super) span: Range<usize>,
    table: &'a DeTable<'a>,
    /// Known keys that unknown ones probably mean; they are not complained about as missing too.
    meant: Vec<&'static str>,
}

/// A value with the key that it stands at.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    /// The key.
    pub(super) key: &'a str,
    /// Whether it is an element of the array that stands at the key.
    is_element: bool,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    /// A table; `known` are all keys that it may have, and others are complained about.
    pub(super) fn new(
        title: &'static str,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        known: &[&'static str],
        out: &mut Complaints<'_>,
    ) -> Self {
        let mut meant = Vec::new();
        for (key, _) in table {
            if !known.contains(&key.get_ref().as_ref()) {
                meant.extend(suggest::nearest(key.get_ref(), known.iter().copied()));
                out.error(
                    key.span(),
                    format!("unknown key `{}` in {title}", key.get_ref()),
                    advice(key.get_ref(), known),
                );
            }
        }
        Self {
            title,
            span,
            table,
            meant,
        }
    }

    /// The value of a key, if the table has it.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        let (key, value) = self.table.get_key_value(key)?;
        Some(Value {
            key: key.get_ref(),
            is_element: false,
            value,
        })
    }

    /// Whether a key is not there, and no other that may have been meant for it.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.get(key).is_none() && !self.meant.contains(&key)
    }

    /// Where a key stands.
    pub(super) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        Some(self.table.get_key_value(key)?.0.span())
    }

    /// Decodes a key's value, if the table has the key.
    pub(super) fn optional<'o, T>(
        &self,
        key: &str,
        out: &mut Complaints<'o>,
        decode: impl FnOnce(Value<'a>, &mut Complaints<'o>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).and_then(|value| decode(value, out))
    }

    /// Decodes a key's value, and complains when the table has no such key.
    pub(super) fn required<'o, T>(
        &self,
        key: &str,
        example: &str,
        out: &mut Complaints<'o>,
        decode: impl FnOnce(Value<'a>, &mut Complaints<'o>) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key);
        if value.is_none() && !self.meant.contains(&key) {
            out.error(
                self.span.clone(),
                format!("{} has no `{key}`", self.title),
                format!("add one, such as `{key} = {example}`"),
            );
        }
        value.and_then(|value| decode(value, out))
    }
}

/// What to do about an unknown key: another spelling, another table, or the list of what there is.
fn advice(written: &str, known: &[&'static str]) -> String {
    if let Some(key) = suggest::nearest(written, known.iter().copied()) {
        return format!("did you mean `{key}`?");
    }
    let homes: Vec<&str> = schema::TABLES
        .iter()
        .filter(|(_, keys)| keys.contains(&written))
        .map(|(title, _)| *title)
        .collect();
    if homes.is_empty() {
        return format!("use one of {}", suggest::list(known.iter().copied()));
    }
    format!("`{written}` belongs in {}", homes.join(" or "))
}

impl<'a> Value<'a> {
    pub(super) fn span(self) -> Range<usize> {
        self.value.span()
    }

    pub(super) fn raw(self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// How many values there are: those of an array, or else this one.
    pub(super) fn elements(self) -> usize {
        self.raw().as_array().map_or(1, |array| array.len())
    }

    /// Complains that the value has another type than what its key takes.
    pub(super) fn wrong_type(self, expected: &str, help: String, out: &mut Complaints<'_>) {
        let found = match self.raw() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let subject = if self.is_element {
            format!("an element of `{}`", self.key)
        } else {
            format!("`{}`", self.key)
        };
        out.error(
            self.span(),
            format!("{subject} must be {expected}, not {found}"),
            help,
        );
    }

    /// The elements of an array.
    pub(super) fn array(
        self,
        of_what: &str,
        example: &str,
        out: &mut Complaints<'_>,
    ) -> Option<Vec<Value<'a>>> {
        match self.raw() {
            DeValue::Array(array) => Some(
                array
                    .iter()
                    .map(|value| Value {
                        key: self.key,
                        is_element: true,
                        value,
                    })
                    .collect(),
            ),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => {
                self.wrong_type(
                    &format!("an array of {of_what}"),
                    format!("write it as `{example}`"),
                    out,
                );
                None
            }
        }
    }

    /// A table with the keys `known`.
    pub(super) fn section(
        self,
        title: &'static str,
        example: &str,
        known: &[&'static str],
        out: &mut Complaints<'_>,
    ) -> Option<Section<'a>> {
        match self.raw() {
            DeValue::Table(table) => Some(Section::new(title, self.span(), table, known, out)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                self.wrong_type("a table", format!("write it as `{example}`"), out);
                None
            }
        }
    }
}
