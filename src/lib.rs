//! Train and sample character-level recurrent nets on ABC music.
//!
//! The rooms of the house, from the ground up: [`rng`] (Philox), [`model`] (shape and initial weights), [`optim`]
//! (optimisers), [`engine`] (the one seam: training, evaluation and sampling of whole chunks), [`sample`] (choosing
//! characters), [`abc`] (a tolerant ABC parser and MIDI), [`corpus`] (readers, packs, batches), [`train`] (the loop and what
//! surrounds it), [`neurons`] (which tell what apart), [`measures`] (of sets of tunes), [`sound`] (MIDI through a SoundFont),
//! [`viz`] (pictures and the report page), [`study`] (the paper's experiments, from grid to page), [`mod@bench`] (measuring, beside others), [`config`] (what a run is), [`machine`] (what the system
//! tells), [`cli`] (one file per subcommand).

pub mod abc;
pub mod bench;
pub mod cli;
pub mod config;
pub mod corpus;
pub mod engine;
pub mod files;
pub mod machine;
pub mod measures;
pub mod model;
pub mod neurons;
pub mod optim;
pub mod pinning;
pub mod rng;
pub mod sample;
pub mod sound;
pub mod study;
pub mod train;
pub mod viz;
