//! Tests of `tsig`.

use std::path::Path;

use super::super::problems;
use super::{feed, valid_feed};
use crate::config::feed::TsigAlgorithm;

#[test]
fn a_key_has_a_name_a_file_and_an_algorithm() {
    for (algorithm, expected) in [
        ("", TsigAlgorithm::HmacSha256),
        ("hmac-sha1", TsigAlgorithm::HmacSha1),
        ("hmac-sha256", TsigAlgorithm::HmacSha256),
        ("hmac-sha384", TsigAlgorithm::HmacSha384),
        ("hmac-sha512", TsigAlgorithm::HmacSha512),
    ] {
        let set = match algorithm {
            "" => String::new(),
            algorithm => format!(", algorithm = \"{algorithm}\""),
        };
        let keys = format!("tsig = {{ name = \"Tapis-Feed.\", secret-file = \"keys/feed\"{set} }}");
        let tsig = valid_feed(&keys).tsig.expect("a key");
        assert_eq!(tsig.name.to_string(), "tapis-feed");
        assert_eq!(tsig.secret_file, Path::new("etc/keys/feed"));
        assert_eq!(tsig.algorithm, expected);
        if !algorithm.is_empty() {
            assert_eq!(tsig.algorithm.word(), algorithm);
        }
    }
    let table = valid_feed("[feed.tsig]\nname = \"k\"\nsecret-file = \"/k\"");
    assert!(table.tsig.is_some());
}

#[test]
fn a_wrong_key_is_reported_and_its_secret_is_never_in_the_configuration() {
    for (tsig, expected) in [
        (
            "{}",
            &[
                "4: tsig has no `name`: add name = \"...\"",
                "4: tsig has no `secret-file`: add secret-file = \"...\"",
            ][..],
        ),
        (
            "{ name = \"k\", secret-file = \"f\", algorithm = \"hmac-sha265\" }",
            &[
                "4: algorithm is \"hmac-sha265\", must be one of hmac-sha256, hmac-sha384, hmac-sha512, hmac-sha1; did you \
                 mean \"hmac-sha256\"?",
            ],
        ),
        (
            "{ name = \"a..b\", secret-file = \"\" }",
            &[
                "4: name is \"a..b\", not a domain name: a label is empty: write the key's name as the other server has it, as \
                 in \"tapis-feed\"",
                "4: secret-file is empty, must be the path of a file",
            ],
        ),
        (
            "{ name = \"k\", secret = \"bm8gc2VjcmV0\" }",
            &[
                "4: unknown key `secret` in tsig; valid keys are name, algorithm, secret-file",
                "4: tsig has no `secret-file`: add secret-file = \"...\"",
            ],
        ),
        (
            "\"k\"",
            &[
                "4: tsig is a string (\"k\"), must be a table: write it as { name = \"...\", secret-file = \"...\" }",
            ],
        ),
    ] {
        assert_eq!(problems(&feed(&format!("tsig = {tsig}"))), expected);
    }
}
