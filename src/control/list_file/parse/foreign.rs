//! Recognises lines in the formats of other programs, so that the error can name the format.
//!
//! Such a line gives no rule: an option or a record of a zone is more than a name, and a guess at its meaning could block
//! other names.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::from_utf8;

use serde::{Deserialize, Serialize};

use crate::names::typed;

/// The syntax of a bad line. Images store a variant's name, so it can't be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Foreign {
    /// A rule or the header of an adblock filter list.
    #[error(
        "adblock syntax; write the name alone, or `.x` for x and all names below it, or set the list's `format` to \"adblock\""
    )]
    Adblock,
    /// A comment that begins with a character which is not in the list's `comments`.
    #[error("a comment that begins with {prefix}: set the list's `comments` to \"#{0}\"", prefix = comment_prefix(*.0))]
    Comment(char),
    /// An option of dnsmasq.
    #[error("an option of dnsmasq, as in a list of `format = \"dnsmasq\"`")]
    Dnsmasq,
    /// An option of Unbound.
    #[error("an option of Unbound, as in a list of `format = \"unbound\"`")]
    Unbound,
    /// A statement of BIND's named.conf.
    #[error(
        "a statement of BIND's configuration; write the name alone, or `.x` for x and all names below it"
    )]
    Bind,
    /// A record or a directive of a zone's master file.
    #[error("a record of a zone, as in a policy zone of `format = \"rpz\"`")]
    Zone,
    /// A regular expression.
    #[error("a regular expression; lists hold names")]
    Regex,
    /// A rule of v2ray's domain lists.
    #[error(
        "a rule of v2ray's domain lists; write the name alone, or `.x` for x and all names below it"
    )]
    V2ray,
    /// A rule of Clash, or a line of its rule sets.
    #[error("a rule of Clash; write the name alone, or `.x` for x and all names below it")]
    Clash,
    /// A row of several columns.
    #[error("a row of a table, as in a list of `format = \"csv\"`")]
    Csv,
    /// Markup.
    #[error("HTML, as of a web page")]
    Html,
    /// JSON.
    #[error("JSON, as in a list of `format = \"json\"`")]
    Json,
}

/// The format of a file that differs from the format of its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// [`Format::Domains`](crate::config::Format::Domains).
    Domains,
    /// [`Format::Hosts`](crate::config::Format::Hosts).
    Hosts,
    /// URLs, one per line.
    Urls,
    /// Addresses without names.
    Addresses,
    /// A format of another program, or comments with characters that are not in the list's `comments`.
    Foreign(Foreign),
}

/// The format, and the remedy.
impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsupported = |f: &mut fmt::Formatter<'_>, format| {
            write!(
                f,
                "{format}, which is not supported: use the edition of the list that has plain names, or its hosts file"
            )
        };
        match self {
            Self::Domains => f.write_str("a list of names: set format = \"domains\""),
            Self::Hosts => f.write_str("a hosts file: set format = \"hosts\""),
            Self::Urls => f.write_str("a list of URLs: keep the host name of each alone"),
            Self::Addresses => f.write_str(
                "a list of IP addresses, which is for a firewall: rules here are on names",
            ),
            Self::Foreign(foreign) => match foreign {
                Foreign::Adblock => f.write_str("an adblock filter list: set format = \"adblock\""),
                Foreign::Dnsmasq => {
                    f.write_str("a configuration of dnsmasq: set format = \"dnsmasq\"")
                }
                Foreign::Unbound => {
                    f.write_str("a configuration of Unbound: set format = \"unbound\"")
                }
                Foreign::Bind => unsupported(f, "a configuration of BIND"),
                Foreign::Zone => f.write_str(
                    "a zone: if it is a response policy zone (RPZ), set format = \"rpz\"",
                ),
                Foreign::Regex => unsupported(f, "a list of regular expressions"),
                Foreign::V2ray => unsupported(f, "a domain list of v2ray"),
                Foreign::Clash => unsupported(f, "a rule set of Clash"),
                Foreign::Csv => f.write_str(
                    "a table: set format = \"csv\", and `column` to the title or the number of the column that has the \
                     names",
                ),
                Foreign::Json => f.write_str(
                    "JSON: set format = \"json\", and `column` to the key whose values are the names",
                ),
                Foreign::Html => f.write_str(
                    "a web page instead of a list: check the address that it is downloaded from",
                ),
                Foreign::Comment(first) => {
                    let prefix = comment_prefix(*first);
                    write!(
                        f,
                        "mostly comments that begin with {prefix}: set comments = \"#{first}\""
                    )
                }
            },
        }
    }
}

