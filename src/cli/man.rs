//! `songrnn-fast man`: the manual pages.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, Outcome};

/// What is typed after `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Folder for songrnn-fast.1 and one page a command; without it, the main page is printed
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ManArgs) -> anyhow::Result<Outcome> {
    let mut main = Cli::command().disable_help_subcommand(true);
    main.build();
    let Some(folder) = &args.out else {
        std::io::stdout().write_all(&page(&Man::new(main))?)?;
        return Ok(Outcome::Done);
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // Once built, a subcommand knows its whole name: songrnn-fast-sample.
    let commands: Vec<Command> = main.get_subcommands().cloned().collect();
    for command in std::iter::once(main).chain(commands) {
        let man = Man::new(command);
        let path = folder.join(man.get_filename());
        crate::files::write_atomic(&path, &page(&man)?)?;
        writeln!(std::io::stdout(), "{}", path.display())?;
    }
    Ok(Outcome::Done)
}

fn page(man: &Man) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render(&mut page)?;
    Ok(page)
}
