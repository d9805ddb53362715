//! The order of parts in a header's `P:` field: `AABB`, `A3B`, `(AB)3.C2`.

/// The most parts an order may play.
pub const MAX_PARTS: usize = 1000;
/// How deep brackets may nest.
const MAX_DEPTH: usize = 16;

/// Plays out the order of parts.
///
/// # Errors
/// A sentence saying what is wrong: a character that is no part, brackets that do not match, an order too long.
pub fn parse_parts(text: &str) -> Result<Vec<char>, String> {
    let mut stack: Vec<Vec<char>> = vec![Vec::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // What a number behind it repeats: a letter or a whole bracket.
        let last = match c {
            'A'..='Z' | 'a'..='z' => vec![c],
            '(' => {
                if stack.len() > MAX_DEPTH {
                    return Err(format!("brackets nest deeper than {MAX_DEPTH} in the order of parts"));
                }
                stack.push(Vec::new());
                continue;
            }
            ')' if stack.len() > 1 => stack.pop().unwrap_or_default(),
            '.' | ' ' | '\t' | ',' => continue,
            _ => return Err(format!("{c:?} is no part; an order of parts looks like AABB or (AB)2C")),
        };
        let mut times: usize = 0;
        while let Some(digit) = chars.peek().and_then(|d| d.to_digit(10)) {
            times = times.saturating_mul(10).saturating_add(digit as usize);
            chars.next();
        }
        let times = times.max(1);
        let into = stack.last_mut().ok_or_else(|| "brackets do not match".to_owned())?;
        if last.len().saturating_mul(times).saturating_add(into.len()) > MAX_PARTS {
            return Err(format!("the order of parts plays more than {MAX_PARTS} parts"));
        }
        for _ in 0..times {
            into.extend_from_slice(&last);
        }
    }
    if stack.len() > 1 {
        return Err("a `(` in the order of parts has no `)`".to_owned());
    }
    Ok(stack.pop().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn orders() {
        let order = |text| parse_parts(text).map(|p| p.into_iter().collect::<String>());
        assert_eq!(order("AABB").as_deref(), Ok("AABB"));
        assert_eq!(order("A3.B2").as_deref(), Ok("AAABB"));
        assert_eq!(order("((AB)2C)2").as_deref(), Ok("ABABCABABC"));
        for wrong in ["(A", "A)", "A-B", "A9999", "(((((((((((((((((((A"] {
            assert!(parse_parts(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_order_is_bounded(text in "[A-C()0-9.]{0,60}") {
            if let Ok(parts) = parse_parts(&text) {
                prop_assert!(parts.len() <= MAX_PARTS);
            }
        }
    }
}
