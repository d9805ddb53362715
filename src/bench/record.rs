//! A measurement as a row of the speed records, and such rows as CSV: `benches/record/` and the peers' files.

use std::path::Path;

use serde::Serialize;

/// The columns, in order.
pub const COLUMNS: [&str; 23] = [
    "date",
    "commit",
    "machine",
    "device",
    "driver",
    "cuda",
    "cudnn",
    "what",
    "engine",
    "tier",
    "precision",
    "cell",
    "hidden",
    "layers",
    "batch",
    "seq_len",
    "vocab",
    "chars_per_second",
    "ms_per_step",
    "ms_spread",
    "repeats",
    "peak_mb",
    "note",
];

/// One row; the fields are the columns. None and empty texts are empty cells.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Row {
    /// Day, `2026-11-25`.
    pub date: String,
    /// Commit of the program.
    pub commit: String,
    /// Name of the machine.
    pub machine: String,
    /// `cpu`, or the GPU's name.
    pub device: String,
    /// Version of the GPU's driver.
    pub driver: String,
    /// Version of CUDA.
    pub cuda: String,
    /// Version of cuDNN.
    pub cudnn: String,
    /// `train`, `layer_fwd`, `layer_bwd`, `sample`, `pack`.
    pub what: String,
    /// `songrnn-fast`, or a peer's name.
    pub engine: String,
    /// Which kernels: `avx512`, `fused`, `eager`, ...
    pub tier: String,
    /// `f32`, `tf32`, `bf16`, `f16`.
    pub precision: String,
    /// `lstm`, `gru`, `rnn`.
    pub cell: String,
    /// H.
    pub hidden: Option<u64>,
    /// L.
    pub layers: Option<u64>,
    /// B.
    pub batch: Option<u64>,
    /// T.
    pub seq_len: Option<u64>,
    /// V.
    pub vocab: Option<u64>,
    /// Characters of all streams a second; None where nothing was measured.
    pub chars_per_second: Option<f64>,
    /// Median milliseconds a step.
    pub ms_per_step: Option<f64>,
    /// Interquartile range, ms.
    pub ms_spread: Option<f64>,
    /// Measurements.
    pub repeats: Option<u64>,
    /// Most memory in use, megabytes (10^6 bytes).
    pub peak_mb: Option<f64>,
    /// What else there is to say.
    pub note: String,
}

/// Significant digits of times and rates in CSV.
const DIGITS: usize = 5;

/// A number with so many significant digits and no exponent.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let magnitude = value.abs().log10().floor() as i32;
    let behind = digits as i32 - 1 - magnitude;
    if behind >= 0 {
        return format!("{value:.*}", behind as usize);
    }
    // Digits before the point that are not significant are zeros.
    let unit = 10f64.powi(-behind);
    format!("{:.0}", (value / unit).round() * unit)
}

impl Row {
    /// The cells in the order of [`COLUMNS`].
    pub fn cells(&self) -> [String; COLUMNS.len()] {
        let count = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
        let number = |x: Option<f64>| x.map_or(String::new(), |x| significant(x, DIGITS));
        [
            self.date.clone(),
            self.commit.clone(),
            self.machine.clone(),
            self.device.clone(),
            self.driver.clone(),
            self.cuda.clone(),
            self.cudnn.clone(),
            self.what.clone(),
            self.engine.clone(),
            self.tier.clone(),
            self.precision.clone(),
            self.cell.clone(),
            count(self.hidden),
            count(self.layers),
            count(self.batch),
            count(self.seq_len),
            count(self.vocab),
            number(self.chars_per_second),
            number(self.ms_per_step),
            number(self.ms_spread),
            count(self.repeats),
            number(self.peak_mb),
            self.note.clone(),
        ]
    }

    /// A line of CSV, with its end.
    pub fn to_csv(&self) -> String {
        self.cells().each_ref().map(|cell| quoted(cell)).join(",") + "\n"
    }

    /// Whether it measures the same thing as `other` (whatever the engine and tier): what, model, sizes, precision.
    /// A peer's TF32 stands beside f32, where its documentation puts it.
    pub fn same_case(&self, other: &Row) -> bool {
        let precision =
            |row: &Row| if row.precision == "tf32" { "f32".into() } else { row.precision.clone() };
        let key = |row: &Row| {
            (
                [row.what.clone(), row.cell.clone(), precision(row)],
                [row.hidden, row.layers, row.batch, row.seq_len, row.vocab],
            )
        };
        key(self) == key(other)
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_string()
    }
}

/// The header line of a file of rows.
pub fn header() -> String {
    COLUMNS.join(",") + "\n"
}

/// Rows of a CSV text with the columns of the records, in any order; others are not looked at, but `what`, `engine` and
/// `ms_per_step` must be there. The error tells the line.
pub fn read(text: &str) -> Result<Vec<Row>, String> {
    let mut records = records(text)?.into_iter();
    let (_, names) = records.next().ok_or("it is empty; expected a header line")?;
    for needed in ["what", "engine", "ms_per_step"] {
        if !names.iter().any(|name| name == needed) {
            let found = names.join(",");
            return Err(format!(
                "line 1: no column {needed}; expected the columns of a speed record, found {found}"
            ));
        }
    }
    let mut rows = Vec::new();
    for (line, cells) in records {
        if cells.len() != names.len() {
            return Err(format!("line {line}: {} cells, the header has {}", cells.len(), names.len()));
        }
        rows.push(row(&names, &cells).map_err(|why| format!("line {line}: {why}"))?);
    }
    Ok(rows)
}

