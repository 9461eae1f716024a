//! Images of names that nobody has.

use std::io::Cursor;

use super::order::Path;
use super::text::Census;
use super::values::ImageRule;
use super::walk::Lies;
use super::writer::Writer;
use super::{Image, Key, Octets, Provenance};
use crate::policy::rule::Scope;

const RULE: ImageRule = ImageRule {
    source: 0,
    flags: 0,
    scope: Scope::Exact,
};

fn path(labels: &[Vec<u8>]) -> Path {
    let mut path = Path::ROOT;
    labels.iter().for_each(|label| path.push(label));
    path
}

fn write(mut paths: Vec<Path>, census: Census) -> Image {
    let key = Key::new(7);
    paths.sort_by(|one, other| key.compare(one.octets(), other.octets()));
    let mut writer = Writer::new(Cursor::new(Vec::new()), key, census).expect("memory");
    for path in paths {
        let rules = [RULE.to_bits()];
        writer.push(path.octets(), &rules).expect("memory");
    }
    let (to, _) = writer.finish(&Provenance::numbered(1)).expect("memory");
    Image::open(Octets::Heap(to.into_inner())).expect("whole")
}

#[test]
fn the_longest_names_take_no_more_buckets_than_others() {
    // All long, so that all groups are coarse; some, so that some are.
    for share in [1, 3, 5] {
        let name = |number: usize| {
            let odd = |at: usize| 128 + ((number * 7 + at) % 97) as u8;
            let mut labels: Vec<Vec<u8>> = vec![(0..62).map(odd).collect(); 4];
            labels[0][..4].copy_from_slice(format!("{number:04}").as_bytes());
            let long = number.is_multiple_of(share);
            path(if long { &labels } else { &labels[..1] })
        };
        let image = write((0..4000).map(name).collect(), Census::default());
        let (_, count) = image.facts().root_kids.as_range().expect("many children");
        assert!(count <= 1024, "{count} buckets for 4000 names");
        let names: Vec<_> = (0..4000).map(|number| name(number).to_name()).collect();
        let names: Vec<_> = names.iter().collect();
        let mut found = vec![false; names.len()];
        image.walk(&names, |which, lies, _, _| found[which] |= lies == Lies::At);
        assert!(found.iter().all(|found| *found));
    }
}
