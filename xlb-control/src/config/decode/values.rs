//! The values of single keys: each decoder returns the value, or complains and returns nothing.

use std::{fmt::Display, net::IpAddr, ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

use super::{complaints::Complaints, section::Value};
use crate::config::{
    Named, Ports, Vip,
    rules::{self, Role},
    suggest,
};

/// A string.
pub(super) fn string<'a>(value: Value<'a>, out: &mut Complaints<'_>) -> Option<&'a str> {
    if let DeValue::String(text) = value.raw() {
        return Some(text);
    }
    let help = match value.raw() {
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            format!("write it in quotes: `\"{}\"`", out.source(&value.span()))
        }
        DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => {
            "write one string, in quotes".to_owned()
        }
    };
    value.wrong_type("a string", help, out);
    None
}

/// An integer within bounds.
pub(super) fn integer<T>(
    value: Value<'_>,
    bounds: &RangeInclusive<T>,
    out: &mut Complaints<'_>,
) -> Option<T>
where
    T: TryFrom<i64> + PartialOrd + Display + Copy,
{
    let DeValue::Integer(digits) = value.raw() else {
        let mut help = format!("write a number, such as `{}`", bounds.start());
        if let DeValue::String(text) = value.raw()
            && text.parse::<i64>().is_ok()
        {
            help = format!("write it without quotes: `{text}`");
        }
        value.wrong_type("an integer", help, out);
        return None;
    };
    let number = i64::from_str_radix(digits.as_str(), digits.radix())
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| bounds.contains(number));
    if number.is_none() {
        out.error(
            value.span(),
            format!(
                "`{}` is {}, out of range",
                value.key,
                out.source(&value.span())
            ),
            format!(
                "it may be from {} to {}",
                grouped(bounds.start()),
                grouped(bounds.end())
            ),
        );
    }
    number
}

/// `true` or `false`.
pub(super) fn boolean(value: Value<'_>, out: &mut Complaints<'_>) -> Option<bool> {
    if let DeValue::Boolean(yes) = value.raw() {
        return Some(*yes);
    }
    value.wrong_type("true or false", "write it without quotes".to_owned(), out);
    None
}

/// A port: 1 to 65,535.
pub(super) fn port(value: Value<'_>, out: &mut Complaints<'_>) -> Option<u16> {
    integer(value, &(1..=u16::MAX), out)
}

/// A port of 1 to 65,535, a range of them, or all.
pub(super) fn ports(value: Value<'_>, out: &mut Complaints<'_>) -> Option<Ports> {
    let DeValue::String(text) = value.raw() else {
        return port(value, out).map(Ports::from);
    };
    if text.parse::<i64>().is_ok() {
        return port(value, out).map(Ports::from);
    }
    let ports = text.parse::<Ports>();
    if ports.is_err() {
        out.error(
            value.span(),
            format!("`{text}` is neither a range of ports nor `all`"),
            "write a port as `443`, a range as `\"8000-8999\"`, and all ports as `\"all\"`"
                .to_owned(),
        );
    }
    ports.ok()
}

/// A VIP, or a prefix of such.
pub(super) fn vip(value: Value<'_>, out: &mut Complaints<'_>) -> Option<Vip> {
    let text = string(value, out)?;
    match rules::parse_vip(text) {
        Ok(vip) => Some(vip),
        Err(fault) => {
            out.error(value.span(), fault.message, fault.help);
            None
        }
    }
}

/// A name of a pool or service.
pub(super) fn name<'a>(value: Value<'a>, out: &mut Complaints<'_>) -> Option<&'a str> {
    let text = string(value, out)?;
    match rules::name(text) {
        Ok(()) => Some(text),
        Err(fault) => {
            out.error(value.span(), fault.message, fault.help);
            None
        }
    }
}

/// An address of a VIP or backend.
pub(super) fn address(value: Value<'_>, role: Role, out: &mut Complaints<'_>) -> Option<IpAddr> {
    let text = string(value, out)?;
    match rules::parse_address(text, role) {
        Ok(address) => Some(address),
        Err(fault) => {
            out.error(value.span(), fault.message, fault.help);
            None
        }
    }
}

/// One of an enumeration's values.
pub(super) fn choice<T: Named>(value: Value<'_>, out: &mut Complaints<'_>) -> Option<T> {
    let text = string(value, out)?;
    let found = T::ALL.iter().copied().find(|choice| choice.name() == text);
    if found.is_none() {
        out.error(
            value.span(),
            format!("`{}` can't be `{text}`", value.key),
            suggest::advice(text, T::ALL.iter().map(|choice| choice.name())),
        );
    }
    found
}

/// A duration with its unit, within bounds; `or` is what else may be written.
pub(super) fn duration(
    value: Value<'_>,
    bounds: &RangeInclusive<Duration>,
    or: &str,
    out: &mut Complaints<'_>,
) -> Option<Duration> {
    let number = match value.raw() {
        DeValue::String(text) => {
            let digits = text.trim();
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then_some(digits)
        }
        DeValue::Integer(digits) => Some(digits.as_str()),
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    };
    if let Some(digits) = number {
        out.error(
            value.span(),
            format!("`{}` has no unit", value.key),
            format!("add one, such as `\"{digits}s\"` or `\"{digits}ms\"`"),
        );
        return None;
    }
    let text = string(value, out)?;
    match humantime::parse_duration(text) {
        Ok(duration) if bounds.contains(&duration) => Some(duration),
        Ok(_) => {
            out.error(
                value.span(),
                format!("`{}` is {text}, out of range", value.key),
                format!(
                    "it may be from {} to {}",
                    humantime::format_duration(*bounds.start()),
                    humantime::format_duration(*bounds.end())
                ),
            );
            None
        }
        Err(error) => {
            out.error(
                value.span(),
                format!("`{}` is not a duration: {error}", value.key),
                format!("write a number and a unit, such as \"100ms\", \"1s\" or \"1h\"{or}"),
            );
            None
        }
    }
}

/// A number with commas between its thousands.
fn grouped(number: &impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
