//! The report page: one self-contained HTML file that works offline, made of [`data::PageData`] by [`render()`].

pub mod data;
pub mod neurons;
mod render;
pub mod tunes;

pub use render::{RenderOptions, render};
