//! Converts TOML values to the types of keys, and describes values of other types in messages.

use jiff::civil::Date;
use toml::de::{DeArray, DeTable, DeValue};

use super::findings::quote;
use super::moment::{Moment, MomentError};

/// A string or an array.
pub(super) enum Either<'i> {
    Word(String),
    Items(DeArray<'i>),
}

pub(super) fn into_either(value: DeValue<'_>) -> Result<Either<'_>, DeValue<'_>> {
    match value {
        DeValue::String(text) => Ok(Either::Word(text.into_owned())),
        DeValue::Array(items) => Ok(Either::Items(items)),
        other => Err(other),
    }
}

/// A string or a table.
pub(super) enum Item<'i> {
    Text(String),
    Table(DeTable<'i>),
}

pub(super) fn into_item(value: DeValue<'_>) -> Result<Item<'_>, DeValue<'_>> {
    match value {
        DeValue::String(text) => Ok(Item::Text(text.into_owned())),
        DeValue::Table(table) => Ok(Item::Table(table)),
        other => Err(other),
    }
}

pub(super) fn into_table(value: DeValue<'_>) -> Result<DeTable<'_>, DeValue<'_>> {
    match value {
        DeValue::Table(table) => Ok(table),
        other => Err(other),
    }
}

pub(super) fn into_array(value: DeValue<'_>) -> Result<DeArray<'_>, DeValue<'_>> {
    match value {
        DeValue::Array(items) => Ok(items),
        other => Err(other),
    }
}

pub(super) fn into_string(value: DeValue<'_>) -> Result<String, DeValue<'_>> {
    match value {
        DeValue::String(text) => Ok(text.into_owned()),
        other => Err(other),
    }
}

/// A number with or without a fraction.
pub(super) fn into_fraction(value: DeValue<'_>) -> Result<f64, DeValue<'_>> {
    let number = match &value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(_) => value
            .as_integer()
            .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
            .map(|number| number as f64),
        _ => None,
    };
    number
        .filter(|number: &f64| number.is_finite())
        .ok_or(value)
}

pub(super) fn into_integer(value: DeValue<'_>) -> Result<i64, DeValue<'_>> {
    let number = value
        .as_integer()
        .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
    number.ok_or(value)
}

pub(super) fn into_boolean(value: DeValue<'_>) -> Result<bool, DeValue<'_>> {
    value.as_bool().ok_or(value)
}

pub(super) fn into_moment(value: DeValue<'_>) -> Result<Moment, DeValue<'_>> {
    let moment = match &value {
        DeValue::Datetime(time) => time.to_string().parse(),
        _ => Err(MomentError::Form),
    };
    moment.map_err(|_| value)
}

pub(super) fn into_date(value: DeValue<'_>) -> Result<Date, DeValue<'_>> {
    let date = match &value {
        DeValue::Datetime(date) if date.time.is_none() => date.to_string().parse().ok(),
        _ => None,
    };
    date.ok_or(value)
}

pub(super) fn string_remedy(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Array(_) | DeValue::Table(_) => "write one text in quotes".to_owned(),
        _ => "put it in quotes".to_owned(),
    }
}

pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("a string ({})", quote(text)),
        DeValue::Integer(number) => format!("a whole number ({number})"),
        DeValue::Float(number) => format!("a number with a fraction ({number})"),
        DeValue::Boolean(value) => format!("{value}"),
        DeValue::Datetime(date) => format!("a date or time ({date})"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}
