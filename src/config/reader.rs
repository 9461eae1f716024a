//! Reads typed values from TOML tables, each with its key and line. Reports wrong types and unknown keys.

use jiff::civil::Date;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::convert::{
    Either, Item, describe, into_array, into_boolean, into_date, into_either, into_fraction,
    into_integer, into_item, into_moment, into_string, into_table, string_remedy,
};
use super::findings::{Findings, quote};
use super::moment::{Moment, MomentError};
use super::suggest::nearest;

/// A value with its key and line.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) key: &'static str,
    pub(super) line: u32,
    pub(super) value: T,
}

/// An array of strings.
pub(super) type Strings = At<Vec<At<String>>>;

/// Texts by language.
pub(super) type Texts = At<Vec<(String, At<String>)>>;

/// A table from which known keys are removed one by one. The keys that remain at the end are unknown.
pub(super) struct Reader<'a, 'i> {
    table: DeTable<'i>,
    /// The table's name in messages: `[server]`.
    title: String,
    line: u32,
    known: Vec<&'static str>,
    /// Missing keys, with the problem to report unless the key is only misspelt.
    missing: Vec<(&'static str, String)>,
    findings: &'a mut Findings,
}

impl<'a, 'i> Reader<'a, 'i> {
    /// Reads a file's table with `read`, then reports unknown and missing keys.
    pub(super) fn read_all<T>(
        table: DeTable<'i>,
        findings: &'a mut Findings,
        read: impl FnOnce(&mut Reader<'_, 'i>) -> T,
    ) -> T {
        let mut reader = Reader {
            table,
            title: "the file's top level".to_owned(),
            line: 1,
            known: Vec::new(),
            missing: Vec::new(),
            findings,
        };
        let result = read(&mut reader);
        reader.report_rest();
        result
    }

    /// The first line of the table.
    pub(super) fn line(&self) -> u32 {
        self.line
    }

    /// A section `[key]`; its default if it is missing or not a table.
    pub(super) fn section<T: Default>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_, 'i>) -> T,
    ) -> T {
        let remedy = |_: &DeValue<'_>| format!("write it as a section, [{key}]");
        let table = self.take(key, "a section", into_table, remedy);
        table.map_or_else(T::default, |table| {
            self.descend(table, format!("[{key}]"), read)
        })
    }

