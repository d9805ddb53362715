//! Pictures and pages: SVG and PNG ([`svg`]), charts, heatmaps of neurons, the report page ([`page`]).

pub mod chart;
pub mod page;
pub mod svg;
