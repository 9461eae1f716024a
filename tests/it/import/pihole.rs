//! The answers after the import of a configuration of Pi-hole, and those that its documentation describes.

use std::fmt::Write;

use hickory_proto::rr::RecordType;

use super::compared::{compare_with_model, foreign_folder, start_imported};
use super::truth::{Answer, Question, Site, is_in, is_in_numbered, number, questions};

const MAIN: &str = r#"
[dns]
  upstreams = [ "127.0.0.1#FIRST" ]
  hosts = [ HOSTS ]
  cnameRecords = [ "alias.office.org,host0.office.org" ]
  revServers = [ "true,10.0.0.0/8,127.0.0.1#SECOND,corp.example" ]
  [dns.blocking]
    active = true
    mode = "NULL"
"#;

const OTHER_TYPES: &str =
    "the DNS server in Pi-hole asks upstream for types of which a local name has no record";

#[test]
fn an_imported_configuration_of_pihole_gives_the_answers_that_its_documentation_describes() {
    let servers = [Site(1).start(), Site(2).start()];
    let (mut hosts, mut list, mut names) = (String::new(), String::new(), Vec::new());
    let mut rules =
        "id,type,domain,enabled\n1,3,^banner[0-9]+\\.,1\n2,2,^free[0-9]*\\.,1\n3,1,off.own.com,0\n"
            .to_owned();
    for at in 0..80 {
        write!(hosts, "\"192.168.1.{at} host{at}.office.org\", ").expect("memory");
        writeln!(
            list,
            "name{at}.ads.net\n||tree{at}.ads.org^\n0.0.0.0 hosts{at}.ads.com"
        )
        .expect("memory");
        writeln!(rules, "1,1,own{at}.own.com,1\n1,0,www.tree{at}.ads.org,1").expect("memory");
        names.extend([format!("host{at}.office.org"), format!("name{at}.ads.net")]);
        names.extend([
            format!("tree{at}.ads.org"),
            format!("free.tree{at}.ads.org"),
        ]);
        names.extend([format!("hosts{at}.ads.com"), format!("own{at}.own.com")]);
        names.push(format!("banner{at}.test-{at}.net"));
    }
    let more = [
        "alias.office.org",
        "corp.example",
        "5.0.0.10.in-addr.arpa",
        "off.own.com",
    ];
    let main = MAIN.replace("HOSTS", &hosts);
    let lists = "id,address,enabled\n1,file://DIR/ads.txt,1\n";
    let files = [
        ("pihole.toml", main.as_str()),
        ("ads.txt", &list),
        ("adlist.csv", lists),
        ("domainlist.csv", &rules),
    ];
    let folder = foreign_folder(&files, servers.each_ref());
    let server = start_imported(folder.path(), "pihole", ".");
    let questions = questions(names.iter().map(String::as_str).chain(more));
    compare_with_model(
        model,
        &server,
        &questions,
        &[OTHER_TYPES],
        |question, before, after| {
            let is_local = is_in(&question.name, "office.org");
            (is_local && after.is_nodata() && *before == Site(1).answer(question))
                .then_some(OTHER_TYPES)
        },
    );
}

/// The answer of Pi-hole 6.
fn model(question: &Question) -> Answer {
    let (name, rtype) = (question.name.as_str(), question.rtype);
    // docs.pi-hole.net, "FTL configuration", dns.hosts and dns.cnameRecords.
    if let (Some(at), RecordType::A) = (number(name, "host", ".office.org"), rtype) {
        return Answer::of(name, rtype, &[&format!("192.168.1.{at}")]);
    }
    if name == "alias.office.org" {
        let alias = Answer::of(name, RecordType::CNAME, &["host0.office.org."]);
        let address = Answer::of("host0.office.org", RecordType::A, &["192.168.1.0"]);
        let with_address = [&alias.records[..], &address.records].concat();
        return match rtype {
            RecordType::A => Answer {
                records: with_address,
                ..alias
            },
            RecordType::CNAME => alias,
            _ => Site(1).answer(question),
        };
    }
    // "FTL configuration", dns.revServers.
    if is_in(name, "corp.example") || is_in(name, "10.in-addr.arpa") {
        return Site(2).answer(question);
    }
    // "Group management", "Domains": what is allowed is never blocked. "Regular expressions": found anywhere in the name.
    let is_allowed =
        number(name, "www.tree", ".ads.org").is_some() || starts_with_number(name, "free");
    // "Lists": lines are names; lines in the style of ABP also block the names below.
    let is_listed = number(name, "name", ".ads.net").is_some()
        || number(name, "hosts", ".ads.com").is_some()
        || is_in_numbered(name, "tree", ".ads.org");
    let is_denied = number(name, "own", ".own.com").is_some()
        || starts_with_number(name, "banner") && !name.starts_with("banner.");
    match !is_allowed && (is_listed || is_denied) {
        // "Blocking mode": NULL.
        true => Answer::sinkhole(question, ["0.0.0.0", "::"]),
        false => Site(1).answer(question),
    }
}

/// Whether the first label is a word and a number, which may be empty.
fn starts_with_number(name: &str, word: &str) -> bool {
    let label = name.split('.').next().unwrap_or_default();
    let number = label.strip_prefix(word);
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}
