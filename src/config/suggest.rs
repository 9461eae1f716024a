//! Suggestions for misspelt words.

use strsim::levenshtein;

/// The candidate closest to `word`, if the two differ by at most one mistake for every three characters.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // The cost is the product of both lengths, and no key is longer than this.
    if word.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (levenshtein(word, candidate), candidate))
        .filter(|(mistakes, candidate)| *mistakes <= candidate.len().div_ceil(3))
        .min_by_key(|(mistakes, _)| *mistakes)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let keys = ["servers", "timeout-ms"];
        assert_eq!(nearest("servrs", keys), Some("servers"));
        assert_eq!(nearest("timeout", keys), Some("timeout-ms"));
        assert_eq!(nearest("workers", keys), Some("servers"));
        assert_eq!(nearest("timeout_ms", keys), Some("timeout-ms"));
        assert_eq!(nearest("zone", keys), None);
        assert_eq!(nearest(&"servers".repeat(10), keys), None);
    }
}
