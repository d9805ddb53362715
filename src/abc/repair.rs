//! Raw text, as a model writes it, made fit for a tunebook: numbered, with a key, without blank lines. The music is
//! left as it is.

use super::parse::field_letter;

/// `raw` as tune number `number` of a tunebook: its first line is `X:number` (other `X:` lines are left out), a `K:C`
/// is put before the first line of music when no `K:` line stands there, and there is no blank line inside, which
/// would end the tune. `<start>` and `<end>` lines are left out. Ends with one line feed.
///
/// # Examples
/// ```
/// let abc = songrnn_fast::abc::as_numbered_abc("T:Raw\nM:4/4\n\nCDEF GABc|\n", 7);
/// assert_eq!(abc, "X:7\nT:Raw\nM:4/4\nK:C\nCDEF GABc|\n");
/// ```
pub fn as_numbered_abc(raw: &str, number: usize) -> String {
    let mut out = String::with_capacity(raw.len().saturating_add(24));
    out.push_str(&format!("X:{number}\n"));
    let mut has_key = false;
    // A lone carriage return ends a line for some readers; here it does for all.
    for line in raw.split(['\n', '\r']).map(str::trim_end) {
        let marker = line == "<start>" || line == "<end>";
        if line.is_empty() || marker || line.starts_with("X:") {
            continue;
        }
        if !has_key {
            // The parser takes text before a K: line for a remark, so a key that comes late would hide the music.
            match field_letter(line, false) {
                Some(b'K') => has_key = true,
                Some(_) => {}
                None if line.starts_with('%') || !line.contains('|') => {}
                None => {
                    out.push_str("K:C\n");
                    has_key = true;
                }
            }
        }
        out.push_str(line);
        out.push('\n');
    }
    if !has_key {
        out.push_str("K:C\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{parse_tunebook, split};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_whole_tune_is_only_renumbered() {
        assert_eq!(as_numbered_abc("X:3\r\nT:a\r\nK:G\r\nGAB|", 12), "X:12\nT:a\nK:G\nGAB|\n");
    }

    #[test]
    fn what_is_missing_is_added_and_what_would_end_the_tune_is_taken_out() {
        assert_eq!(as_numbered_abc("", 1), "X:1\nK:C\n");
        assert_eq!(as_numbered_abc("T:a\nX:9\n\nX:4\nAB|\n \nC|\n", 2), "X:2\nT:a\nK:C\nAB|\nC|\n");
        assert_eq!(as_numbered_abc("<start>\nT:a\nK:D\nX:1\nd|\n<end>", 2), "X:2\nT:a\nK:D\nd|\n");
    }

    proptest! {
        #[test]
        fn the_result_is_always_one_tune_with_its_number(raw in "(\\PC|\n|\r|X:|K:|\\||A){0,80}", number in 1usize..1000) {
            let abc = as_numbered_abc(&raw, number);
            prop_assert_eq!(split(&abc).count(), 1);
            let tunes = parse_tunebook(&abc);
            prop_assert_eq!(tunes[0].reference, Some(number as u64));
            prop_assert!(tunes[0].key.is_some() || tunes[0].diagnostics.errors() > 0);
            prop_assert!(!abc.contains("\n\n") && abc.ends_with('\n'));
        }
    }
}
