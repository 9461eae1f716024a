//! The answers after the import of configurations of blocky, and those that its documentation describes.

use std::fmt::Write;

use hickory_proto::rr::RecordType;

use super::compared::{compare_with_model, foreign_folder, start_imported};
use super::truth::{Answer, Question, Site, is_in, is_in_numbered, number, questions};

const MAIN: &str = "\
upstreams:
  groups:
    default:
      - 127.0.0.1:FIRST
conditional:
  mapping:
    corp.example: 127.0.0.1:SECOND
    other.example: 127.0.0.1:SECOND
blocking:
  denylists:
    ads:
      - DIR/names.txt
      - DIR/wildcards.txt
      - DIR/hosts.txt
      - |
        # Rules of the configuration itself.
        own.net
        *.tree.net
        /^banner[0-9]+[.]/
    unused:
      - DIR/unused.txt
  allowlists:
    ads:
      - DIR/allow.txt
    school:
      - DIR/school.txt
  clientGroupsBlock:
    default:
      - GROUP
  blockType: zeroIp
ports:
  dns: 127.0.0.1:5353
customDNS:
  mapping:
";

const ALL_TYPES: &str =
    "blocky blocks queries for addresses only; here, a blocked name has no records";

/// Compares the answers of the clients of a group.
fn check(group: &str, model: impl Fn(&Question) -> Answer) {
    let servers = [Site(1).start(), Site(2).start()];
    let mut main = MAIN.replace("GROUP", group);
    let [mut listed, mut wildcards, mut hosts, mut allow, mut school] =
        [const { String::new() }; 5];
    let mut names = Vec::new();
    for at in 0..80 {
        writeln!(
            main,
            "    host{at}.office.org: 192.168.1.{at},2001:db8::1:{at}"
        )
        .expect("memory");
        writeln!(listed, "name{at}.ads.net").expect("memory");
        writeln!(wildcards, "*.tree{at}.ads.org").expect("memory");
        writeln!(hosts, "0.0.0.0 hosts{at}.ads.com").expect("memory");
        writeln!(allow, "www.tree{at}.ads.org").expect("memory");
        writeln!(school, "m{at}.corp.example\nlesson{at}.edu").expect("memory");
        names.extend([format!("host{at}.office.org"), format!("name{at}.ads.net")]);
        names.extend([format!("tree{at}.ads.org"), format!("hosts{at}.ads.com")]);
        names.extend([
            format!("banner{at}.test-{at}.net"),
            format!("m{at}.corp.example"),
        ]);
        names.push(format!("lesson{at}.edu"));
    }
    let files = [
        ("config.yml", main.as_str()),
        ("names.txt", &listed),
        ("wildcards.txt", &wildcards),
        ("hosts.txt", &hosts),
        ("allow.txt", &allow),
        ("school.txt", &school),
        ("unused.txt", "unused.net\n"),
    ];
    let folder = foreign_folder(&files, servers.each_ref());
    let server = start_imported(folder.path(), "blocky", ".");
    let more = ["own.net", "tree.net", "unused.net", "other.example"];
    let questions = questions(names.iter().map(String::as_str).chain(more));
    compare_with_model(
        &model,
        &server,
        &questions,
        expected(group),
        |question, _, after| {
            let of_address = Question {
                name: question.name.clone(),
                rtype: RecordType::A,
            };
            let is_blocked = model(&of_address) == blocked(&of_address);
            let is_other = !matches!(question.rtype, RecordType::A | RecordType::AAAA);
            (is_other && is_blocked && *after == blocked(question)).then_some(ALL_TYPES)
        },
    );
}

/// The expected differences. A group that only allows is imported as a list for queries for addresses.
fn expected(group: &str) -> &'static [&'static str] {
    match group {
        "ads" => &[ALL_TYPES],
        _ => &[],
    }
}

#[test]
fn an_imported_configuration_of_blocky_gives_the_answers_that_its_documentation_describes() {
    check("ads", |question| {
        custom(question).unwrap_or_else(|| {
            let name = question.name.as_str();
            // "Deny and allow lists": an allow list precedes. Lines are names, `*.x` is x and all names below, and a pattern is
            // found anywhere.
            let is_allowed = number(name, "www.tree", ".ads.org").is_some();
            let label = name.split('.').next().unwrap_or_default();
            let is_denied = number(name, "name", ".ads.net").is_some()
                || is_in_numbered(name, "tree", ".ads.org")
                || number(name, "hosts", ".ads.com").is_some()
                || name == "own.net"
                || is_in(name, "tree.net")
                || number(label, "banner", "").is_some();
            answer(question, is_denied && !is_allowed)
        })
    });
}

#[test]
fn a_group_of_blocky_that_only_allows_gives_the_answers_that_its_documentation_describes() {
    check("school", |question| {
        custom(question).unwrap_or_else(|| {
            let name = question.name.as_str();
            // "Deny and allow lists": a group that has only an allow list blocks everything else.
            let is_allowed = number(name, "m", ".corp.example").is_some()
                || number(name, "lesson", ".edu").is_some();
            answer(question, !is_allowed)
        })
    });
}

/// "Custom DNS": the mapping is for the name and all names below it, and filters other types.
fn custom(question: &Question) -> Option<Answer> {
    let mut names = super::truth::ancestors(&question.name);
    let at = names.find_map(|name| number(name, "host", ".office.org"))?;
    let (v4, v6) = (format!("192.168.1.{at}"), format!("2001:db8::1:{at}"));
    let records = [(RecordType::A, v4.as_str()), (RecordType::AAAA, &v6)];
    Some(Answer::local(question, &records))
}

/// "Block type": zeroIp is the answer to queries for A and AAAA.
fn blocked(question: &Question) -> Answer {
    Answer::sinkhole(question, ["0.0.0.0", "::"])
}

fn answer(question: &Question, is_blocked: bool) -> Answer {
    let is_address = matches!(question.rtype, RecordType::A | RecordType::AAAA);
    if is_blocked && is_address {
        return blocked(question);
    }
    // "Conditional DNS resolution": the servers of a domain and all names below it.
    let is_second = ["corp.example", "other.example"]
        .iter()
        .any(|zone| is_in(&question.name, zone));
    Site(if is_second { 2 } else { 1 }).answer(question)
}
