//! A figure draws what it is given, cuts what is outside, and never writes a number that is none.

use super::*;

fn figure(values: &[f64], scale: Scale) -> Figure {
    let point = |(i, &y): (usize, &f64)| Point { x: i as f64, y, x_span: None, y_span: Some((y - 1.0, y)) };
    let points: Vec<Point> = values.iter().enumerate().map(point).collect();
    let series = |name: &str, band: bool| Series {
        name: name.into(),
        line: Some(Dash::Short),
        marker: Some(Marker::Diamond),
        band,
        points: points.clone(),
        ..Series::default()
    };
    let panel = |direct: bool| Panel {
        title: "a < b".into(),
        y: Axis { scale: scale.clone(), ..Axis::linear("\"y\"") },
        series: vec![series("one & two", false), series("band", true)],
        references: vec![
            Reference { name: "level".into(), value: values[0], horizontal: true },
            Reference { name: "upright".into(), value: 1.0, horizontal: false },
        ],
        direct,
        ..Panel::default()
    };
    Figure {
        title: "t".repeat(300),
        columns: 2,
        panels: vec![panel(false), panel(true)],
        ..Figure::default()
    }
}

#[test]
fn no_value_can_break_a_figure() {
    let hard = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, 1e-320, 0.0, 1e11, 2.0];
    let scales = [Scale::Linear, Scale::Log, Scale::Categories(vec!["<x>".into(), "w".repeat(200)])];
    for scale in scales {
        for a in hard {
            for b in hard {
                let svg = figure(&[a, 1.0, b, 2.0, 3.0], scale.clone()).svg();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{a} {b}: {svg}");
                assert!(resvg::usvg::roxmltree::Document::parse(&svg).is_ok(), "{a} {b}: {svg}");
            }
        }
    }
}

#[test]
fn direct_panels_are_named_at_the_right_and_others_in_the_legend() {
    let svg = figure(&[1.0, 2.0, 1.5], Scale::Linear).svg();
    let document = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
    let named = |name: &str| document.descendants().filter(|node| node.text() == Some(name)).count();
    // A text node and its element each answer.
    assert_eq!((named("one & two"), named("level"), named("upright")), (4, 4, 4), "{svg}");
}

#[test]
fn lines_higher_lie_higher() {
    let draw = |y: f64| {
        let line = Series {
            line: Some(Dash::Solid),
            points: [0.0, 1.0].map(|x| Point { x, y, ..Point::default() }).to_vec(),
            ..Series::default()
        };
        let axis = Axis { from: Some(0.0), to: Some(10.0), ..Axis::linear("") };
        let panel = Panel { y: axis, series: vec![line], ..Panel::default() };
        let svg = Figure { panels: vec![panel], ..Figure::default() }.svg();
        let document = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
        let line = document.descendants().find(|node| node.has_tag_name("polyline"))?;
        line.attribute("points")?.split([',', ' ']).nth(1)?.parse::<f64>().ok()
    };
    let (low, high) = (draw(2.0).unwrap(), draw(8.0).unwrap());
    assert!((low - high - 0.6 * 300.0).abs() < 0.2, "{low} {high}");
    assert_eq!(draw(12.0), None);
}
