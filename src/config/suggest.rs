//! Owns the guess at what a misspelt word was meant to be.
//! Refuses to guess where the words have little in common.

/// The candidate that `word` was most likely meant to be: at most one mistake in three characters.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // The cost is the product of both lengths, and no key is longer than this.
    if word.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(mistakes, candidate)| *mistakes <= candidate.len().div_ceil(3))
        .min_by_key(|(mistakes, _)| *mistakes)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be put in, left out or replaced to make `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_mistakes() {
        for (a, b, mistakes) in [
            ("", "", 0),
            ("", "ab", 2),
            ("servrs", "servers", 1),
            ("kitten", "sitting", 3),
            ("ttl_secs", "ttl-secs", 1),
        ] {
            assert_eq!(distance(a, b), mistakes, "{a} {b}");
            assert_eq!(distance(b, a), mistakes, "{b} {a}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let keys = ["servers", "timeout-ms"];
        assert_eq!(nearest("servrs", keys), Some("servers"));
        assert_eq!(nearest("timeout", keys), Some("timeout-ms"));
        assert_eq!(nearest("workers", keys), Some("servers"));
        assert_eq!(nearest("zone", keys), None);
    }
}
