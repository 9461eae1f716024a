//! Tests of lists by URL and of `[download]`.

use std::time::Duration;

use super::{problems, valid};
use crate::config::download::Proof;

/// A list with these keys, and a state directory.
fn list(keys: &str) -> String {
    format!("[state]\ndir = \"/s\"\n[[list]]\nname = \"ads\"\n{keys}\n")
}

#[test]
fn a_list_has_one_url_or_mirrors_and_a_copy_in_the_state_directory() {
    let config = valid(&list("url = \"https://a.example/x\""));
    let path = config.lists[0].source.path.clone();
    assert!(path.starts_with("/s/downloads"), "{path:?}");
    let download = config.lists[0].download.as_ref().expect("downloaded");
    assert_eq!(download.refresh, Duration::from_secs(86_400));
    assert_eq!((download.redirects.len(), &download.proof), (0, &None));
    let more = "url = [\"https://a.example/x\", \"https://b.example/\"]\nrefresh-secs = 60\n\
                redirects = [\"CDN.example.\"]\n";
    let config = valid(&list(more));
    assert_eq!(
        config.lists[0].source.path, path,
        "another mirror has the same file"
    );
    let download = config.lists[0].download.as_ref().expect("downloaded");
    assert_eq!(
        (download.urls.len(), &*download.redirects[0]),
        (2, "cdn.example")
    );
    for other in [
        "url = \"https://a.example/y\"",
        "url = \"https://a.example/x\"\nsha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
    ] {
        let config = valid(&list(other));
        assert_ne!(config.lists[0].source.path, path, "{other}");
    }
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let config = valid(&list(&format!(
        "url = \"https://a.example/\"\nminisign = \"{key}\""
    )));
    let download = config.lists[0].download.as_ref().expect("downloaded");
    let expected = Proof::Minisign {
        key: key.to_owned(),
        url: None,
    };
    assert_eq!(download.proof, Some(expected));
}

#[test]
fn mistakes_in_a_downloaded_list_are_reported_with_a_remedy_and_without_the_url() {
    let url = "url = \"https://a.example/\"\n";
    for (keys, problem) in [
        (
            "url = \"https://me:secret@a.example:x/\"",
            "url is not a URL",
        ),
        (
            "url = \"htps://me:secret@a.example/\"",
            "url has the scheme \"htps\", must be https",
        ),
        ("url = \"me:secret@a.example\"", "url has another scheme"),
        (
            "url = \"a.example/ads\"",
            "url has no scheme: write it as in",
        ),
        ("url = []", "url is empty"),
        (
            "url = [\"https://a.example/\", \"https://a.example\"]",
            "url holds https://a.example/ twice",
        ),
        (
            "path = \"p\"\nrefresh-secs = 60",
            "refresh-secs has no meaning without `url`",
        ),
        (
            "path = \"p\"\nredirects = [\"x\"]",
            "redirects has no meaning without `url`",
        ),
        (
            &format!("{url}path = \"p\""),
            "a url and a path: remove one",
        ),
        (
            &format!("{url}refresh-secs = 59"),
            "refresh-secs is 59, must be 60 to 2592000",
        ),
        (
            &format!("{url}sha256 = \"abc\""),
            "sha256 is \"abc\", must be 64 hexadecimal digits",
        ),
        (
            &format!("{url}minisign = \"abc\""),
            "minisign is \"abc\", must be a public key",
        ),
        (
            &format!("{url}minisign-url = \"https://a.example/s\""),
            "minisign-url has no meaning without `minisign`",
        ),
        (
            &format!("{url}redirects = [\"https://b.example\"]"),
            "which is not the name of a host",
        ),
        (
            "url = [\"https://a.example/\", \"http://me:secret@b.example/x\"]",
            "url holds http://b.example/x, which is not encrypted, so anyone on the way can change the list: use https, or \
             add \"b.example\" to allow-http in [download]",
        ),
        (
            &format!(
                "{url}minisign = \"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"\n\
                 minisign-url = \"http://c.example/s\""
            ),
            "minisign-url holds http://c.example/s, which is not encrypted",
        ),
    ] {
        let found = problems(&list(keys));
        let found = found.join("\n");
        assert!(found.contains(problem), "{keys}: {found}");
        assert!(!found.contains("secret"), "{found}");
    }
    let without = "[[list]]\nname = \"ads\"\nurl = \"https://a.example/\"\n";
    let found = problems(without).join("\n");
    assert!(found.contains("set `dir` in [state]"), "{found}");
}

#[test]
fn a_host_that_may_be_asked_without_encryption_is_permitted_wherever_its_section_is() {
    let list = list("url = \"http://Lists.example:8080/ads\"");
    let permit = "[download]\nallow-http = [\"lists.example\"]\n";
    for text in [format!("{permit}{list}"), format!("{list}{permit}")] {
        assert_eq!(valid(&text).lists.len(), 1, "{text}");
    }
}

#[test]
fn the_section_download_has_bounds_and_defaults() {
    let limits = valid("").downloads.limits;
    assert_eq!((limits.bytes, limits.unpacked), (256 << 20, 1 << 30));
    assert_eq!((limits.time.as_secs(), limits.stall.as_secs()), (600, 30));
    let config = valid(
        "[download]\nallow-private = [\"lists.example\", \"10.0.0.0/8\"]\nproxy = \"http://me:secret@p.example:3128\"\n",
    );
    assert_eq!(config.downloads.private_hosts, ["lists.example"]);
    assert_eq!(config.downloads.private_networks.len(), 1);
    assert!(!format!("{config:?}").contains("secret"));
    for (keys, problem) in [
        ("max-mib = 0", "max-mib is 0, must be 1 to 2048"),
        ("stall-secs = 601", "stall-secs is 601, must be 1 to 600"),
        (
            "proxy = \"socks5://me:secret@p.example\"",
            "proxy has the scheme \"socks5\"",
        ),
        ("allow-private = [\"a b\"]", "neither a host nor a network"),
    ] {
        let found = problems(&format!("[download]\n{keys}\n")).join("\n");
        assert!(
            found.contains(problem) && !found.contains("secret"),
            "{keys}: {found}"
        );
    }
}
