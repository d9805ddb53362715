//! Steps, octaves and MIDI numbers.

/// Semitones of C D E F G A B above C.
pub const SEMITONES: [i32; 7] = [0, 2, 4, 5, 7, 9, 11];

/// 0-6 for a note letter C D E F G A B in either case.
pub fn step_of(letter: char) -> Option<u8> {
    Some(match letter.to_ascii_uppercase() {
        'C' => 0,
        'D' => 1,
        'E' => 2,
        'F' => 3,
        'G' => 4,
        'A' => 5,
        'B' => 6,
        _ => return None,
    })
}

/// The MIDI number of a step in a written octave (0 holds middle C) with an alteration in semitones, and whether it
/// had to be moved by octaves to fit 0-127.
pub fn midi_number(step: u8, octave: i32, alteration: i32) -> (u8, bool) {
    let base = SEMITONES.get(usize::from(step)).copied().unwrap_or(0);
    let number = octave
        .checked_mul(12)
        .and_then(|o| o.checked_add(60 + base))
        .and_then(|n| n.checked_add(alteration))
        .unwrap_or(if octave < 0 { i32::MIN } else { i32::MAX });
    match u8::try_from(number) {
        Ok(n) if n < 128 => (n, false),
        _ if number < 0 => (u8::try_from(number.rem_euclid(12)).unwrap_or(0), true),
        _ => (u8::try_from(108 + number.rem_euclid(12)).unwrap_or(108), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_c_is_60_and_the_rest_follows() {
        assert_eq!(midi_number(0, 0, 0), (60, false));
        assert_eq!(midi_number(5, 0, 0), (69, false));
        assert_eq!(midi_number(6, 1, -1), (82, false));
        assert_eq!(midi_number(0, -5, 0), (0, false));
    }

    #[test]
    fn far_octaves_are_moved_not_wrapped() {
        assert_eq!(midi_number(0, -6, 0), (0, true));
        assert_eq!(midi_number(0, 6, 0), (108, true));
        assert!(midi_number(6, i32::MAX, i32::MAX).1);
        assert!(midi_number(6, i32::MIN, i32::MIN).0 < 128);
    }
}
