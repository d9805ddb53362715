//! The `songrnn-fast` program: parse the command line, run, turn the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    songrnn_fast::cli::main()
}
