//! `songrnn-fast completions`: a completion script for a shell.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Outcome};

/// What is typed after `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    // Into memory first: the generator panics where its writer fails (a closed pipe).
    clap_complete::generate(args.shell, &mut Cli::command(), "songrnn-fast", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Outcome::Done)
}
