//! The reference engine: f64, naive, per gate, readable.
