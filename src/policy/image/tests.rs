//! Images of unusual names, and forged images: valid digests over wrong bytes.

use std::io::Cursor;

use super::clauses::ClausesBuilder;
use super::layout::HEADER;
use super::layout::{Section, TABLE};
use super::path::Key;
use super::path::Path;
use super::provenance::{ImageSource, Provenance};
use super::text::{PairHistogram, TextCode};
use super::values::ImageRule;
use super::walk::Position;
use super::writer::Writer;
use super::{Image, ImageBytes, ImageError};
use crate::policy::builder::Builder;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

const RULE: ImageRule = ImageRule {
    clause: 0,
    scope: Scope::Exact,
};

/// A key, and three labels that it hashes to 0, because their upper halves cancel the key.
pub(crate) fn colliding() -> (Key, Vec<String>) {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    const PI: u64 = 0x2437_54A8_885A_308D;
    let high = |seed: u64| {
        let product = u128::from(seed ^ GOLDEN) * u128::from(PI);
        (product as u64 ^ (product >> 64) as u64).to_le_bytes()
    };
    let mut seeds = 0..;
    let lower = |seed: &u64| high(*seed).iter().all(|byte| !byte.is_ascii_uppercase());
    let seed = seeds.find(lower).expect("most seeds");
    let key = Key::new(seed);
    let labels = [b"aaaaaaaa", b"bbbbbbbb", b"cccccccc"].map(|low| {
        let bytes = [&low[..], &high(seed)].concat();
        bytes.iter().map(|byte| format!("\\{byte:03}")).collect()
    });
    for label in &labels {
        let name: &String = label;
        let path = Path::from(&Name::from_text(name).expect("a label"));
        assert_eq!(key.hash(&path.as_bytes()[1..]), 0);
    }
    (key, labels.to_vec())
}

/// The name with these labels; the root if there are none or too many.
pub(crate) fn named(labels: &[String]) -> Name {
    let text = match labels {
        [] => ".".to_owned(),
        labels => labels.join("."),
    };
    Name::from_text(&text).unwrap_or(Name::ROOT)
}

/// The offset of a section's entry in the header.
fn entry(section: Section) -> usize {
    TABLE + section as usize * 48
}

fn path(labels: &[Vec<u8>]) -> Path {
    let mut path = Path::ROOT;
    labels.iter().for_each(|label| path.push(label));
    path
}

fn write(mut paths: Vec<Path>, histogram: PairHistogram) -> Image {
    let key = Key::new(7);
    paths.sort_by(|one, other| key.compare(one.as_bytes(), other.as_bytes()));
    let mut writer = Writer::new(
        Cursor::new(Vec::new()),
        key,
        histogram,
        ClausesBuilder::of_sources(1),
    )
    .expect("memory");
    for path in paths {
        let rules = [RULE.to_bits()];
        writer.push(path.as_bytes(), &rules).expect("memory");
    }
    let (to, _) = writer.finish(&Provenance::numbered(1)).expect("memory");
    Image::open(ImageBytes::Heap(to.into_inner())).expect("undamaged")
}

/// An image of `count` names directly below the root.
fn plain(count: usize) -> Image {
    let name = |number| path(&[format!("n{number}").into_bytes()]);
    write((0..count).map(name).collect(), PairHistogram::default())
}

/// Opens a copy of an image with changed bytes and matching digests.
pub(in crate::policy) fn changed(
    image: &Image,
    change: impl FnOnce(&mut [u8]),
) -> Result<Image, ImageError> {
    let mut bytes = image.bytes().to_vec();
    change(&mut bytes);
    for section in Section::ALL {
        let entry = entry(section);
        let number = |at: usize| super::bits::word(&bytes, at) as usize;
        let (offset, len) = (number(entry), number(entry + 8));
        let digest = blake3::hash(&bytes[offset..offset + len]);
        bytes[entry + 16..entry + 48].copy_from_slice(digest.as_bytes());
    }
    let digest = blake3::hash(&bytes[..HEADER - 32]);
    bytes[HEADER - 32..HEADER].copy_from_slice(digest.as_bytes());
    Image::open(ImageBytes::Heap(bytes))
}

fn refused(image: &Image, change: impl FnOnce(&mut [u8])) -> ImageError {
    changed(image, change).expect_err("refused")
}

#[test]
fn the_longest_names_need_no_more_buckets_than_others() {
    // First all names are long, so that all groups are coarse. Then some names are long, and some groups are coarse.
    for share in [1, 3, 5] {
        let name = |number: usize| {
            let odd = |at: usize| 128 + ((number * 7 + at) % 97) as u8;
            let mut labels: Vec<Vec<u8>> = vec![(0..62).map(odd).collect(); 4];
            labels[0][..4].copy_from_slice(format!("{number:04}").as_bytes());
            let long = number.is_multiple_of(share);
            path(if long { &labels } else { &labels[..1] })
        };
        let image = write((0..4000).map(name).collect(), PairHistogram::default());
        let (_, count) = image
            .facts()
            .root_children
            .as_range()
            .expect("many children");
        assert!(count <= 1024, "{count} buckets for 4000 names");
        let names: Vec<_> = (0..4000).map(|number| name(number).to_name()).collect();
        let names: Vec<_> = names.iter().collect();
        let mut found = vec![false; names.len()];
        image.walk(&names, |which, position, _, _| {
            found[which] |= position == Position::At;
        });
        assert!(found.iter().all(|found| *found));
    }
}

