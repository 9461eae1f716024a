//! Files that are cut off: a rule of such a file is one of the whole file, or on the line that is cut.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::formats::{shown, with_column};
use super::*;

/// A list with lines of all kinds, in each format.
fn lists() -> Vec<(Notation, String)> {
    let mut lists = Vec::new();
    let mut add = |notation: Notation, head: &str, lines: &[&str]| {
        let mut text = head.to_owned();
        for number in 0..6 {
            for line in lines {
                text += &line.replace("NAME", &format!("ads{number}.example.com"));
                text.push(if number == 3 { '\r' } else { '\n' });
            }
        }
        lists.push((notation, text));
    };
    add(
        of(Format::Domains),
        "# a\n",
        &["NAME", ".NAME # all", "*.NAME", "bücher.NAME"],
    );
    add(
        of(Format::Hosts),
        "# a\n",
        &["0.0.0.0 NAME w.NAME", "::1\tx.NAME # all"],
    );
    add(
        of(Format::Wildcard),
        "",
        &["*.NAME", "NAME", "=w.NAME", "*-NAME", "ads[0-9]*.NAME"],
    );
    add(
        of(Format::Adblock),
        "[Adblock Plus 2.0]\n",
        &[
            "||NAME^",
            "@@||ok.NAME^$important",
            "||d.NAME^$denyallow=x.d.NAME,dnstype=A|AAAA",
            "||r.NAME^$dnsrewrite=192.0.2.1",
            "0.0.0.0 h.NAME",
            "p.NAME",
            "##.banner",
        ],
    );
    add(
        of(Format::Dnsmasq),
        "port=53\n",
        &[
            "address=/NAME/a.NAME/#",
            "address=/i.NAME/192.0.2.1",
            "address=/i.NAME/::2",
            "server=/ok.NAME/192.0.2.53",
        ],
    );
    add(
        of(Format::Unbound),
        "server:\n",
        &[
            "local-zone: \"NAME.\" always_null",
            "local-zone: 'r.NAME' redirect",
            "local-data: \"r.NAME A 192.0.2.1\"",
            "local-data: \"t.NAME TXT 'text'\"",
            "local-zone: \"n.NAME\" refuse",
        ],
    );
    add(
        with_column(Format::Csv, "host"),
        "id,host\n",
        &["1,NAME", "2,\"w.NAME\",\"why, or\nnot\"", "3,.x.NAME,"],
    );
    add(
        with_column(Format::Json, "host"),
        "",
        &["{\"host\": [\"NAME\", \"*.w.NAME\"]}"],
    );
    lists
}

/// The rules of a file, without those on its last lines; and the number of all its lines.
fn rules(bytes: &[u8], notation: &Notation, last: u32) -> HashSet<String> {
    let mut rules = HashSet::new();
    read(bytes, notation.clone(), None, |rule| {
        if rule.line < last {
            rules.insert(shown(rule));
        }
    });
    rules
}

/// The number of lines.
fn lines(bytes: &[u8]) -> u32 {
    let mut lines = 0;
    let mut cutter = Cutter::new(&Notation::default());
    cutter.feed(bytes, |number, _| lines = number);
    cutter.finish(|number, _| lines = number);
    lines
}

/// Checks a file that is cut after some of its bytes.
fn check(bytes: &[u8], notation: &Notation, whole: &HashSet<String>, cut: usize) {
    let start = &bytes[..cut];
    let is_within_line = !matches!(start.last(), None | Some(b'\n' | b'\r'));
    // Rules on all complete lines are compared, and also those on a line that is cut at its end.
    let last = lines(start) + u32::from(!is_within_line);
    let of_start = rules(start, notation, last);
    let mut new: Vec<_> = of_start.difference(whole).collect();
    // A name that is answered with the records of several lines has fewer of them, or none.
    new.retain(|rule| !is_answer_of(rule, whole));
    let shown = String::from_utf8_lossy(&start[start.len().saturating_sub(60)..]);
    assert!(
        new.is_empty(),
        "{:?} {cut} ...{shown:?}: {new:?}",
        notation.format
    );
}

/// Whether the whole file answers the names of a rule with addresses.
fn is_answer_of(rule: &str, whole: &HashSet<String>) -> bool {
    let trigger = |rule: &str| rule.split(' ').nth(1).map(str::to_owned);
    let mut whole = whole.iter().filter(|rule| rule.contains(" A "));
    whole.any(|other| trigger(other) == trigger(rule))
}

#[test]
fn a_list_that_is_cut_off_anywhere_has_no_other_rules() {
    for (notation, text) in lists() {
        let bytes = text.as_bytes();
        let whole = rules(bytes, &notation, u32::MAX);
        assert!(whole.len() > 10, "{:?}: {whole:?}", notation.format);
        for cut in 0..=bytes.len() {
            check(bytes, &notation, &whole, cut);
        }
    }
}

#[test]
fn real_lists_that_are_cut_off_at_random_have_no_other_rules() {
    let Some(folder) = std::env::var_os("TAPIS_DATA_DIR") else {
        return;
    };
    let folder = Path::new(&folder).join("formats");
    let mut random: u64 = 0x5EED_715A;
    for (file, format) in [
        ("adaway.domains.txt", Format::Domains),
        ("adaway.hosts.txt", Format::Hosts),
        ("adaway.adblock.txt", Format::Adblock),
        ("adaway.wildcard.txt", Format::Wildcard),
        ("adaway.dnsmasq.txt", Format::Dnsmasq),
        ("adaway.unbound.conf", Format::Unbound),
    ] {
        let bytes = fs::read(folder.join(file)).expect("the list");
        let notation = of(format);
        let whole = rules(&bytes, &notation, u32::MAX);
        assert!(whole.len() > 4000, "{file}: {}", whole.len());
        for _ in 0..6 {
            // A linear congruential generator of Knuth's, for cuts that are the same in each run.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let cut = (random >> 33) as usize % bytes.len();
            check(&bytes, &notation, &whole, cut);
        }
    }
}
