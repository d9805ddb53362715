//! The report page: one self-contained HTML file that works offline, made of [`data::PageData`].

pub mod data;
pub mod tunes;