#[test]
fn a_range_of_too_many_buckets_is_rejected() {
    let empty = plain(0);
    for class in 120..128_u32 {
        let children = 1 << 31 | class << 24;
        let change = |bytes: &mut [u8]| bytes[28..32].copy_from_slice(&u32::to_le_bytes(children));
        refused(&empty, change);
    }
}

#[test]
fn unused_bytes_of_the_directory_that_are_not_zero_are_rejected() {
    // Fourteen buckets: two groups, and ten unused slots.
    let image = plain(100);
    let (_, count) = image
        .facts()
        .root_children
        .as_range()
        .expect("many children");
    assert_eq!(count, 14);
    let extent = |section| image.extents[section as usize];
    let (groups, filters) = (extent(Section::Directory), extent(Section::Filters));
    assert_eq!((groups.len, filters.len), (32, 96));
    let longer = [(Section::Directory, 8), (Section::Filters, 2)];
    for (section, more) in longer {
        refused(&image, |bytes| bytes[entry(section) + 8] += more);
    }
    for slot in 2..12 {
        refused(&image, |bytes| bytes[groups.offset + 16 + slot] = 1);
        let filter = filters.offset + 48 + slot * 4;
        refused(&image, |bytes| bytes[filter] = 1);
    }
}

#[test]
fn counts_that_differ_from_the_nodes_are_rejected() {
    let image = plain(100);
    for at in [32, 48, 56, 64, 39] {
        let error = refused(&image, |bytes| bytes[at] += 1);
        assert_eq!(error, ImageError::Invalid("counts"), "at {at}");
    }
}

#[test]
fn any_histogram_yields_a_code() {
    let image = plain(1);
    let extent = image.extents[Section::PairHistogram as usize];
    for size in [1, extent.len] {
        let change = |bytes: &mut [u8]| bytes[extent.offset..][..size].fill(0xFF);
        let histogram = changed(&image, change)
            .expect("any counts will do")
            .pair_histogram();
        assert!(TextCode::new(&histogram.lengths()).is_some());
    }
}

/// A path without its first labels.
fn tail(path: &Path, labels: usize) -> Vec<u8> {
    let bytes = path.as_bytes();
    let before = super::path::labels(bytes).take(labels);
    bytes[before.map(|label| 1 + label.len()).sum()..].to_vec()
}

#[test]
fn the_histogram_counts_the_text_whatever_the_code() {
    let name = |number: usize| {
        let label = |number: usize| format!("n{number}\\").into_bytes();
        path(&[label(number % 9), label(number), b"www".to_vec()])
    };
    let paths: Vec<_> = (0..2000).map(name).collect();
    let mut counted = PairHistogram::default();
    paths.iter().for_each(|path| counted.count(path.as_bytes()));
    let first = write(paths.clone(), counted.clone());
    counted.add(&first.pair_histogram());
    let second = write(paths, counted);
    assert!(first.pair_histogram().to_bytes() == second.pair_histogram().to_bytes());
    // Nine labels below the root, then one per name, and `www` below it.
    let mut model = PairHistogram::default();
    for number in 0..2000 {
        let labels = if number < 9 { 0 } else { 1 };
        model.count(&tail(&name(number), labels));
    }
    assert!(second.pair_histogram().to_bytes() == model.to_bytes());
}

#[test]
fn nodes_with_an_only_child_have_the_values_of_leaves() {
    const SOURCES: u32 = 50;
    let key = Key::new(7);
    let mut paths = Vec::new();
    for number in 0..2000_u32 {
        let label = format!("n{number}").into_bytes();
        paths.push((path(std::slice::from_ref(&label)), number % SOURCES));
        paths.push((path(&[label, b"www".to_vec()]), number / SOURCES % SOURCES));
    }
    paths.sort_by(|(one, _), (other, _)| key.compare(one.as_bytes(), other.as_bytes()));
    let clauses = ClausesBuilder::of_sources(SOURCES as usize);
    let to = Cursor::new(Vec::new());
    let mut writer = Writer::new(to, key, PairHistogram::default(), clauses).expect("memory");
    for (path, clause) in paths {
        let rule = ImageRule { clause, ..RULE };
        writer
            .push(path.as_bytes(), &[rule.to_bits()])
            .expect("memory");
    }
    let provenance = Provenance::numbered(SOURCES as usize);
    let (to, _) = writer.finish(&provenance).expect("memory");
    let image = Image::open(ImageBytes::Heap(to.into_inner())).expect("undamaged");
    // The root has a value, too.
    assert_eq!(image.value_count(), SOURCES + 1);
}

#[test]
fn an_image_with_marks_of_a_source_that_it_does_not_amend_is_rejected() {
    let mut builder = Builder::new();
    let source = ImageSource {
        amends: true,
        ..ImageSource::named("zone")
    };
    builder.source(source).expect("room");
    builder.amend(b"\x01x", 0).expect("room");
    let image = builder.finish().expect("room");
    let at = |section| image.extents[section as usize].offset;
    let provenance = at(Section::Provenance);
    let refused_amends = refused(&image, |bytes| {
        let text = b"\"amends\":true";
        let mut windows = bytes[provenance..].windows(text.len());
        let found = windows.position(|window| window == text).expect("there");
        bytes[provenance + found..][..text.len()].copy_from_slice(b"\"amendz\":true");
    });
    assert_eq!(refused_amends, ImageError::Invalid("amendments"));
    // The only rule is the mark. Its scope has the lowest bits.
    let words = at(Section::Words);
    let error = refused(&image, |bytes| bytes[words] |= ImageRule::SUBTREE as u8);
    assert_eq!(error, ImageError::Invalid("values"));
}
