//! The answers after the import of a configuration of dnscrypt-proxy, and those that its documentation describes.

use std::fmt::Write;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::compared::{compare_with_model, foreign_folder, start_imported_with};
use super::truth::{Answer, Question, Site, ancestors, is_in, is_in_numbered, number, questions};

const MAIN: &str = "\
server_names = ['encrypted']
listen_addresses = ['127.0.0.1:5353']
block_unqualified = false
block_undelegated = false
blocked_query_response = 'refused'
forwarding_rules = 'forwarding.txt'
cloaking_rules = 'cloaking.txt'
[blocked_names]
blocked_names_file = 'blocked.txt'
[allowed_names]
allowed_names_file = 'allowed.txt'
";

const OTHER_TYPES: &str =
    "dnscrypt-proxy cloaks queries for addresses only; here, a local name has no other records";
const ALIAS: &str = "dnscrypt-proxy answers with the addresses of the other name; here, the answer has the CNAME record, too";

#[test]
fn an_imported_configuration_of_dnscrypt_proxy_gives_the_answers_that_its_documentation_describes()
{
    let servers = [Site(1).start(), Site(2).start()];
    let [mut blocked, mut allowed, mut cloaking] = [const { String::new() }; 3];
    let mut names = Vec::new();
    for at in 0..60 {
        writeln!(
            blocked,
            "tree{at}.ads.net\n*.star{at}.ads.net\n=exact{at}.ads.org"
        )
        .expect("memory");
        writeln!(blocked, "*bare{at}.ads.org # a comment").expect("memory");
        writeln!(allowed, "www.tree{at}.ads.net").expect("memory");
        writeln!(
            cloaking,
            "host{at}.office.org 192.168.1.{at}\n=only{at}.office.org 192.168.2.{at}"
        )
        .expect("memory");
        names.extend([format!("tree{at}.ads.net"), format!("star{at}.ads.net")]);
        names.extend([format!("exact{at}.ads.org"), format!("bare{at}.ads.org")]);
        names.extend([
            format!("prefix.tree-{at}.net"),
            format!("host{at}.office.org"),
        ]);
        names.extend([format!("only{at}.office.org"), format!("adv{at}.ads.com")]);
        names.extend([
            format!("xbare{at}.ads.org"),
            format!("my-tracker-{at}.test-{at}.net"),
        ]);
    }
    blocked.push_str("prefix.*\n*-tracker-*\nad?[0-4]*.ads.com\nlate.net @work\n");
    cloaking.push_str("alias.office.org target.test-0.net\n");
    let files = [
        ("dnscrypt-proxy.toml", MAIN),
        ("blocked.txt", &blocked),
        ("allowed.txt", &allowed),
        ("cloaking.txt", &cloaking),
        (
            "forwarding.txt",
            "corp.example 127.0.0.1:SECOND\nother.example 127.0.0.1:SECOND\n",
        ),
    ];
    let folder = foreign_folder(&files, servers.each_ref());
    // The servers are encrypted, so the operator adds a plain one.
    let upstream = format!("\n[upstream]\nservers = [\"{}\"]\n", servers[0].address);
    let server = start_imported_with(folder.path(), "dnscrypt-proxy", ".", &upstream);
    let more = [
        "corp.example",
        "other.example",
        "alias.office.org",
        "late.net",
    ];
    let questions = questions(names.iter().map(String::as_str).chain(more));
    compare_with_model(
        model,
        &server,
        &questions,
        &[OTHER_TYPES, ALIAS],
        difference,
    );
}

fn difference(question: &Question, before: &Answer, after: &Answer) -> Option<&'static str> {
    let is_address = matches!(question.rtype, RecordType::A | RecordType::AAAA);
    if is_in(&question.name, "alias.office.org") {
        return Some(ALIAS);
    }
    let is_local = is_in(&question.name, "office.org");
    (is_local && !is_address && after.is_nodata() && *before == Site(1).answer(question))
        .then_some(OTHER_TYPES)
}

/// The answer of dnscrypt-proxy 2. The names of files are those of its examples, which explain the rules.
fn model(question: &Question) -> Answer {
    let (name, rtype) = (question.name.as_str(), question.rtype);
    // example-allowed-names.txt, example-blocked-names.txt.
    let is_allowed = is_in_numbered(name, "www.tree", ".ads.net");
    let is_glob = name
        .strip_prefix("ad")
        .and_then(|name| name.strip_suffix(".ads.com"))
        .is_some_and(|inner| matches!(inner.as_bytes(), [_, b'0'..=b'4', ..]));
    let is_blocked = is_in_numbered(name, "tree", ".ads.net")
        || is_in_numbered(name, "star", ".ads.net")
        || number(name, "exact", ".ads.org").is_some()
        || is_in_numbered(name, "bare", ".ads.org")
        || name.starts_with("prefix.")
        || name.contains("-tracker-")
        || is_glob;
    if is_blocked && !is_allowed {
        // example-dnscrypt-proxy.toml, blocked_query_response.
        return Answer::empty(ResponseCode::Refused);
    }
    // example-cloaking-rules.txt: for the name and all names below it, or for one with `=` alone.
    let address = ancestors(name)
        .find_map(|name| number(name, "host", ".office.org"))
        .map(|at| format!("192.168.1.{at}"));
    let only = number(name, "only", ".office.org").map(|at| format!("192.168.2.{at}"));
    let is_address = matches!(rtype, RecordType::A | RecordType::AAAA);
    match address.or(only) {
        Some(address) if is_address => {
            return Answer::local(question, &[(RecordType::A, &address)]);
        }
        _ => {}
    }
    if is_in(name, "alias.office.org") && is_address {
        let target = Site(1).answer(&Question {
            name: "target.test-0.net".to_owned(),
            rtype,
        });
        let records = target.records.iter();
        let records = records.map(|record| record.replace("target.test-0.net", name));
        return Answer {
            records: records.collect(),
            ..target
        };
    }
    // example-forwarding-rules.txt.
    let is_second = ["corp.example", "other.example"]
        .iter()
        .any(|zone| is_in(name, zone));
    Site(if is_second { 2 } else { 1 }).answer(question)
}
