//! Plots are well-formed, have their labels, and become PNGs with text in them.

use resvg::{tiny_skia, usvg};

use super::*;

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (engine, tier, precision, factor) in [
        ("songrnn-fast", "fused", "bf16", 1.0),
        ("songrnn-fast", "fused", "f16", 0.9),
        ("songrnn-fast", "stepwise", "f32", 8.0),
        ("pytorch", "graph", "tf32", 5.0),
        ("a<b>&\"c\"", "", "f32", 20.0),
    ] {
        for hidden in [64, 128, 256, 512, 1024] {
            for batch in [8, 64] {
                rows.push(Row {
                    what: "train".into(),
                    engine: engine.into(),
                    tier: tier.into(),
                    precision: precision.into(),
                    cell: "lstm".into(),
                    hidden: Some(hidden),
                    layers: Some(1),
                    batch: Some(batch),
                    seq_len: Some(100),
                    vocab: Some(96),
                    ms_per_step: Some(factor * hidden as f64 * batch as f64 / 1e4),
                    ..Row::default()
                });
            }
        }
    }
    rows
}

#[test]
fn the_svg_is_well_formed_and_labelled() {
    let svg = svg(&rows(), "a < b & c").unwrap();
    let document = usvg::roxmltree::Document::parse(&svg).unwrap();
    let words: Vec<&str> =
        document.descendants().filter(|n| n.has_tag_name("text")).filter_map(|n| n.text()).collect();
    for expected in [
        "a < b & c",
        "hidden units H (log)",
        "time a step, ms (log)",
        "songrnn-fast fused, bf16",
        "pytorch graph, tf32",
        "a<b>&\"c\", f32",
        "train: lstm, 1 layer, B 64, T 100",
        "1024",
    ] {
        assert!(words.contains(&expected), "{expected}: {words:?}");
    }
    let points = |name: &str| document.descendants().filter(|n| n.has_tag_name(name)).count();
    // Five lines in two panels and the legend; f32 points are circles.
    assert_eq!((points("polyline"), points("circle")), (15, 2 * 10 + 2));
}

#[test]
fn larger_times_lie_higher_and_larger_sizes_further_right() {
    let axis = Axis::decades(&[1.0, 50.0]);
    assert!(axis.place(1.0) > 0.0 && axis.place(1.0) < axis.place(2.0) && axis.place(50.0) < 1.0);
    assert_eq!(axis.ticks, [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
    assert_eq!(Axis::decades(&[0.01, 1e4]).ticks.len(), 7);
    assert_eq!(Axis::decades(&[3.0]).ticks, [3.0]);
    assert_eq!(Axis::at(&[256.0, 64.0, 64.0]).ticks, [64.0, 256.0]);
    assert_eq!(Axis::at(&[100.0, 101.0, 1000.0]).ticks, [100.0, 1000.0]);
}

#[test]
fn the_png_has_text_without_any_font_of_the_system() {
    let full = svg(&rows()[..10], "Speed").unwrap();
    let bare: String = full.lines().filter(|line| !line.contains("<text")).collect::<Vec<_>>().join("\n");
    let decode = |svg: &str| tiny_skia::Pixmap::decode_png(&png(svg).unwrap()).unwrap();
    let (with, without) = (decode(&full), decode(&bare));
    let dark = |p: &tiny_skia::Pixmap| p.pixels().iter().filter(|c| c.red() < 90 && c.blue() < 90).count();
    assert!(
        dark(&with) > dark(&without) + 2000,
        "{} dark pixels, {} without text",
        dark(&with),
        dark(&without)
    );
    assert!(dark(&without) > 0);
}

#[test]
fn nothing_measured_is_nothing_to_plot() {
    let mut rows = rows();
    rows.iter_mut().for_each(|row| row.ms_per_step = None);
    assert!(svg(&rows, "x").unwrap_err().contains("nothing was measured"));
}
