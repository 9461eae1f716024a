//! The protected names below a name, without those that a rule leaves out.

use crate::policy::condition::Condition;
use crate::policy::image::path::Path;
use crate::wire::name::Name;

/// Names and their numbers, in an order in which the names below another are together.
#[derive(Default)]
pub(super) struct SortedNames(Vec<(Box<[u8]>, u32)>);

impl SortedNames {
    pub(super) fn new(names: impl Iterator<Item = (Name, u32)>) -> Self {
        let path = |(name, number)| (Path::from(&name).as_bytes().into(), number);
        let mut sorted: Vec<_> = names.map(path).collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// The number of a name below `parent` that the condition does not leave out. Takes two searches for each name of the
    /// condition at most, however many names are below.
    pub(super) fn below(&self, parent: &Name, condition: &Condition) -> Option<u32> {
        let parent = Path::from(parent);
        let parent = parent.as_bytes();
        let mut at = self.0.partition_point(|(path, _)| **path <= *parent);
        while let Some((path, number)) = self.0.get(at) {
            if !path.starts_with(parent) {
                return None;
            }
            let Some(left_out) = condition.left_out_by(&Path::of(path).to_name()) else {
                return Some(*number);
            };
            let left_out = Path::from(left_out);
            let left_out = left_out.as_bytes();
            let further = &self.0[at..];
            at += further.partition_point(|(path, _)| path.starts_with(left_out));
        }
        None
    }
}
