//! What a panel is drawn with: markers, lines cut at the frame, bands and error bars.

use std::fmt::Write as _;

/// What stands at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// Pointing up.
    Triangle,
    /// On its corner.
    Diamond,
    /// Pointing down.
    Down,
    /// An x.
    Cross,
    /// A plus.
    Plus,
    /// A thin upright bar.
    Tick,
}

impl Marker {
    /// In the order in which series take them.
    pub const ALL: [Marker; 8] = [
        Marker::Circle,
        Marker::Square,
        Marker::Triangle,
        Marker::Diamond,
        Marker::Down,
        Marker::Cross,
        Marker::Plus,
        Marker::Tick,
    ];
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dash {
    /// Through.
    Solid,
    /// Short dashes.
    Short,
    /// Long dashes, for reference lines.
    Long,
    /// Dots.
    Dots,
}

/// A marker of about `size` pixels around its centre each way.
pub(super) fn marker(out: &mut String, kind: Marker, x: f64, y: f64, size: f64, colour: &str, hollow: bool) {
    let paint = if hollow {
        format!(r##"fill="#fff" stroke="{colour}" stroke-width="1.8""##)
    } else {
        format!(r##"fill="{colour}" stroke="#fff" stroke-width="0.8""##)
    };
    let polygon = |corners: &[(f64, f64)]| {
        let points: Vec<String> =
            corners.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx * size, y + dy * size)).collect();
        points.join(" ")
    };
    let strokes = |ends: &[(f64, f64)]| {
        let path: String = ends
            .chunks(2)
            .map(|end| {
                let at = |(dx, dy): (f64, f64)| format!("{:.1} {:.1}", x + dx * size, y + dy * size);
                format!("M{}L{}", at(end[0]), at(end[1]))
            })
            .collect();
        format!(r#"<path d="{path}" stroke="{colour}" stroke-width="2.4" fill="none"/>"#)
    };
    let shape = match kind {
        Marker::Circle => format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{size:.1}" {paint}/>"#),
        Marker::Square => {
            let half = 0.9;
            let corners = [(-half, -half), (half, -half), (half, half), (-half, half)];
            format!(r#"<polygon points="{}" {paint}/>"#, polygon(&corners))
        }
        Marker::Triangle => {
            format!(r#"<polygon points="{}" {paint}/>"#, polygon(&[(0.0, -1.2), (1.1, 0.9), (-1.1, 0.9)]))
        }
        Marker::Down => {
            format!(r#"<polygon points="{}" {paint}/>"#, polygon(&[(0.0, 1.2), (1.1, -0.9), (-1.1, -0.9)]))
        }
        Marker::Diamond => {
            let corners = [(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)];
            format!(r#"<polygon points="{}" {paint}/>"#, polygon(&corners))
        }
        Marker::Cross => strokes(&[(-0.9, -0.9), (0.9, 0.9), (-0.9, 0.9), (0.9, -0.9)]),
        Marker::Plus => strokes(&[(-1.1, 0.0), (1.1, 0.0), (0.0, -1.1), (0.0, 1.1)]),
        Marker::Tick => strokes(&[(0.0, -1.2), (0.0, 1.2)]),
    };
    let _ = writeln!(out, "{shape}");
}

/// A line through points in pixels.
pub(super) fn polyline(
    out: &mut String,
    points: &[(f64, f64)],
    colour: &str,
    width: f64,
    dash: Dash,
    opacity: f64,
) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let points = points.join(" ");
    let dashes = match dash {
        Dash::Solid => "",
        Dash::Short => r#" stroke-dasharray="6 4""#,
        Dash::Long => r#" stroke-dasharray="12 5""#,
        Dash::Dots => r#" stroke-dasharray="2 4""#,
    };
    let opacity = if opacity < 1.0 { format!(r#" stroke-opacity="{opacity}""#) } else { String::new() };
    let _ = writeln!(
        out,
        r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{dashes}{opacity}/>"#
    );
}

/// The region between an upper and a lower line in pixels.
pub(super) fn band(out: &mut String, upper: &[(f64, f64)], lower: &[(f64, f64)], colour: &str) {
    let points: Vec<String> =
        upper.iter().chain(lower.iter().rev()).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let points = points.join(" ");
    let _ = writeln!(out, r#"<polygon points="{points}" fill="{colour}" fill-opacity="0.2" stroke="none"/>"#);
}

/// An error bar with caps, in pixels, level or upright.
pub(super) fn error_bar(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    const CAP: f64 = 5.0;
    let (across, along) = if from.1 == to.1 { (0.0, CAP) } else { (CAP, 0.0) };
    let cap = |(x, y): (f64, f64)| {
        format!("M{:.1} {:.1}L{:.1} {:.1}", x - across, y - along, x + across, y + along)
    };
    let _ = writeln!(
        out,
        r#"<path d="M{:.1} {:.1}L{:.1} {:.1}{}{}" stroke="{colour}" stroke-width="2" fill="none"/>"#,
        from.0,
        from.1,
        to.0,
        to.1,
        cap(from),
        cap(to)
    );
}

/// The pieces of a line that lie within heights `top` to `bottom`, cut where it leaves them. None is a gap.
pub(super) fn cut(points: &[Option<(f64, f64)>], top: f64, bottom: f64) -> Vec<Vec<(f64, f64)>> {
    let mut pieces: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    let mut before: Option<(f64, f64)> = None;
    for point in points {
        let Some(here) = *point else {
            pieces.push(Vec::new());
            before = None;
            continue;
        };
        let inside = |p: (f64, f64)| p.1 >= top && p.1 <= bottom;
        if let Some(last) = before {
            // Where the segment crosses the two heights, in order from `last`.
            let cross = |at: f64| {
                let share = (at - last.1) / (here.1 - last.1);
                (share > 0.0 && share < 1.0).then_some((share, (last.0 + share * (here.0 - last.0), at)))
            };
            let mut crossings: Vec<(f64, (f64, f64))> = [top, bottom].into_iter().filter_map(cross).collect();
            crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut within = inside(last);
            for (_, crossing) in crossings {
                if !within {
                    pieces.push(Vec::new());
                }
                if let Some(piece) = pieces.last_mut() {
                    piece.push(crossing);
                }
                within = !within;
            }
        }
        if inside(here) {
            if before.is_some_and(|last| !inside(last)) && pieces.last().is_none_or(Vec::is_empty) {
                pieces.push(Vec::new());
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(here);
            }
        }
        before = Some(here);
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_frame_and_at_gaps() {
        let line = [(0.0, -10.0), (10.0, 10.0), (20.0, 10.0), (30.0, 30.0)].map(Some);
        assert_eq!(cut(&line, 0.0, 20.0), [vec![(5.0, 0.0), (10.0, 10.0), (20.0, 10.0), (25.0, 20.0)]],);
        // In and out again, straight through, and a gap.
        let line = [Some((0.0, 5.0)), Some((10.0, -5.0)), Some((20.0, 25.0)), None, Some((40.0, 3.0))];
        assert_eq!(
            cut(&line, 0.0, 20.0),
            [
                vec![(0.0, 5.0), (5.0, 0.0)],
                vec![(10.0 + 10.0 / 6.0, 0.0), (10.0 + 25.0 / 3.0, 20.0)],
                vec![(40.0, 3.0)]
            ]
        );
        assert_eq!(cut(&[None, None], 0.0, 1.0), [] as [Vec<(f64, f64)>; 0]);
        assert_eq!(cut(&[Some((0.0, 9.0)), Some((1.0, 9.0))], 0.0, 1.0), [] as [Vec<(f64, f64)>; 0]);
    }
}
