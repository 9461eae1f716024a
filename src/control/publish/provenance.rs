//! Owns what an image tells of a list that it was made of, and the way back from there.
//! Refuses to know where images are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::comments::Comments;
use crate::config::{Content, Format, List};
use crate::control::compile::plan::ListNotes;
use crate::control::sources::lists::load::Loaded;
use crate::policy::image::provenance::ImageSource;
use crate::policy::rule::Scope;

/// Hexadecimal digits of the key of a list's rules.
const KEY: usize = 32;

/// What an image is to tell of a list.
pub(crate) fn source(list: &List, loaded: &Loaded) -> ImageSource {
    let notes = ListNotes {
        format: list.format,
        scope: list.scope,
        comments: list.comments,
        kind: Some(list.source.kind),
        tally: loaded.tally.clone(),
        signature: loaded.signature,
        took_ms: loaded.took.as_millis() as u64,
        protected_names: loaded.protected_names.clone(),
        released: loaded.released,
    };
    ImageSource {
        name: list.source.name.clone(),
        path: recorded(&list.source.path),
        read_at: loaded.at,
        digest: loaded.digest.clone(),
        whole: false,
        rules: loaded.rules as u64,
        notes: notes.to_value(),
    }
}

/// What is known of a list from what an image tells; nothing if it was read from another file, or
/// in another way, as its rules would be others then.
pub(crate) fn loaded(source: &ImageSource, list: &List) -> Option<Loaded> {
    let (read, loaded) = kept(source, list)?;
    let same = read.source.path == recorded(&list.source.path)
        && (read.format, read.scope) == (list.format, list.scope)
        && read.comments == list.comments;
    same.then_some(loaded)
}

/// The same from whichever file it was read, and however, with the list as it was read then. `None` if the image has
/// another list: of another name, or of another kind, which other guards check.
pub(crate) fn kept(source: &ImageSource, list: &List) -> Option<(List, Loaded)> {
    let notes = ListNotes::of(source)?;
    let same = source.name == list.source.name
        // Of older images the kind follows from what rules were checked against.
        && notes.kind.map_or(
            notes.protected_names.is_empty() != list.source.blocks(),
            |kind| kind == list.source.kind,
        );
    let mut read = list.clone();
    read.source.path.clone_from(&source.path);
    (read.format, read.scope, read.comments) = (notes.format, notes.scope, notes.comments);
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

/// The key of a list's rules: another one where the file is, the way that it is read, or the names that none of
/// its rules may cover.
pub(crate) fn content(list: &List, loaded: &Loaded) -> String {
    let read = (list.format, list.comments, list.scope);
    key(&loaded.digest, read, &loaded.protected_names)
}

/// The same of a list in an image; `None` if the image does not tell how it was read.
pub(crate) fn content_of(source: &ImageSource) -> Option<String> {
    let notes = ListNotes::of(source)?;
    let read = (notes.format, notes.comments, notes.scope);
    Some(key(&source.digest, read, &notes.protected_names))
}

/// What the rules of a list in an image follow from, as text: equal ones have the same rules, whenever they were read.
pub(crate) fn rules_of(source: &ImageSource) -> String {
    let ImageSource {
        name,
        path,
        digest,
        rules,
        notes,
        read_at: _,
        whole: _,
    } = source;
    let all = match (ListNotes::of(source), content_of(source)) {
        (Some(of), Some(content)) => {
            serde_json::to_string(&(name, path, digest, rules, of.kind, of.released, content))
        }
        _ => serde_json::to_string(&(name, path, digest, rules, notes)),
    };
    all.expect("texts, numbers and words have a JSON form")
}

fn key(digest: &str, read: (Format, Comments, Scope), protected_names: &str) -> String {
    let all = serde_json::to_vec(&(digest, read, protected_names));
    let all = all.expect("texts and words have a JSON form");
    let mut key = blake3::hash(&all).to_hex().to_string();
    key.truncate(KEY);
    key
}

/// How an image tells where a list was: in JSON, which knows no octets that are no text.
pub(crate) fn recorded(path: &Path) -> PathBuf {
    legible(&absolute(path))
}

/// Where a list's file is, as the journal has it: from wherever it is read later.
pub(crate) fn place(list: &List) -> PathBuf {
    match list.content {
        Content::File => recorded(&list.source.path),
        Content::Embedded(_) => legible(&list.source.path),
    }
}

/// A path as JSON can hold it.
pub(crate) fn legible(path: &Path) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

/// The same file, however the configuration was named. Without a working directory the path stays
/// as it is.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
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
