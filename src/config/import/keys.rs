//! The keys of a configuration that is a tree: those that are known, and those that do not carry over.

use super::draft::Draft;
use super::tree::{Node, Value};

/// The known keys of a program. A path such as `dns.port` stands for the key and all keys in it.
pub(super) struct Keys {
    /// Keys that are read, and those that say how the process runs, not what is answered.
    pub(super) known: &'static [&'static str],
    /// Keys without a counterpart, and what to do. They count if they are on.
    pub(super) no_counterpart: &'static [(&'static str, &'static str)],
    /// Keys that change answers if they are off, and what to do.
    pub(super) off: &'static [(&'static str, &'static str)],
}

impl Keys {
    /// Reports each key that does not carry over, and each that is not known.
    pub(super) fn report(&self, root: &Node, draft: &mut Draft) {
        for (path, reason) in self.no_counterpart {
            if let Some(node) = at(root, path).filter(|node| !node.is_off()) {
                draft.leave(&node.line, *path, *reason);
            }
        }
        for (path, reason) in self.off {
            if let Some(node) = at(root, path).filter(|node| node.is_off()) {
                draft.leave(&node.line, format!("{path} is off"), *reason);
            }
        }
        self.report_unknown(root, "", draft);
    }

    fn report_unknown(&self, node: &Node, path: &str, draft: &mut Draft) {
        for (key, value) in node.entries() {
            let path = match path {
                "" => key.clone(),
                _ => format!("{path}.{key}"),
            };
            if self.paths().any(|known| known == path) {
                continue;
            }
            let begins = |known: &str| {
                known
                    .strip_prefix(&*path)
                    .is_some_and(|rest| rest.starts_with('.'))
            };
            match &value.value {
                Value::Map(_) if self.paths().any(begins) => {
                    self.report_unknown(value, &path, draft);
                }
                _ if is_blank(value) => {}
                _ => draft.leave(&value.line, path, "Tapis has no such setting"),
            }
        }
    }

    fn paths(&self) -> impl Iterator<Item = &'static str> {
        let others = self.no_counterpart.iter().chain(self.off);
        self.known
            .iter()
            .copied()
            .chain(others.map(|(path, _)| *path))
    }
}

fn at<'n>(root: &'n Node, path: &str) -> Option<&'n Node> {
    root.at(&path.split('.').collect::<Vec<_>>())
}

/// Whether a value says nothing. `false` may turn off what is on by default.
fn is_blank(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(_) => node.is_off(),
    }
}
