//! "Did you mean": the candidate nearest to a mistyped word.

/// The candidate with the smallest edit distance to `word`, the first of several; `None` if all are far off.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bound = word.chars().count().max(4) / 2 + 1;
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(far, _)| *far <= bound)
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters, one row at a time.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, here) in left.chars().enumerate() {
        let mut diagonal = at;
        let mut before = at + 1;
        let mut next = vec![before];
        for (above, there) in row.iter().skip(1).zip(&right) {
            let changed = diagonal + usize::from(here != *there);
            before = changed.min(above + 1).min(before + 1);
            next.push(before);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances_count_single_edits() {
        for (left, right, far) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("raed", "read", 2),
            ("reed", "read", 1),
        ] {
            assert_eq!(distance(left, right), far, "{left} {right}");
        }
    }

    #[test]
    fn a_typing_error_finds_its_word_and_nonsense_finds_none() {
        let words = ["messages.read", "messages.send"];
        assert_eq!(nearest("mesages.read", words.into_iter()), Some("messages.read"));
        assert_eq!(nearest("zzzzzzzzzzzzzzzzzzzzzz", words.into_iter()), None);
    }
}
