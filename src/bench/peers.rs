//! Peers' rows, measured by their own scripts in the columns of the records, shown beside this program's.

use std::path::PathBuf;

use super::record::{self, Row};

/// Peers' rows.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    rows: Vec<Row>,
}

/// A peer's row beside one of ours.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The peer's row.
    pub row: Row,
    /// Its time over ours: above 1 this program is faster; None where one of them has no figure.
    pub ratio: Option<f64>,
}

impl Peers {
    /// Reads files of rows. Rows without a figure are kept: a peer that cannot do a case has its reason shown.
    pub fn read(files: &[PathBuf]) -> Result<Peers, String> {
        let mut rows = Vec::new();
        for file in files {
            rows.extend(record::read_file(file)?);
        }
        Ok(Peers { rows })
    }

    /// The rows that measured the same case as `ours`, in order.
    pub fn beside(&self, ours: &Row) -> Vec<Beside> {
        let same = self.rows.iter().filter(|row| row.same_case(ours));
        same.map(|row| Beside {
            row: row.clone(),
            ratio: row.ms_per_step.zip(ours.ms_per_step).map(|(theirs, ours)| theirs / ours),
        })
        .collect()
    }

    /// All rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl Beside {
    /// One line for people.
    pub fn describe(&self) -> String {
        let engine = &self.row.engine;
        let machine = if self.row.device.is_empty() { &self.row.machine } else { &self.row.device };
        let place = if machine.is_empty() { String::new() } else { format!(" on {machine}") };
        let told = match self.ratio {
            Some(ratio) if self.row.precision == "tf32" => {
                format!("{ratio:.2} times our time, in TF32 beside our f32, which is f32")
            }
            Some(ratio) => format!("{ratio:.2} times our time"),
            None => "no figure".into(),
        };
        let note = if self.row.note.is_empty() { String::new() } else { format!("; {}", self.row.note) };
        format!("{engine}{place}, from its file: {told}{note}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_stand_beside_the_same_case_alone() {
        let row = |engine: &str, precision: &str, hidden: u64, ms: Option<f64>| Row {
            what: "train".into(),
            engine: engine.into(),
            precision: precision.into(),
            hidden: Some(hidden),
            ms_per_step: ms,
            ..Row::default()
        };
        let peers = Peers {
            rows: vec![
                row("pytorch", "f32", 8, Some(6.0)),
                row("pytorch", "tf32", 8, Some(3.0)),
                row("pytorch", "f32", 9, Some(6.0)),
                row("haste", "f32", 8, None),
                row("pytorch", "bf16", 8, Some(1.0)),
            ],
        };
        let found = peers.beside(&row("songrnn-fast", "f32", 8, Some(2.0)));
        assert_eq!(found.iter().map(|b| b.ratio).collect::<Vec<_>>(), [Some(3.0), Some(1.5), None]);
        assert!(found[1].describe().contains("TF32"), "{}", found[1].describe());
        assert!(peers.beside(&row("songrnn-fast", "f32", 8, None))[0].ratio.is_none());
    }
}
