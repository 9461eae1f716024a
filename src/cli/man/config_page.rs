//! The manual page of the configuration, tapis.toml(5), made from the comments of the documented default.

use clap_mangen::roff::{Roff, bold, roman};

use crate::config::Config;

/// Lines without an empty line between them.
#[derive(Debug, Default)]
struct Block {
    /// The comment, without the `#` of each line.
    comment: Vec<String>,
    /// The keys that it explains, with their values.
    keys: Vec<String>,
}

/// A part of the configuration's text, in order.
#[derive(Debug)]
enum Part {
    /// The header of a section, and the comment before it.
    Section(String, Vec<String>),
    /// An explanation, or keys with their explanation.
    Block(Block),
    /// An explanation that ends with an example of a section, which is the only documentation of that section.
    Example {
        comment: Vec<String>,
        header: String,
        lines: Vec<String>,
    },
}

/// The page.
pub(super) fn page() -> Roff {
    let mut page = Roff::new();
    page.control(
        "TH",
        [
            "tapis.toml",
            "5",
            "",
            concat!("Tapis ", env!("CARGO_PKG_VERSION")),
            "Tapis",
        ],
    );
    page.control("SH", ["NAME"]);
    page.text([roman(
        "tapis.toml - the configuration of the DNS server tapis",
    )]);
    page.control("SH", ["DESCRIPTION"]);
    let (head, body) = Config::BUILT_IN
        .split_once("\n\n")
        .unwrap_or(("", Config::BUILT_IN));
    for paragraph in parts(head).iter().skip(1) {
        if let Part::Block(block) = paragraph {
            page.control("PP", []);
            add_comment(&mut page, &block.comment);
        }
    }
    add_sections(&mut page, parts(body));
    page.control("SH", ["FILES"]);
    page.control("TP", []);
    page.text([bold("/etc/tapis/tapis.toml")]);
    page.text([roman(
        "The configuration, if neither --config nor TAPIS_CONFIG names another file.",
    )]);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(
        "tapis(1), tapis-check(1), tapis-reload(1), tapis-serve(1)",
    )]);
    page
}

fn add_sections(page: &mut Roff, parts: Vec<Part>) {
    let mut section = String::new();
    // An explanation may belong to the section whose example follows it.
    let mut waiting: Option<Vec<String>> = None;
    for part in parts {
        let explanation = waiting.take();
        let begins = match &part {
            Part::Section(header, _) | Part::Example { header, .. } => Some(header.clone()),
            Part::Block(_) => None,
        };
        // The text between a section and the next header in brackets is about the former.
        let is_example = matches!(part, Part::Example { .. });
        if let Some(comment) = explanation.as_ref().filter(|_| !is_example) {
            add_paragraph(page, comment);
        }
        if let Some(header) = begins.filter(|header| *header != section) {
            page.control("SH", [header.as_str()]);
            section = header;
        }
        if let Some(comment) = explanation.filter(|_| is_example) {
            add_paragraph(page, &comment);
        }
        match part {
            Part::Section(_, comment) => add_paragraph(page, &comment),
            Part::Example { comment, lines, .. } => {
                add_paragraph(page, &comment);
                page.control("PP", []);
                add_unfilled(page, &lines);
            }
            Part::Block(block) if block.keys.is_empty() => waiting = Some(block.comment),
            Part::Block(block) => {
                page.control("PP", []);
                page.control("nf", []);
                for key in &block.keys {
                    page.text([bold(key.as_str())]);
                }
                page.control("fi", []);
                page.control("RS", []);
                add_comment(page, &block.comment);
                page.control("RE", []);
            }
        }
    }
    if let Some(comment) = waiting {
        add_paragraph(page, &comment);
    }
}

fn add_paragraph(page: &mut Roff, comment: &[String]) {
    if !comment.is_empty() {
        page.control("PP", []);
        add_comment(page, comment);
    }
}

/// Adds a comment. Tables and examples in it are not filled.
fn add_comment(page: &mut Roff, comment: &[String]) {
    let mut rest = comment;
    while let Some(first) = rest.first() {
        let is_same = |line: &String| is_unfilled(line) == is_unfilled(first);
        let length = rest.iter().take_while(|line| is_same(line)).count();
        let (lines, after) = rest.split_at(length);
        match is_unfilled(first) {
            true => add_unfilled(page, lines),
            false => lines.iter().for_each(|line| {
                page.text([roman(line.as_str())]);
            }),
        }
        rest = after;
    }
}

