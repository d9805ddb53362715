//! Room for words: how wide they are, how they are wrapped and shortened, and how labels keep out of each other's way.

use crate::viz::svg::ADVANCE;

/// Width of words in pixels, from the advances of DejaVu Sans (the widest of the families), a little generously.
pub(super) fn text_width(words: &str, size: f64) -> f64 {
    let advance = |c: char| match c {
        ' ' | '.' | ',' | ':' | ';' | '|' | '!' | '\'' | 'i' | 'j' | 'l' | 'I' | '(' | ')' | '[' | ']' => {
            0.38
        }
        'f' | 'r' | 't' | '-' | '/' | '"' => 0.43,
        'm' | 'w' | 'W' | 'M' | '%' | '@' => 0.98,
        '0'..='9' => 0.64,
        'A'..='Z' => 0.72,
        c if c.is_ascii() => ADVANCE,
        // Unknown scripts may be as wide as they are high.
        c if c < '\u{500}' => 0.75,
        '\u{2000}'..='\u{206f}' => 0.75,
        _ => 1.05,
    };
    words.chars().map(advance).sum::<f64>() * size
}

/// The words, or as many of their characters as fit and an ellipsis.
pub(super) fn fit(words: &str, size: f64, room: f64) -> String {
    if text_width(words, size) <= room {
        return words.to_string();
    }
    let mut kept = String::new();
    for c in words.chars() {
        kept.push(c);
        if text_width(&kept, size) + size > room {
            kept.pop();
            break;
        }
    }
    format!("{}\u{2026}", kept.trim_end())
}

/// The words in lines that fit, at most `most`; what is beyond is cut with an ellipsis.
pub(super) fn wrap(words: &str, size: f64, room: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut words = words.split_whitespace().peekable();
    while let Some(&word) = words.peek() {
        let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if text_width(&longer, size) <= room {
            line = longer;
            words.next();
        } else if lines.len() + 1 == most || line.is_empty() {
            // The last line, or a word longer than a line.
            lines.push(fit(&longer, size, room));
            line.clear();
            words.next();
            if lines.len() == most {
                return lines;
            }
        } else {
            lines.push(std::mem::take(&mut line));
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Moves labels apart so that neighbours are at least `apart` from each other and all lie between `top` and `bottom`,
/// as near as possible to where they want to be. Too many for the room: evenly spread.
pub(super) fn spread(wanted: &[f64], apart: f64, top: f64, bottom: f64) -> Vec<f64> {
    let n = wanted.len();
    if n == 0 {
        return Vec::new();
    }
    let apart = if n > 1 { apart.min((bottom - top) / (n - 1) as f64) } else { apart };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // Clusters of labels that touch lie around the mean of what their members want.
    let mut clusters: Vec<(f64, Vec<usize>)> = Vec::new();
    let half = |members: &[usize]| (members.len() - 1) as f64 * apart / 2.0;
    for i in order {
        let mut here = (wanted[i].clamp(top, bottom), vec![i]);
        while let Some((centre, members)) = clusters.last() {
            if centre + half(members) + apart <= here.0 - half(&here.1) + 1e-9 {
                break;
            }
            let (a, b) = (members.len() as f64, here.1.len() as f64);
            let centre = (centre * a + here.0 * b) / (a + b);
            let mut all = clusters.pop().map_or_else(Vec::new, |cluster| cluster.1);
            all.append(&mut here.1);
            let room = half(&all);
            here = (centre.clamp(top + room, (bottom - room).max(top + room)), all);
        }
        clusters.push(here);
    }
    let mut places = vec![0.0; n];
    for (centre, members) in clusters {
        let first = centre - half(&members);
        for (i, member) in members.into_iter().enumerate() {
            places[member] = first + i as f64 * apart;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_apart_and_inside() {
        assert_eq!(spread(&[50.0, 10.0], 20.0, 0.0, 100.0), [50.0, 10.0]);
        assert_eq!(spread(&[50.0, 52.0], 20.0, 0.0, 100.0), [41.0, 61.0]);
        assert_eq!(spread(&[99.0, 100.0], 20.0, 0.0, 100.0), [80.0, 100.0]);
        assert_eq!(spread(&[0.0, -5.0, 3.0], 20.0, 0.0, 100.0), [20.0, 0.0, 40.0]);
        assert_eq!(spread(&[5.0; 5], 50.0, 0.0, 100.0), [0.0, 25.0, 50.0, 75.0, 100.0]);
        let many: Vec<f64> = (0..40).map(|i| (i * 37 % 91) as f64).collect();
        let mut places = spread(&many, 2.0, 0.0, 100.0);
        places.sort_by(f64::total_cmp);
        assert!(places.windows(2).all(|w| w[1] - w[0] > 1.999) && places[0] >= -1e-9 && places[39] <= 100.0);
    }

    #[test]
    fn words_are_wrapped_and_cut_to_their_room() {
        assert_eq!(wrap("one two  three", 10.0, 50.0, 3), ["one two", "three"]);
        assert_eq!(wrap("", 10.0, 50.0, 3), [] as [&str; 0]);
        for words in ["x".repeat(500), "one two three four five six ".repeat(9)] {
            for line in wrap(&words, 10.0, 80.0, 2) {
                assert!(text_width(&line, 10.0) <= 80.0, "{line}");
            }
            assert!(wrap(&words, 10.0, 80.0, 2).len() <= 2);
        }
        assert!(wrap("one two three four five", 10.0, 50.0, 2)[1].ends_with('\u{2026}'));
        assert_eq!(fit("abc", 10.0, 100.0), "abc");
    }
}
