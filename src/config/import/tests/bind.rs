use super::{imported, left, sections, try_import, value};
use crate::config::import::{ImportError, Tool};

#[test]
fn options_zones_and_policies_carry_over() {
    let text = "\
// The office
include \"named.conf.options\";
acl office { 10.1.0.0/16; 192.168/16; };
zone \".\" { type hint; file \"/usr/share/dns/root.hints\"; };
zone \"corp.example\" { type forward; forward only; forwarders { 10.0.0.1; 10.0.0.2 port 5300; }; };
zone \"lan\" IN { type master; file \"db.lan\"; };
zone \"old.example\" { type slave; masters { 10.0.0.3; }; };
zone \"rpz.local\" { type primary; file \"db.rpz\"; allow-query { none; }; };
zone \"rpz.feed\" { type secondary; primaries { 192.0.2.10 key tapis; }; };
key \"tapis\" { algorithm hmac-sha256; secret \"c2VjcmV0c2VjcmV0\"; };
logging { channel x { null; }; };
";
    let options = "\
options {
  directory \"/var/cache/bind\";  # the cache
  listen-on port 5300 { 127.0.0.1; 10.1.0.1; };
  listen-on-v6 { none; };
  forwarders { 9.9.9.9; 149.112.112.112 port 5300; };
  allow-query { localhost; office; };
  /* limits
     of the cache */
  max-cache-size 512M;
  max-cache-ttl 2h;
  dnssec-validation auto;
  response-policy { zone \"rpz.local\" policy nxdomain; zone \"rpz.feed\"; };
};
";
    let files = [
        ("named.conf", text),
        ("named.conf.options", options),
        ("db.lan", ""),
        ("db.rpz", ""),
    ];
    let imported = imported(Tool::Bind, &files);
    assert_eq!(
        value(&imported, "server", "listen"),
        r#"["127.0.0.1:5300", "10.1.0.1:5300"]"#
    );
    let allow = value(&imported, "server", "allow");
    assert_eq!(
        allow,
        r#"["127.0.0.0/8", "::1/128", "10.1.0.0/16", "192.168.0.0/16"]"#
    );
    assert_eq!(
        value(&imported, "upstream", "servers"),
        r#"["9.9.9.9", "149.112.112.112:5300"]"#
    );
    assert_eq!(value(&imported, "cache", "size-mib"), "512");
    assert_eq!(value(&imported, "cache", "max-ttl-secs"), "7200");
    let lists = sections(&imported, "[[list]]");
    assert_eq!(
        lists,
        [
            r#"name = "rpz.local"; path = "db.rpz"; format = "rpz"; zone = "rpz.local"; policy = "nxdomain""#
        ]
    );
    let feeds = sections(&imported, "[[feed]]");
    assert_eq!(
        feeds,
        [r#"name = "rpz.feed"; zone = "rpz.feed"; primaries = ["192.0.2.10"]"#]
    );
    assert_eq!(
        sections(&imported, "[[local]]"),
        [r#"zone = "lan"; file = "db.lan""#]
    );
    assert_eq!(
        sections(&imported, "[[forward]]"),
        [
            r#"zone = "corp.example"; servers = ["10.0.0.1", "10.0.0.2:5300"]"#,
            r#"zone = "old.example"; servers = ["10.0.0.3"]"#,
        ]
    );
    let expected = [
        (11, "dnssec-validation"),
        (9, "key of a primary"),
        (7, "zone old.example"),
        (10, "key tapis"),
    ];
    assert_eq!(left(&imported), expected);
    let all = format!("{imported:?}");
    assert!(
        !all.contains("c2VjcmV0"),
        "the secret of the key is not shown"
    );
}

#[test]
fn a_syntax_error_is_reported_with_its_line() {
    for (text, line, message) in [
        (
            "options {\n  forwarders { 9.9.9.9 };\n};\n",
            2,
            "a semicolon is missing before the closing brace",
        ),
        (
            "options {\n  forwarders { 9.9.9.9; };\n",
            2,
            "a closing brace is missing",
        ),
        (
            "options { };\nzone \"x\"\n",
            2,
            "a statement without a semicolon at its end",
        ),
        (
            "options { };\n};\n",
            2,
            "a closing brace without an opening one",
        ),
    ] {
        let error = try_import(Tool::Bind, &[("named.conf", text)]).expect_err("an error");
        let ImportError::Syntax {
            line: found,
            message: why,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((found, why.as_str()), (line, message), "{text}");
    }
}

/// The networks of the clients that these options permit.
fn allowed(options: &str) -> String {
    let text = format!(
        "acl office {{ !10.1.0.0/16; 10.0.0.0/8; 2001:db8::/32; }};\noptions {{ {options} }};\n"
    );
    let imported = imported(Tool::Bind, &[("named.conf", &text)]);
    value(&imported, "server", "allow")
}

#[test]
fn clients_must_be_permitted_by_all_options() {
    for (options, expected) in [
        (
            "allow-query { any; }; allow-recursion { 10.0.0.0/8; };",
            r#"["10.0.0.0/8"]"#,
        ),
        (
            "allow-query { 10.2.0.0/16; 192.168.0.0/16; }; allow-recursion { 10.0.0.0/8; };",
            r#"["10.2.0.0/16"]"#,
        ),
        (
            "allow-recursion { 10.2.0.0/16; 10.3.0.0/16; }; allow-query-cache { 10.3.4.0/24; };",
            r#"["10.3.4.0/24"]"#,
        ),
        (
            "allow-query { 192.0.2.0/24; }; allow-recursion { 10.0.0.0/8; };",
            "[]",
        ),
        ("allow-query { none; };", "[]"),
        (
            "allow-query { !192.0.2.0/25; 192.0.2.0/24; 192.0.2.7; };",
            r#"["192.0.2.128/25"]"#,
        ),
        (
            "allow-query { ! 192.0.2.0/25; any; }; allow-recursion { 192.0.2.0/24; };",
            r#"["192.0.2.128/25"]"#,
        ),
        (
            "allow-query { !10.0.0.0/9; any; }; allow-recursion { any; };",
            r#"["127.0.0.0/8", "10.128.0.0/9", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10"]"#,
        ),
        ("allow-query { !any; 10.0.0.0/8; };", "[]"),
        (
            "allow-query { !office; { 10.2.0.0/15; 192.0.2.0/24; }; };",
            r#"["192.0.2.0/24"]"#,
        ),
        (
            "allow-query { office; 10.1.2.0/24; };",
            r#"["10.128.0.0/9", "10.64.0.0/10", "10.32.0.0/11", "10.16.0.0/12", "10.8.0.0/13", "10.4.0.0/14", "10.2.0.0/15", "10.0.0.0/16", "2001:db8::/32", "10.1.2.0/24"]"#,
        ),
    ] {
        let sorted = |text: &str| {
            let mut parts: Vec<_> = text
                .trim_matches(['[', ']'])
                .split(", ")
                .map(str::to_owned)
                .collect();
            parts.sort();
            parts
        };
        assert_eq!(sorted(&allowed(options)), sorted(expected), "{options}");
    }
}

#[test]
fn comments_and_texts_without_an_end_are_syntax_errors() {
    for (text, line, message) in [
        ("options { };\n/* a\nb", 2, "a comment without its end"),
        (
            "options { };\n\nzone \"x {",
            3,
            "a quotation mark without its end",
        ),
    ] {
        let error = try_import(Tool::Bind, &[("named.conf", text)]).expect_err("an error");
        assert!(
            error.to_string().ends_with(&format!(":{line}: {message}")),
            "{error}"
        );
    }
}
