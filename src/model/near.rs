//! "Did you mean": the nearest of some known names.

/// Largest edit distance (Damerau-Levenshtein) that still counts as a slip of the fingers.
const SLIPS_MAX: usize = 2;

/// The known name that is spelt nearly as `word`, if there is one; of equally near ones the first.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let (lower, length) = (word.to_lowercase(), word.chars().count());
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(slips, _)| *slips <= SLIPS_MAX && *slips < length)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let known = ["FlexLM-Riviera", "FlexLM-Coverage", "permits"];
        assert_eq!(nearest("flexlm-riviera", known), Some("FlexLM-Riviera"));
        assert_eq!(nearest("FlexLM-Rivirea", known), Some("FlexLM-Riviera"));
        assert_eq!(nearest("permit", known), Some("permits"));
        assert_eq!(nearest("questa", known), None);
        assert_eq!(nearest("x", ["y"]), None, "one letter is no slip");
    }
}
