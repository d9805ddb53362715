//! Plots of any results are well-formed, lie inside their frame, and show what they say.

use resvg::usvg;

use super::*;
use crate::study::testing::{self, full};

/// Every coordinate of every shape, with what it is of.
fn coordinates(svg: &str) -> Vec<(f64, f64)> {
    let document = usvg::roxmltree::Document::parse(svg).unwrap();
    let mut all = Vec::new();
    for node in document.descendants() {
        let number = |name: &str| node.attribute(name).and_then(|value| value.parse::<f64>().ok());
        for (x, y) in [("x", "y"), ("cx", "cy"), ("x1", "y1"), ("x2", "y2")] {
            all.extend(number(x).zip(number(y)));
        }
        let numbers = |text: &str| -> Vec<f64> {
            let parts = text.split(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-'));
            parts.filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
        };
        for points in [node.attribute("points"), node.attribute("d")].into_iter().flatten() {
            all.extend(numbers(points).chunks(2).map(|pair| (pair[0], pair[1])));
        }
    }
    all
}

#[test]
fn plots_of_any_results_are_well_formed_and_inside_their_frame() {
    for (name, results) in testing::all() {
        let plots = all(&results);
        let stems: BTreeSet<&String> = plots.iter().map(|plot| &plot.0).collect();
        assert_eq!(stems.len(), plots.len(), "{name}");
        for (stem, svg) in &plots {
            let here = format!("{name}, {stem}");
            assert!(stem.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{here}");
            assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<script"), "{here}");
            let document =
                usvg::roxmltree::Document::parse(svg).unwrap_or_else(|why| panic!("{here}: {why}"));
            let size = |name: &str| document.root_element().attribute(name).unwrap().parse::<f64>().unwrap();
            let (width, height) = (size("width"), size("height"));
            assert!(width == 720.0 && height > 100.0 && height < 6000.0, "{here}: {height}");
            for (x, y) in coordinates(svg) {
                let inside = (-1.0..=width + 1.0).contains(&x) && (-1.0..=height + 1.0).contains(&y);
                assert!(inside, "{here}: {x} {y}");
            }
        }
        if ["no trials", "nothing"].contains(&name) {
            assert!(plots.is_empty(), "{name}: {stems:?}");
        }
    }
}

#[test]
fn the_full_study_has_all_its_plots_with_their_labels() {
    let plots = all(&full());
    assert_eq!(plots.len(), 4 * 4 + 2);
    let words = |stem: &str| -> Vec<String> {
        let svg = &plots.iter().find(|plot| plot.0 == stem).unwrap_or_else(|| panic!("{stem}")).1;
        let document = usvg::roxmltree::Document::parse(svg).unwrap();
        let texts = document.descendants().filter(|node| node.has_tag_name("text"));
        texts.filter_map(|node| node.text()).map(String::from).collect()
    };
    for (stem, expected) in [
        ("curves-units-contract", "250 units"),
        ("curves-cell-assignment", "4-gram 2.068"),
        ("loss-cell-assignment", "published report, SGD"),
        ("loss-dropout-contract", "dropout 0.3"),
        ("temperature", "the corpus itself"),
        ("classes", "note or rest (28%)"),
    ] {
        assert!(words(stem).contains(&expected.to_string()), "{stem}: {:?}", words(stem));
    }
    // One panel a measure, a PNG of all.
    assert_eq!(words("temperature").iter().filter(|word| *word == "temperature").count(), 8);
    assert!(crate::viz::svg::png(&plots[0].1).is_ok());
}

#[test]
fn the_mean_ends_with_the_first_seed_and_gaps_stay_gaps() {
    let point = |epoch: f64, nats: f64| CurvePoint { epoch, train: None, validation: Some(nats) };
    let mut a = full().trials.remove(0);
    let mut b = a.clone();
    a.curve = vec![point(1.0, 3.0), point(2.0, 2.0), point(3.0, f64::NAN), point(4.0, 1.0)];
    b.curve = vec![point(1.0, 5.0), point(3.0, 3.0), point(4.0, 2.0), point(5.0, 1.5), point(6.0, 1.4)];
    let mean = mean_curve(&[&a, &b], |point| point.validation);
    let told: Vec<(f64, f64)> = mean.iter().filter(|p| p.y.is_finite()).map(|p| (p.x, p.y)).collect();
    // At 2 the second seed is halfway between its points; at 3 the first has none; from 5 on it is gone.
    assert_eq!(told, [(1.0, 4.0), (2.0, 3.0), (4.0, 1.5)]);
    assert_eq!(mean[0].y_span, Some((3.0, 5.0)));
    let beyond: Vec<f64> = tail(&b, 4.0, |point| point.validation).iter().map(|point| point.x).collect();
    assert_eq!(beyond, [4.0, 5.0, 6.0]);
    assert!(tail(&a, 4.0, |point| point.validation).is_empty());
    assert_eq!((safe("../a b/"), safe("\u{e9}")), ("a-b".into(), "experiment".into()));
}
