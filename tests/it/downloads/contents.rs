//! What is read of a list: packed files, lists that guards hold, and nothing twice.

use std::io::Read;

use flate2::Compression;
use flate2::read::GzEncoder;

use super::scene::{FIRST, SECOND, Scene};
use crate::support::client::until;
use crate::support::web::{page, response};

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = GzEncoder::new(text.as_bytes(), Compression::default());
    encoder.read_to_end(&mut packed).expect("packed");
    packed
}

/// [`SECOND`] as one raw block of zstd, and as one of brotli.
fn zstd() -> Vec<u8> {
    let size = SECOND.len() as u8;
    let block = u32::from(size) << 3 | 1;
    let head = [0x28, 0xb5, 0x2f, 0xfd, 0x20, size];
    [&head[..], &block.to_le_bytes()[..3], SECOND.as_bytes()].concat()
}

fn brotli() -> Vec<u8> {
    // A window of 16 bits, then a meta-block that is not compressed, then the last, empty one.
    let bits = (SECOND.len() as u32 - 1) << 4 | 1 << 20;
    [&bits.to_le_bytes()[..3], SECOND.as_bytes(), &[3]].concat()
}

#[test]
fn packed_lists_are_unpacked_whoever_packed_them() {
    let scene = Scene::start("", "");
    for (what, answer) in [
        (
            "gzip coding",
            response("200 OK", &["content-encoding: gzip"], &gzip(SECOND)),
        ),
        (
            "zstd coding",
            response("200 OK", &["content-encoding: zstd"], &zstd()),
        ),
        (
            "brotli coding",
            response("200 OK", &["content-encoding: br"], &brotli()),
        ),
        (
            "gzip file",
            response("200 OK", &["content-type: application/gzip"], &gzip(SECOND)),
        ),
        ("zstd file", response("200 OK", &[], &zstd())),
        (
            "both",
            response("200 OK", &["content-encoding: gzip"], &zstd_in_gzip()),
        ),
    ] {
        scene.web.serve(answer);
        let (code, printed) = scene.refresh();
        assert_eq!(code, Some(0), "{what}: {printed}");
        scene.has(SECOND);
        scene.web.serve(page(FIRST));
        assert_eq!(scene.refresh().0, Some(0));
        scene.has(FIRST);
    }
    let asked = scene.web.got().pop().expect("a request");
    assert_eq!(asked.header("accept-encoding"), Some("zstd, br, gzip"));
}

fn zstd_in_gzip() -> Vec<u8> {
    let mut packed = Vec::new();
    let zstd = zstd();
    let mut encoder = GzEncoder::new(&zstd[..], Compression::default());
    encoder.read_to_end(&mut packed).expect("packed");
    packed
}

#[test]
fn the_same_bytes_are_not_read_again() {
    let scene = Scene::start("", "");
    let before = scene.list()["loaded_at"].clone();
    let generation = scene.server.status()["generation"].clone();
    let (code, printed) = scene.refresh();
    assert_eq!(
        (code, &*printed),
        (Some(0), "ads: 2 rules in force, and the newest version\n")
    );
    assert_eq!(scene.list()["loaded_at"], before);
    assert_eq!(scene.server.status()["generation"], generation);
    assert_eq!(scene.web.got().len(), 2);
    until("the confirmation", || {
        scene.list()["download"]["confirmed"] != scene.list()["download"]["fetched"]
    });
}
