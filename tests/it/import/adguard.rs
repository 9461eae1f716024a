//! The answers after the import of a configuration of AdGuard Home, and those that its documentation describes.

use std::fmt::Write;

use hickory_proto::rr::RecordType;

use super::compared::{compare_with_model, foreign_folder, start_imported};
use super::truth::{Answer, Question, Site, is_in, is_in_numbered, number, questions};

const MAIN: &str = "\
dns:
  bind_hosts:
    - 127.0.0.1
  port: 5353
  upstream_dns:
    - 127.0.0.1:FIRST
    - '[/corp.example/other.example/]127.0.0.1:SECOND'
filters:
  - enabled: true
    url: DIR/filter.txt
    name: ads
  - enabled: false
    url: DIR/off.txt
    name: off
whitelist_filters:
  - enabled: true
    url: DIR/allow.txt
    name: allowed
filtering:
  blocking_mode: null_ip
  rewrites:
    - domain: '*.wild.office.org'
      answer: 192.168.2.1
    - domain: alias.office.org
      answer: target.test-0.net
";

#[test]
fn an_imported_configuration_of_adguard_home_gives_the_answers_that_its_documentation_describes() {
    let servers = [Site(1).start(), Site(2).start()];
    let (mut main, mut filter, mut allow) = (MAIN.to_owned(), String::new(), String::new());
    let mut names = Vec::new();
    for at in 0..70 {
        writeln!(
            main,
            "    - domain: host{at}.office.org\n      answer: 192.168.1.{at}"
        )
        .expect("memory");
        writeln!(
            filter,
            "||tree{at}.ads.net^\n@@||www.tree{at}.ads.net^\nname{at}.ads.org\n|exact{at}.ads.org^"
        )
        .expect("memory");
        writeln!(filter, "0.0.0.0 hosts{at}.ads.com\n||host{at}.office.org^").expect("memory");
        writeln!(allow, "||allow{at}.ads.net^").expect("memory");
        names.extend([format!("host{at}.office.org"), format!("tree{at}.ads.net")]);
        names.extend([format!("name{at}.ads.org"), format!("exact{at}.ads.org")]);
        names.extend([format!("hosts{at}.ads.com"), format!("allow{at}.ads.net")]);
        names.extend([
            format!("banner{at}.test-{at}.net"),
            format!("typed{at}.own.com"),
        ]);
    }
    main.push_str("user_rules:\n  - '/^banner[0-9]+\\./'\n  - '||ads.net^$dnstype=MX'\n  - '||own.com^$dnstype=~A'\n");
    main.push_str("  - '||changed.own.com^$dnsrewrite=192.0.2.9'\n  - '||keep.own.com^$important'\n  - '@@||keep.own.com^'\n");
    main.push_str("schema_version: 29\n");
    let more = "x.wild.office.org alias.office.org corp.example other.example changed.own.com keep.own.com off.net";
    let files = [
        ("AdGuardHome.yaml", main.as_str()),
        ("filter.txt", &filter),
        ("allow.txt", &allow),
        ("off.txt", "||off.net^\n"),
    ];
    let folder = foreign_folder(&files, servers.each_ref());
    let server = start_imported(folder.path(), "adguard", ".");
    let questions = questions(names.iter().map(String::as_str).chain(more.split(' ')));
    compare_with_model(model, &server, &questions, &[], |_, _, _| None);
}

/// The answer of AdGuard Home. `Configuration` is the page of its wiki, `Syntax` is adguard-dns.io/kb, "DNS filtering syntax".
fn model(question: &Question) -> Answer {
    let (name, rtype) = (question.name.as_str(), question.rtype);
    // Configuration, "rewrites": they precede filters. A wildcard is for all names below.
    if let Some(at) = number(name, "host", ".office.org") {
        return Answer::local(question, &[(RecordType::A, &format!("192.168.1.{at}"))]);
    }
    if is_in(name, "wild.office.org") && name != "wild.office.org" {
        return Answer::local(question, &[(RecordType::A, "192.168.2.1")]);
    }
    if name == "alias.office.org" {
        let alias = Answer::of(name, RecordType::CNAME, &["target.test-0.net."]);
        if rtype == RecordType::CNAME {
            return alias;
        }
        let target = Site(1).answer(&Question {
            name: "target.test-0.net".to_owned(),
            rtype,
        });
        return Answer {
            records: [alias.records, target.records].concat(),
            code: target.code,
        };
    }
    let blocked = || Answer::sinkhole(question, ["0.0.0.0", "::"]);
    // Syntax, "dnsrewrite".
    if is_in(name, "changed.own.com") {
        return Answer::local(question, &[(RecordType::A, "192.0.2.9")]);
    }
    // Configuration, "whitelist_filters".
    if is_in_numbered(name, "allow", ".ads.net") {
        return upstream(question);
    }
    // Syntax, "important".
    if is_in(name, "keep.own.com") {
        return blocked();
    }
    // Syntax, "@@".
    if is_in_numbered(name, "www.tree", ".ads.net") {
        return upstream(question);
    }
    // Syntax, "dnstype".
    let by_type = is_in(name, "ads.net") && rtype == RecordType::MX
        || is_in(name, "own.com") && rtype != RecordType::A;
    // Syntax, "Basic examples": `||x^` is x and all names below; a plain name, and `|x^`, is that name.
    let by_name = is_in_numbered(name, "tree", ".ads.net")
        || number(name, "name", ".ads.org").is_some()
        || number(name, "exact", ".ads.org").is_some()
        || number(name, "hosts", ".ads.com").is_some()
        || is_in_numbered(name, "host", ".office.org");
    // Syntax, "Regular expressions".
    let label = name.split('.').next().unwrap_or_default();
    let by_pattern = number(label, "banner", "").is_some();
    match by_type || by_name || by_pattern {
        true => blocked(),
        false => upstream(question),
    }
}

/// Configuration, "upstream_dns": servers for a domain and all names below it.
fn upstream(question: &Question) -> Answer {
    let is_second = ["corp.example", "other.example"]
        .iter()
        .any(|zone| is_in(&question.name, zone));
    Site(if is_second { 2 } else { 1 }).answer(question)
}
