//! What single units of a model have learned: built-in labels of a tune's characters ([`labels`]), activations aligned
//! with them ([`tapped`]), and how well each unit tells each label apart on tunes it was not found with ([`score`]).

pub mod auc;
pub mod draw;
pub mod labels;
pub mod score;
pub mod sentence;
pub mod tapped;
pub mod tunes;

pub use labels::LABELS;
pub use score::{LabelFacts, Ranking, rank, rank_kinds};
pub use tapped::Kind;
pub use tunes::RankingTunes;
