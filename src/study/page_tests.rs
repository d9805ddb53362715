//! The page gets every trial's curve and the reference lines, and nothing that JSON cannot hold.

use super::*;
use crate::study::testing::{self, full};

#[test]
fn experiments_have_curves_tables_and_lines() {
    let pages = experiment_pages(&full());
    assert_eq!(pages.len(), 8);
    assert_eq!(pages[1].title, "RNN and GRU against LSTM, assignment protocol");
    assert_eq!(pages[0].curves.len(), 9);
    assert_eq!(pages[0].lines, [("4-gram, no network".to_string(), 1.93)]);
    let names: Vec<&str> = pages[1].lines.iter().map(|line| line.0.as_str()).collect();
    assert_eq!(names, ["4-gram, no network", "report, SGD: LSTM 1x150", "re-run, Adam: LSTM 1x150"]);
    assert_eq!(pages[1].table.rows.len(), 4);
}

#[test]
fn any_results_give_pages_that_json_can_hold() {
    for (name, results) in testing::all() {
        for page in experiment_pages(&results) {
            for curve in &page.curves {
                let n = curve.epoch.len();
                assert!(n == curve.train.len() && n == curve.validation.len(), "{name}");
                let values = curve.train.iter().chain(&curve.validation).flatten().chain(&curve.epoch);
                assert!(values.into_iter().all(|value| value.is_finite()), "{name}");
            }
            assert!(page.lines.iter().all(|line| line.1.is_finite()), "{name}");
            assert!(serde_json::to_string(&page).is_ok(), "{name}");
        }
    }
}
