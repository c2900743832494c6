//! Text with a bound on it.

/// What stands at the end of text that was cut.
const MARK: &str = "\n[cut]";

/// At most `max` bytes of `text`, whole characters only; cut text says so at its end.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", text.get(..end).unwrap_or_default())
}

/// At most `max` characters of `text`, without a mark: for fields whose length is counted in characters.
pub(crate) fn first_chars(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_text_stays_as_it_is() {
        assert_eq!(cut("héllo", 64), "héllo");
    }

    proptest! {
        #[test]
        fn cut_text_keeps_its_bound_and_its_beginning(text in "\\PC{0,80}", max in 16_usize..64) {
            let cut = cut(&text, max);
            prop_assert!(cut.len() <= max);
            prop_assert!(text.starts_with(cut.trim_end_matches(MARK)));
        }
    }
}
