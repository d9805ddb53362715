//! Train and sample character-level recurrent nets on ABC music.
//!
//! The rooms of the house, from the ground up: [`rng`] (Philox), [`model`] (shape and initial weights), [`optim`]
//! (optimisers), [`engine`] (the one seam: training, evaluation and sampling of whole chunks), [`sample`] (choosing
//! characters), [`abc`] (a tolerant ABC parser and MIDI), [`corpus`] (readers, packs, batches), [`cli`] (one file per subcommand).

pub mod abc;
pub mod cli;
pub mod corpus;
pub mod engine;
pub mod files;
pub mod model;
pub mod optim;
pub mod rng;
pub mod sample;
