//! Converts between a loaded list and its provenance in an image.

use std::path::Path;
use std::time::Duration;

use crate::config::paths::recorded;
use crate::config::{Format, List};
use crate::control::list_file::parse::Notation;
use crate::control::persist::list_notes::{ListNotes, key};
use crate::control::sources::lists::load::Loaded;
use crate::policy::image::provenance::ImageSource;
use crate::policy::rule::Kind;

/// The provenance of a loaded list.
pub(crate) fn source(list: &List, loaded: &Loaded) -> ImageSource {
    let notes = notes(list.into(), list.source.kind, loaded);
    image_source(&list.source.name, &list.source.path, loaded, &notes)
}

/// The provenance of a loaded list with this name and file.
pub(crate) fn image_source(
    name: &str,
    path: &Path,
    loaded: &Loaded,
    notes: &ListNotes,
) -> ImageSource {
    ImageSource {
        name: name.to_owned(),
        path: recorded(path),
        read_at: loaded.at,
        digest: loaded.digest.clone(),
        rules: loaded.rules as u64,
        notes: notes.to_value(),
        amends: false,
        amendable: notes.format == Format::Rpz,
    }
}

/// The facts about a loaded list that an image records.
pub(crate) fn notes(notation: Notation, kind: Kind, loaded: &Loaded) -> ListNotes {
    ListNotes {
        format: notation.format,
        scope: notation.bare,
        comments: notation.comments,
        column: notation.column,
        kind: Some(kind),
        tally: loaded.tally.clone(),
        signature: loaded.signature,
        took_ms: loaded.took.as_millis() as u64,
        protected_names: loaded.protected_names.clone(),
        released: loaded.released,
    }
}

/// The loaded list that an image was compiled from. `None` if it was read from another file, or with another format,
/// scope or comment characters than `list` has: the rules could differ then.
pub(crate) fn loaded(source: &ImageSource, list: &List) -> Option<Loaded> {
    let (read, loaded) = kept(source, list)?;
    let same = read.source.path == recorded(&list.source.path)
        && Notation::from(&read) == Notation::from(list);
    same.then_some(loaded)
}

/// Like [`loaded`], but also if the list was read from another file, or with another format, scope or comment
/// characters; also returns the list as it was read then. `None` if the image's list has another name, or another kind,
/// whose rules are checked by different guards.
pub(crate) fn kept(source: &ImageSource, list: &List) -> Option<(List, Loaded)> {
    let notes = ListNotes::of(source)?;
    let same = source.name == list.source.name
        // Older images do not have the kind, but only block lists were checked against protected names.
        && notes.kind.map_or(
            notes.protected_names.is_empty() != list.source.blocks(),
            |kind| kind == list.source.kind,
        );
    let mut read = list.clone();
    read.source.path.clone_from(&source.path);
    (read.format, read.scope, read.comments) = (notes.format, notes.scope, notes.comments);
    read.column = notes.column;
    let loaded = Loaded {
        rules: source.rules as usize,
        tally: notes.tally,
        digest: source.digest.clone(),
        signature: notes.signature,
        at: source.read_at,
        took: Duration::from_millis(notes.took_ms),
        protected_names: notes.protected_names,
        released: notes.released,
    };
    same.then_some((read, loaded))
}

/// The key of a list's rules: a hash of the file's digest, its notation, and the protected names.
pub(crate) fn content(list: &List, loaded: &Loaded) -> String {
    key(&loaded.digest, &list.into(), &loaded.protected_names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Config;
    use crate::control::guard::policy::GuardPolicy;
    use crate::control::guard::release::Guards;
    use crate::control::sources::lists::load::load;
    use crate::policy::rule::Kind;

    #[test]
    fn images_of_versions_that_recorded_neither_kind_nor_comments_are_used_for_the_same_lists() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ads"), "one.example\n").expect("written");
        let text = "[[list]]\nname = \"ads\"\npath = \"ads\"\n";
        let config = Config::parse(text, &folder.path().join("tapis.toml")).expect("valid");
        let list = &config.lists[0];
        let fresh = load(list, &GuardPolicy::read(&config), &[], Guards::NONE).expect("a list");
        let mut of_image = source(list, &fresh.loaded);
        let notes = of_image.notes.as_object_mut().expect("a table");
        assert!(notes.remove("kind").is_some() && notes.remove("comments").is_some());
        assert!(loaded(&of_image, list).is_some());
        let mut allow = list.clone();
        allow.source.kind = Kind::Allow;
        assert!(loaded(&of_image, &allow).is_none());
    }
}
