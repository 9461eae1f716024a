//! The most frequent of very many texts in bounded memory: the Misra-Gries algorithm, in the form that removes the rarer
//! half of the texts at once (Anderson and others, 2017).

use std::collections::HashMap;

/// Counts the most frequent texts. No count is too low, and none is too high by more than [`Sketch::error`], which is at
/// most two divided by `most` of all that was counted.
pub(super) struct Sketch {
    counts: HashMap<Box<[u8]>, u64, foldhash::fast::RandomState>,
    most: usize,
    /// The highest count that a text which is not counted may have.
    floor: u64,
}

/// The most frequent texts with their counts, the most frequent first, and by how much the counts may be too high.
pub(super) type Top<'s> = (Vec<(&'s [u8], u64)>, u64);

impl Sketch {
    /// A sketch that counts up to `most` texts at a time.
    pub(super) fn new(most: usize) -> Self {
        Self {
            counts: HashMap::default(),
            most,
            floor: 0,
        }
    }

    /// Counts one occurrence of a text.
    pub(super) fn add(&mut self, text: &[u8]) {
        if let Some(count) = self.counts.get_mut(text) {
            *count += 1;
            return;
        }
        if self.counts.len() >= self.most {
            self.shrink();
        }
        self.counts.insert(text.into(), self.floor + 1);
    }

    /// Removes the rarer half of the texts at once, so that a flood of new texts costs little each.
    fn shrink(&mut self) {
        let mut counts: Vec<_> = self.counts.values().copied().collect();
        let middle = counts.len() / 2;
        let (_, median, _) = counts.select_nth_unstable(middle);
        let median = *median;
        self.counts.retain(|_, count| *count > median);
        self.floor = median;
    }

    /// By how much a count may be too high.
    fn error(&self) -> u64 {
        self.floor
    }

    /// The most frequent texts of this sketch and another one together.
    pub(super) fn top<'s>(&'s self, other: Option<&'s Self>, most: usize) -> Top<'s> {
        let known = |sketch: Option<&Self>, text: &[u8]| match sketch {
            None => 0,
            Some(sketch) => sketch.counts.get(text).copied().unwrap_or(sketch.floor),
        };
        let own = self.counts.iter();
        let mut all: Vec<(&[u8], u64)> = own
            .map(|(text, count)| (&**text, count + known(other, text)))
            .collect();
        if let Some(other) = other {
            let rest = other.counts.iter();
            let rest = rest.filter(|(text, _)| !self.counts.contains_key(*text));
            all.extend(rest.map(|(text, count)| (&**text, count + self.floor)));
        }
        let order = |(one, a): &(&[u8], u64), (two, b): &(&[u8], u64)| b.cmp(a).then(one.cmp(two));
        if all.len() > most {
            all.select_nth_unstable_by(most, order);
            all.truncate(most);
        }
        all.sort_unstable_by(order);
        let error = self.error() + other.map_or(0, Self::error);
        (all, error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(texts: &[u8]) -> HashMap<u8, u64> {
        let mut model = HashMap::new();
        for text in texts {
            *model.entry(*text).or_default() += 1;
        }
        model
    }

    proptest! {
        #[test]
        fn counts_are_never_too_low_and_at_most_too_high_by_the_error(
            texts in prop::collection::vec(0u8..40, 0..600),
            split in 0usize..600,
            skew in 1u8..40,
        ) {
            // Low numbers occur more often.
            let texts: Vec<_> = texts.iter().map(|text| text % (1 + text % skew)).collect();
            let (first, second) = texts.split_at(split.min(texts.len()));
            let sketches = [first, second].map(|part| {
                let mut sketch = Sketch::new(8);
                for text in part {
                    sketch.add(&[*text]);
                    assert!(sketch.counts.len() <= 8);
                }
                assert!(sketch.floor <= 2 * part.len() as u64 / 8);
                sketch
            });
            for (sketch, part) in sketches.iter().zip([first, second]) {
                let model = model(part);
                let (top, error) = sketch.top(None, 8);
                for (text, count) in &top {
                    let real = model[&text[0]];
                    prop_assert!((real..=real + error).contains(count));
                }
                // A text that is not shown occurred at most that often.
                for (text, real) in &model {
                    prop_assert!(*real <= error || top.iter().any(|(shown, _)| *shown == [*text]));
                }
            }
            let model = model(&texts);
            let (top, error) = sketches[0].top(Some(&sketches[1]), 16);
            for (text, count) in &top {
                let real = model[&text[0]];
                prop_assert!((real..=real + error).contains(count));
            }
            let counts: Vec<_> = top.iter().map(|(_, count)| *count).collect();
            prop_assert!(counts.is_sorted_by(|a, b| a >= b));
        }
    }

    #[test]
    fn few_texts_are_counted_exactly_and_the_most_frequent_come_first() {
        let [mut sketch, mut other] = [(); 2].map(|()| Sketch::new(8));
        for text in ["b", "a", "b", "c", "b", "a"] {
            sketch.add(text.as_bytes());
        }
        let shown = |(top, error): Top<'_>| {
            let text = |(text, count): (&[u8], u64)| format!("{}{count}", text.escape_ascii());
            (
                top.into_iter().map(text).collect::<Vec<_>>().join(" "),
                error,
            )
        };
        assert_eq!(shown(sketch.top(None, 9)), ("b3 a2 c1".to_owned(), 0));
        assert_eq!(shown(sketch.top(None, 1)), ("b3".to_owned(), 0));
        for text in ["c", "c", "c", "d"] {
            other.add(text.as_bytes());
        }
        let both = shown(sketch.top(Some(&other), 3));
        assert_eq!(both, ("c4 b3 a2".to_owned(), 0));
    }
}
