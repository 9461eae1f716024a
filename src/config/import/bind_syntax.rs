//! The syntax of `named.conf`: statements of words and blocks, each ended by a semicolon.

use std::rc::Rc;

use super::draft::SourceLine;
use super::error::ImportError;
use super::folder::ReadFile;

/// How deep blocks may be nested.
const DEPTH_MAX: usize = 32;

/// A statement: words, and blocks between them.
#[derive(Clone)]
pub(super) struct Statement {
    pub(super) words: Vec<String>,
    /// The statements of its blocks, one after the other.
    pub(super) block: Vec<Statement>,
    pub(super) line: SourceLine,
}

impl Statement {
    /// A word, or an empty text.
    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// The word behind a keyword.
    pub(super) fn after(&self, keyword: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == keyword)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// The statement of its block that begins with a word.
    pub(super) fn get(&self, keyword: &str) -> Option<&Self> {
        self.block
            .iter()
            .rfind(|statement| statement.word(0) == keyword)
    }
}

enum Token {
    Word(String),
    Open,
    Close,
    End,
}

/// Parses a file.
///
/// # Errors
/// [`ImportError::Syntax`], with the line, if braces or semicolons are missing.
pub(super) fn parse(file: &ReadFile) -> Result<Vec<Statement>, ImportError> {
    let error = |line: &SourceLine, message: &str| syntax(file, line.number, message);
    let start = SourceLine::new(&file.path, 1);
    // The statements of each open block, and the words that the next statement has so far.
    let mut open: Vec<Vec<Statement>> = vec![Vec::new()];
    let mut begun: Vec<Option<Statement>> = vec![None];
    let mut line = start.clone();
    for (token, number) in tokens(file)? {
        line = SourceLine::new(&file.path, number);
        let new = || Statement {
            words: Vec::new(),
            block: Vec::new(),
            line: line.clone(),
        };
        let current = begun
            .last_mut()
            .ok_or_else(|| error(&line, "a closing brace without an opening one"))?;
        match token {
            Token::Word(word) => current.get_or_insert_with(new).words.push(word),
            Token::Open if open.len() >= DEPTH_MAX => {
                return Err(error(&line, "blocks are nested too deeply"));
            }
            Token::Open => {
                current.get_or_insert_with(new);
                open.push(Vec::new());
                begun.push(None);
            }
            Token::Close => {
                let is_incomplete = current.is_some();
                begun.pop();
                let block = open.pop().unwrap_or_default();
                if is_incomplete {
                    return Err(error(
                        &line,
                        "a semicolon is missing before the closing brace",
                    ));
                }
                match begun.last_mut() {
                    Some(Some(outer)) => outer.block.extend(block),
                    _ => return Err(error(&line, "a closing brace without an opening one")),
                }
            }
            Token::End => {
                if let (Some(statement), Some(statements)) = (current.take(), open.last_mut()) {
                    statements.push(statement);
                }
            }
        }
    }
    match (open.len(), begun.pop().flatten()) {
        (1, None) => Ok(open.pop().unwrap_or_default()),
        (1, Some(statement)) => Err(error(
            &statement.line,
            "a statement without a semicolon at its end",
        )),
        _ => Err(error(&line, "a closing brace is missing")),
    }
}

fn syntax(file: &ReadFile, line: u32, message: &str) -> ImportError {
    ImportError::Syntax {
        path: file.path.to_path_buf(),
        line,
        message: message.to_owned(),
    }
}

/// The tokens with their lines. Comments have the forms of C, C++ and the shell.
///
/// # Errors
/// A comment or a text in quotation marks without its end.
fn tokens(file: &ReadFile) -> Result<Vec<(Token, usize)>, ImportError> {
    let (text, bytes) = (&*file.text, file.text.as_bytes());
    let unended = |line: usize, what: &str| {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        syntax(file, line, &format!("{what} without its end"))
    };
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &bytes[at..];
        match rest {
            [b'\n', ..] => {
                line += 1;
                at += 1;
            }
            [b'#', ..] | [b'/', b'/', ..] => {
                at += rest
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(rest.len());
            }
            [b'/', b'*', ..] => {
                let end = text[at + 2..].find("*/");
                let len = end.ok_or_else(|| unended(line, "a comment"))? + 4;
                line += rest[..len].iter().filter(|byte| **byte == b'\n').count();
                at += len;
            }
            [b'"', inner @ ..] => {
                let end = inner.iter().position(|byte| *byte == b'"');
                let len = end.ok_or_else(|| unended(line, "a quotation mark"))?;
                found.push((Token::Word(text[at + 1..at + 1 + len].to_owned()), line));
                line += inner[..len].iter().filter(|byte| **byte == b'\n').count();
                at += len + 2;
            }
            [b'{', ..] => {
                found.push((Token::Open, line));
                at += 1;
            }
            [b'}', ..] => {
                found.push((Token::Close, line));
                at += 1;
            }
            [b';', ..] => {
                found.push((Token::End, line));
                at += 1;
            }
            [byte, ..] if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || b"{};\"#".contains(byte);
                let len = rest.iter().position(ends).unwrap_or(rest.len());
                found.push((Token::Word(text[at..at + len].to_owned()), line));
                at += len;
            }
        }
    }
    Ok(found)
}

/// Replaces statements `include` by the statements that `read` returns for them.
pub(super) fn with_includes(
    statements: Vec<Statement>,
    read: &mut impl FnMut(&str, &SourceLine, usize) -> Vec<Statement>,
    depth: usize,
) -> Vec<Statement> {
    let mut all = Vec::new();
    for mut statement in statements {
        if statement.word(0) == "include" {
            let included = read(statement.word(1), &statement.line, depth);
            all.extend(with_includes(included, read, depth + 1));
            continue;
        }
        let block = std::mem::take(&mut statement.block);
        statement.block = with_includes(block, read, depth + 1);
        all.push(statement);
    }
    all
}

/// The source line of a file's start.
pub(super) fn first_line(path: &Rc<std::path::Path>) -> SourceLine {
    SourceLine::new(path, 1)
}
