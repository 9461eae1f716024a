//! Tests of sorting, merging and whole plans, each compared with a simple model.

mod carrying;
mod merging;
mod plans;
mod zones;

use crate::policy::image::path::Path;
use crate::policy::image::values::ImageRule;
use crate::policy::rule::Scope;
use crate::wire::name::Name;

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

fn path(name: &Name) -> Vec<u8> {
    Path::from(name).as_bytes().to_vec()
}

fn bits(source: u16, scope: Scope) -> u32 {
    let clause = source.into();
    ImageRule { clause, scope }.to_bits()
}
