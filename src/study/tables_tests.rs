//! Tables have their numbers, tell what is missing, and let nothing hostile through.

use super::*;
use crate::study::testing::{self, full, without};

fn cell<'a>(table: &'a Table, row: &str, column: &str) -> &'a str {
    let column = table.columns.iter().position(|head| head == column).unwrap_or_else(|| panic!("{column}"));
    &table.rows.iter().find(|cells| cells[0] == row).unwrap_or_else(|| panic!("{row}"))[column]
}

#[test]
fn numbers_are_those_of_the_trials() {
    let mut results = full();
    let mut nats = [1.5, 1.6, 1.7].into_iter();
    let lstm = testing::base();
    for trial in results.trials.iter_mut().filter(|t| t.variant == lstm && t.protocol == Protocol::Contract) {
        trial.validation.as_mut().unwrap().nats = nats.next().unwrap();
    }
    let table = experiment(&results, &results.experiments[0], Protocol::Contract).unwrap();
    assert_eq!(cell(&table, "LSTM 1x150", "validation loss"), "1.600 \u{b1} 0.100 (2.308)");
    assert_eq!(cell(&table, "LSTM 1x150", "difference to the baseline [95%]"), "baseline");
    assert_eq!(cell(&table, "4-gram, no network", "validation loss"), "1.930 (2.784)");
    assert_eq!(cell(&table, "4-gram, no network", "validation, music only"), "1.740 (2.510)");
    assert_eq!(cell(&table, "4-gram, no network", "parameters"), DASH);
    assert_eq!(cell(&table, "LSTM 1x150", "parameters"), "165,000");
    let table = experiment(&results, &results.experiments[0], Protocol::Assignment).unwrap();
    assert_eq!(cell(&table, "LSTM 1x150", "re-run, Adam"), "1.78-1.80");
    assert_eq!(cell(&table, "RNN 1x150", "report, SGD"), "2.062");
    assert_eq!(cell(&table, "4-gram, no network", "re-run, whole songs"), "1.997");
    assert_eq!(cell(&table, "GRU 1x150", "report, SGD"), DASH);
    assert!(cell(&table, "RNN 1x150", "difference to the baseline [95%]").ends_with(" *"));
    let both = beside(&results, &results.experiments[0]).unwrap();
    assert_eq!(cell(&both, "LSTM 1x150", "contract"), "1.600 \u{b1} 0.100 (2.308)");
}

#[test]
fn what_is_missing_is_told() {
    let results = without(full(), |t| t.variant.layers == 3 || (t.variant.layers == 2 && t.seed == 3));
    let mut results = without(results, |trial| trial.protocol == Protocol::Assignment);
    results.trials.iter_mut().for_each(|trial| trial.test = None);
    let layers = results.experiments[2].clone();
    let trial = results.trials.iter_mut().find(|trial| trial.variant.layers == 2).unwrap();
    trial.validation.as_mut().unwrap().nats = f64::NAN;
    let table = experiment(&results, &layers, Protocol::Contract).unwrap();
    assert!(!table.columns.contains(&"test loss".to_string()));
    assert_eq!(cell(&table, "LSTM 3x150", "validation loss"), DASH);
    assert_eq!(cell(&table, "LSTM 2x150", "seeds"), "1 of 3");
    for told in ["Not trained: LSTM 3x150.", "One trial has no finite loss", "There are no test tunes."] {
        assert!(table.note.contains(told), "{told}: {}", table.note);
    }
    assert!(experiment(&results, &layers, Protocol::Assignment).is_none());
    assert!(beside(&results, &layers).is_none());
}

#[test]
fn numbers_are_written_as_people_read_them() {
    assert_eq!((signed(-0.0001, 3).as_str(), signed(0.5, 1).as_str()), ("0.000", "+0.5"));
    assert_eq!((plain(-1.25, 2).as_str(), signed(-1.25, 2).as_str()), ("\u{2212}1.25", "\u{2212}1.25"));
    assert_eq!(
        ["0", "999", "1000", "1234567"].map(|n| thousands(n.parse().unwrap())),
        ["0", "999", "1,000", "1,234,567"]
    );
    assert_eq!(measured("share", 0.921, Some(0.0204)), "92.1% \u{b1} 2.0");
    assert_eq!(measured("chars", 40.6, Some(f64::NAN)), "41");
    assert!((bits(std::f64::consts::LN_2) - 1.0).abs() < 1e-15);
}

/// Fields of a line of CSV by RFC 4180; a field of several lines is not expected here.
fn fields(line: &str) -> usize {
    let mut quoted = false;
    line.chars().fold(1, |n, c| {
        quoted ^= c == '"';
        n + usize::from(c == ',' && !quoted)
    })
}

#[test]
fn any_results_give_whole_tables() {
    for (name, results) in testing::all() {
        let csv = csv(&results);
        assert_eq!(csv.lines().count(), 1 + results.trials.len(), "{name}");
        let columns = fields(csv.lines().next().unwrap());
        assert!(csv.lines().all(|line| fields(line) == columns), "{name}");
        assert!(!csv.contains("NaN") && !csv.contains("inf"), "{name}");
        let markdown = markdown(&results);
        assert!(!markdown.contains("<script") && !markdown.contains("<img"), "{name}");
        assert!(!markdown.contains("NaN") && !markdown.contains("\n\n\n"), "{name}");
        // Every line of a table has the cells of the line above it.
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let lines: Vec<&str> = markdown.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair.iter().all(|line| line.starts_with('|'))) {
            assert_eq!(cells(pair[0]), cells(pair[1]), "{name}: {pair:?}");
        }
        let tables = [ngrams(&results), temperatures(&results), classes(&results), neurons(&results)];
        for table in tables.into_iter().flatten() {
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{name}");
        }
    }
}