impl Foreign {
    /// The format whose comments begin with this character.
    pub(super) fn with_comment(first: char) -> Self {
        match first {
            '!' => Self::Adblock,
            ';' => Self::Zone,
            _ => Self::Bind,
        }
    }
}

/// The beginning of a comment, given its first character.
fn comment_prefix(first: char) -> &'static str {
    match first {
        '!' => "`!`",
        ';' => "`;`",
        _ => "`//`",
    }
}

/// A syntax, with the function that recognises it.
type Recogniser = (fn(&str) -> bool, Foreign);

/// The syntax of a line that is bad in its list's format, without its comment and outer whitespace.
pub(super) fn recognise(line: &[u8]) -> Option<Foreign> {
    let line = from_utf8(line).ok()?;
    if line.contains(|c: char| c.is_control() && !c.is_ascii_whitespace()) {
        return None;
    }
    let starts = |any: &[&str]| any.iter().any(|start| line.starts_with(start));
    if line.starts_with('<') {
        return Some(Foreign::Html);
    }
    if starts(&["!", ";", "//"]) {
        return line.chars().next().map(Foreign::Comment);
    }
    let recognisers: [Recogniser; 10] = [
        (is_v2ray, Foreign::V2ray),
        (is_clash, Foreign::Clash),
        (is_adblock, Foreign::Adblock),
        (is_dnsmasq, Foreign::Dnsmasq),
        (is_unbound, Foreign::Unbound),
        (is_bind, Foreign::Bind),
        (is_zone, Foreign::Zone),
        (is_regex, Foreign::Regex),
        (is_json, Foreign::Json),
        (is_csv, Foreign::Csv),
    ];
    let found = recognisers.into_iter().find(|(matches, _)| matches(line));
    found.map(|(_, syntax)| syntax)
}

fn is_adblock(line: &str) -> bool {
    let starts = ["||", "@@", "|http", "[Adblock", "[uBlock", "[AdGuard"];
    // Cosmetic rules, scriptlets, and AdGuard's extensions.
    let separators = ["##", "#@#", "#?#", "#$#", "#%#"];
    starts.iter().any(|start| line.starts_with(start))
        || separators.iter().any(|separator| line.contains(separator))
        || (!line.starts_with('^') && (line.ends_with(['^', '|']) || line.contains("^$")))
}

/// `domain:x`, `regexp:^x` or `include:file`, optionally followed by attributes.
fn is_v2ray(line: &str) -> bool {
    let kinds = ["domain", "full", "keyword", "regexp", "include", "geosite"];
    line.split_once(':').is_some_and(|(kind, value)| {
        kinds.contains(&kind) && value.starts_with(|c: char| !c.is_whitespace() && c != '/')
    })
}

/// The first line or an item of a rule set (`- '+.x'`), or a rule (`DOMAIN-SUFFIX,x`).
fn is_clash(line: &str) -> bool {
    const KINDS: [&str; 12] = [
        "DOMAIN",
        "DOMAIN-SUFFIX",
        "DOMAIN-KEYWORD",
        "DOMAIN-REGEX",
        "DOMAIN-WILDCARD",
        "DOMAIN-SET",
        "RULE-SET",
        "GEOSITE",
        "GEOIP",
        "IP-CIDR",
        "IP-CIDR6",
        "PROCESS-NAME",
    ];
    if line == "payload:" || line.starts_with("+.") {
        return true;
    }
    let item = line.strip_prefix("- ").map(str::trim);
    let quoted = |item: &str| {
        item.len() > 2
            && ['\'', '"']
                .iter()
                .any(|mark| item.starts_with(*mark) && item.ends_with(*mark))
    };
    let is_rule = |rule: &str| {
        let rule = rule.split_once(',');
        rule.is_some_and(|(kind, value)| KINDS.contains(&kind) && !value.is_empty())
    };
    item.is_some_and(quoted) || is_rule(item.unwrap_or(line))
}

