//! A diverging scale of colours from -1 (blue) through near white to 1 (orange red), told apart with any kind of colour
//! vision and by lightness in grey print, and the colour that text has on it.

/// -1, -0.5, 0, 0.5, 1, as red, green and blue; equal steps in lightness on both sides.
const STOPS: [[f64; 3]; 5] = [
    [28.0, 92.0, 168.0],
    [134.0, 181.0, 222.0],
    [247.0, 247.0, 245.0],
    [244.0, 170.0, 116.0],
    [190.0, 68.0, 12.0],
];

/// Red, green, blue of a value; beyond -1 and 1 the ends, NaN grey.
pub fn rgb(value: f64) -> [u8; 3] {
    if value.is_nan() {
        return [128; 3];
    }
    let at = (value.clamp(-1.0, 1.0) + 1.0) * 2.0;
    let left = (at as usize).min(STOPS.len() - 2);
    let part = at - left as f64;
    std::array::from_fn(|k| (STOPS[left][k] * (1.0 - part) + STOPS[left + 1][k] * part).round() as u8)
}

/// `#1c5ca8`.
pub fn hex(rgb: [u8; 3]) -> String {
    let [r, g, b] = rgb;
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The lowest contrast ratio (WCAG 2) that text has on any colour; 3 is asked of text of this size, 4.5 of small text.
const CONTRAST: f64 = 4.0;

/// Black or white, as text on a colour: white where it can be read, since black on a strong blue looks duller than its
/// contrast ratio says.
pub fn ink(rgb: [u8; 3]) -> &'static str {
    if 1.05 / (luminance(rgb) + 0.05) >= CONTRAST { "#fff" } else { "#000" }
}

/// Relative luminance, 0 to 1 (WCAG 2).
fn luminance(rgb: [u8; 3]) -> f64 {
    let [r, g, b] = rgb.map(|c| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_middle() {
        assert_eq!(hex(rgb(-1.0)), "#1c5ca8");
        assert_eq!(rgb(-7.0), rgb(-1.0));
        assert_eq!(rgb(f64::INFINITY), rgb(1.0));
        assert!(rgb(0.0).iter().all(|&c| c > 240));
        assert_eq!(rgb(f64::NAN), [128; 3]);
        let [r, _, b] = rgb(1.0);
        assert!(r > b);
    }

    #[test]
    fn text_can_be_read_everywhere_and_more_is_darker() {
        let mut before = 1.0;
        for side in [-1.0, 1.0] {
            for step in 0..=100 {
                let value = side * f64::from(step) / 100.0;
                let light = luminance(rgb(value));
                let ink = if ink(rgb(value)) == "#000" { 0.0 } else { 1.0 };
                let (high, low) = if ink > light { (ink, light) } else { (light, ink) };
                assert!((high + 0.05) / (low + 0.05) >= CONTRAST, "{value}");
                assert!(step == 0 || light < before, "{value}: lightness falls to both ends");
                before = light;
            }
        }
        // The two ends are equally dark, so that grey print shows how strong, and neither end stands out.
        assert!((luminance(rgb(-1.0)) - luminance(rgb(1.0))).abs() < 0.05);
    }
}