fn add_unfilled(page: &mut Roff, lines: &[String]) {
    page.control("nf", []);
    for line in lines {
        page.text([roman(line.as_str())]);
    }
    page.control("fi", []);
}

/// Whether a line is indented, or begins with a word and a gap, as rows of tables do.
fn is_unfilled(line: &str) -> bool {
    let word = line.find(' ').unwrap_or(0);
    line.starts_with("  ") || line[word..].starts_with("   ")
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut block = Block::default();
    for line in text.lines() {
        match line.strip_prefix('#') {
            Some(comment) if comment.trim().is_empty() => finish(&mut block, &mut parts),
            Some(comment) => {
                let comment = comment.strip_prefix(' ').unwrap_or(comment);
                block.comment.push(comment.to_owned());
            }
            None if line.trim().is_empty() => finish(&mut block, &mut parts),
            None if line.starts_with('[') => {
                parts.push(Part::Section(line.to_owned(), block.comment));
                block = Block::default();
            }
            None => block.keys.push(line.to_owned()),
        }
    }
    finish(&mut block, &mut parts);
    parts
}

/// Ends a block at an empty line.
fn finish(block: &mut Block, parts: &mut Vec<Part>) {
    let Block {
        mut comment,
        mut keys,
    } = std::mem::take(block);
    let is_header = |line: &String| line.trim().starts_with("[[") && line.trim().ends_with("]]");
    if let Some(start) = comment.iter().position(is_header) {
        let lines = comment.split_off(start);
        let header = lines[0].trim().to_owned();
        parts.push(Part::Example {
            comment,
            header,
            lines,
        });
        return;
    }
    if keys.is_empty() {
        keys = comment.split_off(first_key(&comment));
        // Further lines of a value keep their place below the first.
        let indent = keys
            .first()
            .map_or(0, |key| key.len() - key.trim_start().len());
        for key in &mut keys {
            *key = key.get(indent..).unwrap_or_default().to_owned();
        }
    }
    if !comment.is_empty() || !keys.is_empty() {
        parts.push(Part::Block(Block { comment, keys }));
    }
}

/// Where the keys begin that are comments because they have no default. They are the last lines of a comment.
fn first_key(comment: &[String]) -> usize {
    let ends_with_keys = |start: &usize| {
        let mut open = 0;
        comment[*start..].iter().all(|line| {
            let is_part = open > 0 || is_key(line);
            open += line.matches(['[', '{']).count() as isize;
            open -= line.matches([']', '}']).count() as isize;
            is_part
        })
    };
    let mut starts = 0..comment.len();
    starts.find(ends_with_keys).unwrap_or(comment.len())
}

fn is_key(line: &str) -> bool {
    let Some((key, _)) = line.trim_start().split_once(" = ") else {
        return false;
    };
    !key.is_empty()
        && key
            .chars()
            .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let mut page = Roff::new();
        add_sections(&mut page, parts(text));
        page.render()
    }

    #[test]
    fn keys_follow_their_section_and_precede_their_explanation() {
        let page = rendered(
            "# All.\n[server]\n# Where.\n# Default: none.\nlisten = [\"a\"]\n\n# Who.\n# id = \"b\"\n",
        );
        let lines: Vec<_> = page.lines().collect();
        let at = |text: &str| {
            lines
                .iter()
                .position(|line| line.contains(text))
                .expect(text)
        };
        let order = [
            ".SH [server]",
            "All.",
            "listen = ",
            "Where.",
            "id = ",
            "Who.",
        ]
        .map(at);
        assert!(order.is_sorted(), "{page}");
        assert_eq!(page.matches(".RS").count(), 2, "{page}");
    }

    #[test]
    fn an_explained_example_of_a_section_is_that_section() {
        let page = rendered(
            "[block]\na = 1\n\n# One for each.\n#\n#   [[feed]]\n#   zone = \"x\"\n#\n# The zone.\n# zone = \"x\"\n",
        );
        let (_, feed) = page.split_once(".SH [[feed]]").expect("a section");
        for part in ["One for each.", ".nf", "The zone."] {
            assert!(feed.contains(part), "{part}: {page}");
        }
    }

    #[test]
    fn a_key_of_several_lines_is_whole_and_tables_are_not_filled() {
        let page = rendered(
            "# Servers:\n#   edns   no EDNS\n# servers = [\"a\",\n#            { b = 1 }]\n",
        );
        let (keys, comment) = page.split_once("Servers:").expect("a comment");
        assert!(keys.contains("{ b = 1 }]"), "{page}");
        assert!(comment.starts_with("\n.nf\n"), "{page}");
    }
}