    /// An optional section, with its line.
    pub(super) fn section_at<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_, 'i>) -> T,
    ) -> Option<At<T>> {
        let remedy = |_: &DeValue<'_>| format!("write it as a section, [{key}]");
        let table = self.take(key, "a section", into_table, remedy)?;
        let line = table.line;
        let value = self.descend(table, format!("[{key}]"), read);
        Some(At { key, line, value })
    }

    /// A section `[key]` of texts by language.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Texts> {
        let remedy = |_: &DeValue<'_>| format!("write it as in {key} = {{ en = \"...\" }}");
        let table = self.take(key, "texts by language", into_table, remedy)?;
        let mut texts = Vec::new();
        for (language, value) in table.value {
            let line = self.findings.line_at(language.span().start);
            let (wanted, value) = ("a string", value.into_inner());
            let text = self.convert(key, line, value, wanted, into_string, string_remedy);
            texts.extend(text.map(|text| (language.into_inner().into_owned(), text)));
        }
        let line = table.line;
        Some(At {
            key,
            line,
            value: texts,
        })
    }

    /// All sections `[[key]]`, in the order of the file.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        read: impl FnMut(&mut Reader<'_, 'i>) -> T,
    ) -> Vec<T> {
        let remedy = format!("write each as a section, [[{key}]]");
        self.sections_not_table(key, &remedy, read)
    }

    /// Like [`sections`](Self::sections), with the remedy for a single section `[key]`.
    pub(super) fn sections_not_table<T>(
        &mut self,
        key: &'static str,
        remedy: &str,
        mut read: impl FnMut(&mut Reader<'_, 'i>) -> T,
    ) -> Vec<T> {
        let wanted = "an array of sections";
        let remedy = |_: &DeValue<'_>| remedy.to_owned();
        let items = self.take(key, wanted, into_array, remedy);
        let tables = items.map(|items| self.items(items, "a section", into_table, remedy));
        tables
            .into_iter()
            .flat_map(|tables| tables.value)
            .map(|table| self.descend(table, format!("[[{key}]]"), &mut read))
            .collect()
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<At<String>> {
        self.take(key, "a string", into_string, string_remedy)
    }

    /// A string without a default: reported if it is missing.
    pub(super) fn required_string(&mut self, key: &'static str) -> Option<At<String>> {
        self.require(key, "\"...\"");
        self.string(key)
    }

    /// Records the problem if a key is missing.
    fn require(&mut self, key: &'static str, value: &str) {
        if !self.table.contains_key(key) && !self.findings.damaged.contains(&self.line) {
            let message = format!("{} has no `{key}`: add {key} = {value}", self.title);
            self.missing.push((key, message));
        }
    }

    pub(super) fn strings(&mut self, key: &'static str) -> Option<Strings> {
        let items = self.take(
            key,
            "an array of strings",
            into_array,
            |value| match value {
                DeValue::String(text) => format!("put brackets around it: [{}]", quote(text)),
                _ => "write it as [\"...\", \"...\"]".to_owned(),
            },
        )?;
        Some(self.items(items, "a string", into_string, string_remedy))
    }

    /// An array of strings, converted by `plain`, and tables, read by `read`.
    pub(super) fn strings_or_tables<T>(
        &mut self,
        key: &'static str,
        remedy: &str,
        plain: impl Fn(At<String>) -> T,
        mut read: impl FnMut(&mut Reader<'_, 'i>) -> T,
    ) -> Option<At<Vec<At<T>>>> {
        let wanted = "an array of strings or tables";
        let items = self.take(key, wanted, into_array, |value| match value {
            DeValue::String(text) => format!("put brackets around it: [{}]", quote(text)),
            _ => remedy.to_owned(),
        })?;
        let is_empty = items.value.is_empty();
        let items = self.items(items, "a string or a table", into_item, string_remedy);
        let (line, mut values) = (items.line, Vec::new());
        for At { key, line, value } in items.value {
            let value = match value {
                Item::Text(value) => plain(At { key, line, value }),
                Item::Table(value) => {
                    let table = At { key, line, value };
                    self.descend(table, format!("a table of {key}"), &mut read)
                }
            };
            values.push(At { key, line, value });
        }
        // An array whose items are all invalid does not count as empty: the result is `None`.
        (is_empty || !values.is_empty()).then_some(At {
            key,
            line,
            value: values,
        })
    }

    /// Like [`strings_or_tables`](Self::strings_or_tables), without a default: reported if it is missing.
    pub(super) fn required_strings_or_tables<T>(
        &mut self,
        key: &'static str,
        remedy: &str,
        plain: impl Fn(At<String>) -> T,
        read: impl FnMut(&mut Reader<'_, 'i>) -> T,
    ) -> Option<At<Vec<At<T>>>> {
        self.require(key, "[\"...\"]");
        self.strings_or_tables(key, remedy, plain, read)
    }

    /// An optional table as the value of a key.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        remedy: &str,
        read: impl FnOnce(&mut Reader<'_, 'i>) -> T,
    ) -> Option<At<T>> {
        let table = self.take(key, "a table", into_table, |_| remedy.to_owned())?;
        let line = table.line;
        let value = self.descend(table, key.to_owned(), read);
        Some(At { key, line, value })
    }

    /// A word, or an array of strings.
    pub(super) fn word_or_strings(&mut self, key: &'static str) -> Option<At<WordOrStrings>> {
        let wanted = "a word or an array of strings";
        let remedy = |_: &DeValue<'_>| "write it as \"WORD\" or [\"...\", \"...\"]".to_owned();
        let At { key, line, value } = self.take(key, wanted, into_either, remedy)?;
        let value = match value {
            Either::Word(word) => WordOrStrings::Word(word),
            Either::Items(value) => {
                let items = At { key, line, value };
                let items = self.items(items, "a string", into_string, string_remedy);
                WordOrStrings::Strings(items.value)
            }
        };
        Some(At { key, line, value })
    }

    /// A word, or an array of strings, without a default: reported if it is missing.
    pub(super) fn required_word_or_strings(
        &mut self,
        key: &'static str,
    ) -> Option<At<WordOrStrings>> {
        self.require(key, "\"...\"");
        self.word_or_strings(key)
    }

    /// An array of strings without a default: reported if it is missing.
    pub(super) fn required_strings(&mut self, key: &'static str) -> Option<Strings> {
        self.require(key, "[\"...\"]");
        self.strings(key)
    }

    /// A whole number of 64 bits; validation checks other bounds.
    pub(super) fn integer(&mut self, key: &'static str) -> Option<At<i64>> {
        self.take(key, "a whole number", into_integer, |value| match value {
            DeValue::String(text) if text.parse::<i64>().is_ok() => "remove the quotes".to_owned(),
            DeValue::Integer(_) => "write a number that fits 64 bits".to_owned(),
            _ => "write digits, without quotes or fraction".to_owned(),
        })
    }

    /// A number that may have a fraction.
    pub(super) fn fraction(&mut self, key: &'static str) -> Option<At<f64>> {
        self.take(key, "a number", into_fraction, |value| match value {
            DeValue::String(text) if text.parse::<f64>().is_ok() => "remove the quotes".to_owned(),
            _ => "write it as in 0.01".to_owned(),
        })
    }

    /// A time with its offset from UTC.
    pub(super) fn moment(&mut self, key: &'static str) -> Option<At<Moment>> {
        let wanted = "a time with its offset, as in 2017-07-14T11:30:00+07:00";
        self.take(key, wanted, into_moment, |value| match value {
            DeValue::String(text) if text.parse::<Moment>().is_ok() => {
                "remove the quotes".to_owned()
            }
            DeValue::Datetime(time) if time.offset.is_none() && time.time.is_some() => {
                "add the offset from UTC: Z, +07:00, ...".to_owned()
            }
            DeValue::Datetime(time)
                if time.to_string().parse::<Moment>() == Err(MomentError::Beyond) =>
            {
                let never = match key {
                    "expires-at" => "; if the order has no end, leave it out",
                    _ => "",
                };
                format!("it {}{never}", MomentError::Beyond)
            }
            _ => "write date, time and offset, without quotes".to_owned(),
        })
    }

    /// A date without a time.
    pub(super) fn date(&mut self, key: &'static str) -> Option<At<Date>> {
        self.take(key, "a date, as in 2017-07-14", into_date, |value| {
            match value {
                DeValue::String(text) if text.parse::<Date>().is_ok() => "remove the quotes",
                _ => "write year, month and day, without quotes and time",
            }
            .to_owned()
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<At<bool>> {
        self.take(key, "true or false", into_boolean, |value| match value {
            DeValue::String(text) if matches!(&**text, "true" | "false") => {
                "remove the quotes".to_owned()
            }
            _ => "write true or false, without quotes".to_owned(),
        })
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        convert: impl Fn(DeValue<'i>) -> Result<T, DeValue<'i>>,
        remedy: impl Fn(&DeValue<'_>) -> String,
    ) -> Option<At<T>> {
        self.known.push(key);
        let (at, value) = self.table.remove_entry(key)?;
        let line = self.findings.line_at(at.span().start);
        self.convert(key, line, value.into_inner(), wanted, convert, remedy)
    }

    fn items<T>(
        &mut self,
        items: At<DeArray<'i>>,
        wanted: &str,
        convert: impl Fn(DeValue<'i>) -> Result<T, DeValue<'i>>,
        remedy: impl Fn(&DeValue<'_>) -> String,
    ) -> At<Vec<At<T>>> {
        let mut values = Vec::new();
        for item in items.value {
            let line = self.findings.line_at(item.span().start);
            let value = Spanned::into_inner(item);
            values.extend(self.convert(items.key, line, value, wanted, &convert, &remedy));
        }
        At {
            key: items.key,
            line: items.line,
            value: values,
        }
    }

    fn convert<T>(
        &mut self,
        key: &'static str,
        line: u32,
        value: DeValue<'i>,
        wanted: &str,
        convert: impl Fn(DeValue<'i>) -> Result<T, DeValue<'i>>,
        remedy: impl Fn(&DeValue<'_>) -> String,
    ) -> Option<At<T>> {
        match convert(value) {
            Ok(value) => Some(At { key, line, value }),
            Err(value) => {
                let (found, remedy) = (describe(&value), remedy(&value));
                let message = format!("{key} is {found}, must be {wanted}: {remedy}");
                self.findings.report(line, message);
                self.findings.mistyped.insert((self.line, key));
                None
            }
        }
    }

    fn descend<T>(
        &mut self,
        table: At<DeTable<'i>>,
        title: String,
        read: impl FnOnce(&mut Reader<'_, 'i>) -> T,
    ) -> T {
        let mut reader = Reader {
            table: table.value,
            title,
            line: table.line,
            known: Vec::new(),
            missing: Vec::new(),
            findings: self.findings,
        };
        let result = read(&mut reader);
        reader.report_rest();
        result
    }

    fn report_rest(self) {
        for (key, _) in &self.table {
            let name = key.get_ref();
            let near = nearest(name, self.known.iter().copied());
            let line = self.findings.line_at(key.span().start);
            self.findings.unknown.push((line, near));
            let remedy = match near {
                Some(near) => {
                    self.findings.mistyped.insert((self.line, near));
                    format!("did you mean `{near}`?")
                }
                None => format!("valid keys are {}", self.known.join(", ")),
            };
            let name = name.escape_debug();
            self.findings.report(
                line,
                format!("unknown key `{name}` in {}; {remedy}", self.title),
            );
        }
        for (key, message) in self.missing {
            if !self.findings.mistyped.contains(&(self.line, key)) {
                self.findings.report(self.line, message);
            }
        }
    }
}

/// A word, or an array of strings.
pub(super) enum WordOrStrings {
    Word(String),
    Strings(Vec<At<String>>),
}
