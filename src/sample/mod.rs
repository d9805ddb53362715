//! Sampling: how a character is chosen ([`choice`]), how one tune runs ([`stream`]), what people ask for
//! ([`options`], [`prime`]), and what is said and written of the tunes ([`judged`], [`table`](mod@table), [`mod@write`]).

pub mod choice;
pub mod formats;
pub mod judged;
pub mod lanes;
pub mod options;
pub mod prime;
pub mod steps;
pub mod stream;
pub mod table;
pub mod write;

pub use choice::{Choice, Scratch};
pub use formats::Formats;
pub use judged::{Judged, judge_all};
pub use options::{SampleError, SampleOptions, TuneText, one_tune, tunes};
pub use prime::PrimeError;
pub use steps::by_steps;
pub use stream::{Input, Stream, check_request};
pub use table::table;
pub use write::{WriteError, Written, write_set};