fn row(names: &[String], cells: &[String]) -> Result<Row, String> {
    let mut row = Row::default();
    for (name, cell) in names.iter().zip(cells) {
        let text = match name.as_str() {
            "date" => &mut row.date,
            "commit" => &mut row.commit,
            "machine" => &mut row.machine,
            "device" => &mut row.device,
            "driver" => &mut row.driver,
            "cuda" => &mut row.cuda,
            "cudnn" => &mut row.cudnn,
            "what" => &mut row.what,
            "engine" => &mut row.engine,
            "tier" => &mut row.tier,
            "precision" => &mut row.precision,
            "cell" => &mut row.cell,
            "note" => &mut row.note,
            other => {
                number(&mut row, other, cell)?;
                continue;
            }
        };
        text.clone_from(cell);
    }
    Ok(row)
}

fn number(row: &mut Row, name: &str, cell: &str) -> Result<(), String> {
    let count = match name {
        "hidden" => Some(&mut row.hidden),
        "layers" => Some(&mut row.layers),
        "batch" => Some(&mut row.batch),
        "seq_len" => Some(&mut row.seq_len),
        "vocab" => Some(&mut row.vocab),
        "repeats" => Some(&mut row.repeats),
        _ => None,
    };
    let bad = |kind: &str| format!("{name} is {cell:?}; expected {kind} or nothing");
    if let Some(count) = count {
        *count = if cell.is_empty() { None } else { Some(cell.parse().map_err(|_| bad("a whole number"))?) };
        return Ok(());
    }
    let value = match name {
        "chars_per_second" => &mut row.chars_per_second,
        "ms_per_step" => &mut row.ms_per_step,
        "ms_spread" => &mut row.ms_spread,
        "peak_mb" => &mut row.peak_mb,
        _ => return Ok(()),
    };
    let parsed = if cell.is_empty() { None } else { Some(cell.parse::<f64>().map_err(|_| bad("a number"))?) };
    if parsed.is_some_and(|x| !(x.is_finite() && x >= 0.0)) {
        return Err(bad("a number of at least 0"));
    }
    *value = parsed;
    Ok(())
}

/// The records of a CSV text (RFC 4180), each with the number of its first line; empty lines are none.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let (mut all, mut cells, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut first, mut in_quotes) = (1, 1, false);
    let mut chars = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\n' {
            line += 1;
        }
        match c {
            '"' if in_quotes && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => in_quotes = !in_quotes,
            _ if in_quotes => cell.push(c),
            ',' => cells.push(std::mem::take(&mut cell)),
            '\r' => {}
            '\n' => {
                if !(cells.is_empty() && cell.is_empty()) {
                    cells.push(std::mem::take(&mut cell));
                    all.push((first, std::mem::take(&mut cells)));
                }
                first = line;
            }
            _ => cell.push(c),
        }
    }
    if in_quotes {
        return Err(format!("line {first}: a quote is not closed"));
    }
    if !(cells.is_empty() && cell.is_empty()) {
        cells.push(cell);
        all.push((first, cells));
    }
    Ok(all)
}

/// Reads a file of rows; the error names the file.
pub fn read_file(path: &Path) -> Result<Vec<Row>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    read(&text).map_err(|why| format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_significant() {
        for (value, text) in [
            (0.123456, "0.12346"),
            (1234567.0, "1234600"),
            (12.3456, "12.346"),
            (99999.6, "100000"),
            (0.0, "0"),
            (64.0, "64.000"),
        ] {
            assert_eq!(significant(value, 5), text, "{value}");
        }
    }

    #[test]
    fn rows_survive_csv() {
        let row = Row {
            date: "2026-11-25".into(),
            machine: "a,b".into(),
            what: "train".into(),
            engine: "songrnn-fast".into(),
            hidden: Some(150),
            ms_per_step: Some(12.5),
            note: "says \"so\",\nand more".into(),
            ..Row::default()
        };
        let text = header() + &row.to_csv() + "\n" + &row.to_csv();
        assert_eq!(read(&text).unwrap(), [row.clone(), row]);
    }

    #[test]
    fn what_is_no_record_is_told_with_its_line() {
        assert!(read("").unwrap_err().contains("empty"));
        assert!(read("a,b\n1,2\n").unwrap_err().contains("no column what"));
        let head = "what,engine,ms_per_step,hidden\n";
        assert!(read(&format!("{head}train,x,1,2\ntrain,x,1\n")).unwrap_err().contains("line 3: 3 cells"));
        assert!(read(&format!("{head}train,x,soon,2\n")).unwrap_err().contains("ms_per_step is \"soon\""));
        assert!(read(&format!("{head}train,x,-1,2\n")).unwrap_err().contains("at least 0"));
        assert!(read(&format!("{head}train,x,1,2.5\n")).unwrap_err().contains("whole number"));
        assert!(read(&format!("{head}train,\"x,1,2\n")).unwrap_err().contains("not closed"));
    }

    #[test]
    fn the_same_case_is_the_same_whatever_ran_it() {
        let mine = Row { what: "train".into(), precision: "f32".into(), hidden: Some(8), ..Row::default() };
        let peer = Row { engine: "pytorch".into(), precision: "tf32".into(), ..mine.clone() };
        assert!(mine.same_case(&peer));
        assert!(!mine.same_case(&Row { hidden: Some(9), ..peer.clone() }));
        assert!(!mine.same_case(&Row { precision: "bf16".into(), ..peer }));
    }
}
