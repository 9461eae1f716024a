//! Shows why derived `Deserialize` implementations are not used for the configuration: they stop at the first mistake.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::problems;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Server {
    #[serde(rename = "workers")]
    _workers: Option<Spanned<usize>>,
    #[serde(rename = "tcp-idle-secs")]
    _tcp_idle_secs: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(rename = "server")]
    _server: Spanned<Server>,
}

/// An attempt to keep unknown keys with their line numbers. It fails, because `serde` drops the positions.
#[derive(Debug, Deserialize)]
struct Lenient {
    #[serde(flatten)]
    _rest: BTreeMap<String, Spanned<toml::Value>>,
}

#[test]
fn derived_code_reports_only_the_first_mistake_and_our_reader_reports_all() {
    let mistakes = ["\"two\"", "\"ten\"", "wrokers"];
    let text = "[server]\nworkers = \"two\"\ntcp-idle-secs = \"ten\"\nwrokers = 1\n";
    let derived = toml::from_str::<File>(text).expect_err("mistakes");
    let reported = |message: &str| {
        let found = mistakes.iter().filter(|part| message.contains(**part));
        found.count()
    };
    assert_eq!(reported(&derived.to_string()), 1, "{derived}");
    assert_eq!(reported(&problems(text).join("\n")), 3);
}

#[test]
fn a_flattened_table_of_unknown_keys_has_no_lines() {
    toml::from_str::<Lenient>("unknown = 1\n").expect_err("serde drops spans");
}
