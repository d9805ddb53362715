//! Train and sample character-level recurrent nets on ABC music.
//!
//! The rooms of the house, from the ground up: [`rng`] (Philox), [`abc`] (a tolerant ABC parser and MIDI),
//! [`cli`] (one file per subcommand).

pub mod abc;
pub mod cli;
