//! Which files a set of tunes is written as.

use std::str::FromStr;

/// The kinds of files written for each tune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// `.abc`, numbered and completed, and one tunebook with all.
    pub abc: bool,
    /// `.txt`, exactly as sampled.
    pub txt: bool,
    /// `.mid`.
    pub mid: bool,
}

impl Formats {
    /// All of them.
    pub const ALL: Formats = Formats { abc: true, txt: true, mid: true };
}

impl FromStr for Formats {
    type Err = String;

    /// A list such as `abc,txt,mid`.
    fn from_str(list: &str) -> Result<Formats, String> {
        let mut formats = Formats { abc: false, txt: false, mid: false };
        for name in list.split(',').map(str::trim) {
            match name.to_ascii_lowercase().as_str() {
                "abc" => formats.abc = true,
                "txt" => formats.txt = true,
                "mid" | "midi" => formats.mid = true,
                _ => {
                    return Err(format!(
                        "{name:?} is no format; expected abc, txt, mid or several, as in abc,mid"
                    ));
                }
            }
        }
        Ok(formats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!("abc,txt,mid".parse(), Ok(Formats::ALL));
        assert_eq!("MIDI, abc,abc".parse(), Ok(Formats { abc: true, txt: false, mid: true }));
        for bad in ["", "abc,", "wav", "abc;mid"] {
            assert!(bad.parse::<Formats>().is_err(), "{bad:?}");
        }
    }
}
