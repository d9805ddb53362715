//! Tests of what is private to the narrow path; the rest is in `tests/cpu_narrow.rs`.