/// `key=/name/...`, as in `address=/x/` and `server=/x/`.
fn is_dnsmasq(line: &str) -> bool {
    line.split_once("=/").is_some_and(|(key, _)| {
        !key.is_empty() && key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'-'))
    })
}

fn is_unbound(line: &str) -> bool {
    line == "server:"
        || [
            "local-zone",
            "local-data",
            "local-data-ptr",
            "domain-insecure",
        ]
        .iter()
        .any(|key| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(':'))
        })
}

fn is_bind(line: &str) -> bool {
    line.strip_prefix("zone")
        .is_some_and(|rest| rest.trim_start().starts_with('"'))
}

/// `$TTL 300`, or `[owner] [TTL] [IN] TYPE data`.
fn is_zone(line: &str) -> bool {
    if ["$TTL", "$ORIGIN", "$INCLUDE", "$GENERATE"]
        .iter()
        .any(|directive| line.starts_with(directive))
    {
        return true;
    }
    let words: Vec<_> = line.split_ascii_whitespace().take(6).collect();
    let is_ttl_or_class = |word: &&str| {
        word.eq_ignore_ascii_case("IN")
            || (word.starts_with(|c: char| c.is_ascii_digit())
                && word.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    let is_record = |at: usize| match (words.get(at), words.get(at + 1)) {
        (Some(rtype), Some(data)) => is_type_with_data(rtype, data),
        _ => false,
    };
    // A record without an owner has that of the record before it.
    [0, 1].into_iter().any(|owners| {
        let skipped = words
            .iter()
            .skip(owners)
            .take_while(|word| is_ttl_or_class(word));
        is_record(owners + skipped.count())
    })
}

fn is_type_with_data(rtype: &str, data: &str) -> bool {
    let is = |word: &str| rtype.eq_ignore_ascii_case(word);
    (is("A") && data.parse::<Ipv4Addr>().is_ok())
        || (is("AAAA") && data.parse::<Ipv6Addr>().is_ok())
        || ["CNAME", "DNAME", "SOA", "NS", "PTR", "MX", "TXT"]
            .into_iter()
            .any(is)
}

fn is_regex(line: &str) -> bool {
    let enclosed = line.len() > 2 && line.starts_with('/') && line.ends_with('/');
    let anchored = line.starts_with(['^', '(']) || (line.ends_with('$') && line.contains('.'));
    let escaped = line.contains("\\.") && line.contains(['^', '$', '[', '(', '|', '+', '?', '*']);
    let is_word = !line.contains(char::is_whitespace);
    is_word && (enclosed || anchored || escaped)
}

fn is_json(line: &str) -> bool {
    let body = line.trim_end_matches(',');
    let quoted =
        body.len() > 1 && body.starts_with('"') && body.ends_with(['"', '[', '{', '}', ']']);
    let bracket = body.starts_with(['{', '}', '[', ']']);
    bracket || (quoted && !body.contains("\","))
}

/// Fields separated by commas, semicolons or tabs, one of which is a name with a dot.
fn is_csv(line: &str) -> bool {
    let is_name = |field: &str| {
        let field = field.trim_matches(|c: char| c == '"' || c.is_ascii_whitespace());
        field.contains('.') && typed::one(field).is_ok()
    };
    [',', ';', '\t'].into_iter().any(|separator| {
        line.contains(separator)
            && !line.trim_end_matches(separator).is_empty()
            && line
                .split(separator)
                .filter(|field| !field.trim().is_empty())
                .count()
                > 1
            && line.split(separator).any(is_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_formats_are_recognised() {
        for (line, syntax) in [
            ("||ads.example^", Some(Foreign::Adblock)),
            ("||ads.example^$third-party,image", Some(Foreign::Adblock)),
            ("@@||ads.example^|", Some(Foreign::Adblock)),
            ("|https://ads.example/", Some(Foreign::Adblock)),
            ("[Adblock Plus 2.0]", Some(Foreign::Adblock)),
            ("a.example,b.example##.banner", Some(Foreign::Adblock)),
            ("a.example#@#.banner", Some(Foreign::Adblock)),
            ("! Title: ads", Some(Foreign::Comment('!'))),
            ("; a zone's comment", Some(Foreign::Comment(';'))),
            ("// a comment", Some(Foreign::Comment('/'))),
            ("address=/ads.example/#", Some(Foreign::Dnsmasq)),
            ("local=/ads.example/", Some(Foreign::Dnsmasq)),
            (
                "local-zone: \"ads.example.\" always_null",
                Some(Foreign::Unbound),
            ),
            (
                "local-data: \"ads.example A 0.0.0.0\"",
                Some(Foreign::Unbound),
            ),
            ("server:", Some(Foreign::Unbound)),
            (
                "zone \"ads.example\" { type master; };",
                Some(Foreign::Bind),
            ),
            ("$TTL 2h", Some(Foreign::Zone)),
            (
                "@ IN SOA localhost. root.localhost. (1 2 3 4 5)",
                Some(Foreign::Zone),
            ),
            ("IN NS localhost.", Some(Foreign::Zone)),
            ("NS localhost.", Some(Foreign::Zone)),
            ("*.ads.example 1h IN CNAME .", Some(Foreign::Zone)),
            ("ads.example cname rpz-drop.", Some(Foreign::Zone)),
            ("ads.example 300 A 192.0.2.1", Some(Foreign::Zone)),
            ("ads.example AAAA 2001:db8::1", Some(Foreign::Zone)),
            ("^ads?\\.", Some(Foreign::Regex)),
            ("(^|\\.)ads\\.example$", Some(Foreign::Regex)),
            ("/ads[0-9]+/", Some(Foreign::Regex)),
            ("ads[0-9]+\\.example", Some(Foreign::Regex)),
            ("1,ads.example", Some(Foreign::Csv)),
            ("\"ads.example\",\"malware, or so\"", Some(Foreign::Csv)),
            ("ads.example;tracking", Some(Foreign::Csv)),
            ("ads.example\t2024-01-01 12:00", Some(Foreign::Csv)),
            ("regexp:^ads", Some(Foreign::V2ray)),
            ("domain:ads.example", Some(Foreign::V2ray)),
            ("full:ads.example @ads", Some(Foreign::V2ray)),
            ("keyword:ads", Some(Foreign::V2ray)),
            ("include:category-ads", Some(Foreign::V2ray)),
            ("payload:", Some(Foreign::Clash)),
            ("+.ads.example", Some(Foreign::Clash)),
            ("- '+.ads.example'", Some(Foreign::Clash)),
            ("- \"ads.example\"", Some(Foreign::Clash)),
            ("- DOMAIN-SUFFIX,ads.example", Some(Foreign::Clash)),
            ("DOMAIN-SUFFIX,ads.example,REJECT", Some(Foreign::Clash)),
            ("DOMAIN-KEYWORD,ads", Some(Foreign::Clash)),
            ("IP-CIDR,192.0.2.0/24,no-resolve", Some(Foreign::Clash)),
            ("<html>", Some(Foreign::Html)),
            ("<!DOCTYPE html>", Some(Foreign::Html)),
            ("{\"name\": \"ads.example\"},", Some(Foreign::Json)),
            ("\"ads.example\",", Some(Foreign::Json)),
            ("\"names\": [", Some(Foreign::Json)),
            ("],", Some(Foreign::Json)),
            ("\"ads.example\"]", Some(Foreign::Json)),
        ] {
            assert_eq!(recognise(line.as_bytes()), syntax, "{line}");
        }
    }

    #[test]
    fn a_line_with_a_mistake_is_not_recognised_as_another_format() {
        for line in [
            "a..example",
            "domain:",
            "other:ads.example",
            "DOMAIN",
            "- a thought",
            "+1",
            "a.example b.example",
            "this a test",
            "a in the text",
            "ads.*.example",
            "https://ads.example/",
            "192.0.2.1",
            "a_$.example",
            "Hello, world",
            ",",
            ";;",
            "/",
            "a\0||b^",
        ] {
            let syntax = recognise(line.as_bytes());
            assert!(
                syntax.is_none() || line.starts_with(';'),
                "{line}: {syntax:?}"
            );
        }
        assert_eq!(recognise(b"||\xFF^"), None);
    }
}
