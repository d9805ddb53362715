//! `docs/cli.md` is what the program's own help says, so that no flag is missing or described otherwise.
//! `UPDATE_DOCS=1 cargo test --test sample_docs` writes it anew.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};

const HEAD: &str = "# The command line\n\n\
    Every command and every flag. This page is made from the program's own help; do not edit it:\n\
    `UPDATE_DOCS=1 cargo test --test sample_docs` writes it anew, and the tests fail where it is stale.\n\n\
    Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 1 failed,\n\
    2 wrong usage, 130 interrupted after saving.\n";

/// The page of a command and all below it.
fn page(out: &mut String, command: &mut Command, level: usize) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    writeln!(out, "\n{} {name}\n", "#".repeat(level)).unwrap();
    let about = command.get_long_about().or(command.get_about()).map(|text| text.to_string());
    writeln!(out, "{}\n", about.unwrap_or_default().trim()).unwrap();
    let usage = command.render_usage().to_string();
    writeln!(out, "```text\n{}\n```", usage.trim_start_matches("Usage:").trim()).unwrap();
    let shown = |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let args: Vec<&Arg> =
        command.get_positionals().chain(command.get_opts()).chain(flags(command)).filter(shown).collect();
    if !args.is_empty() {
        writeln!(out, "\n| argument | default | meaning |\n|---|---|---|").unwrap();
        for arg in args {
            writeln!(
                out,
                "| `{}` | {} | {} |",
                cell(&spelling(arg)),
                cell(&default(arg)),
                cell(&meaning(arg))
            )
            .unwrap();
        }
    }
    for sub in command.get_subcommands_mut() {
        if !sub.is_hide_set() && sub.get_name() != "help" {
            page(out, sub, level + 1);
        }
    }
}

/// Flags that take no value.
fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional() && !arg.get_action().takes_values())
}

/// `-n, --tunes N`.
fn spelling(arg: &Arg) -> String {
    let mut names = Vec::new();
    names.extend(arg.get_short().map(|short| format!("-{short}")));
    names.extend(arg.get_long().map(|long| format!("--{long}")));
    let value =
        arg.get_value_names().map(|names| names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(" "));
    let value = value.filter(|_| arg.get_action().takes_values());
    let many = arg.get_num_args().is_some_and(|range| range.max_values() > 1)
        || matches!(arg.get_action(), ArgAction::Append);
    let dots = if many { "..." } else { "" };
    match (names.is_empty(), value) {
        (true, value) => value.unwrap_or_default() + dots,
        (false, Some(value)) => format!("{} {value}{dots}", names.join(", ")),
        (false, None) => names.join(", "),
    }
}

fn default(arg: &Arg) -> String {
    let takes = arg.get_action().takes_values() && !arg.is_hide_default_value_set();
    let values: Vec<_> =
        arg.get_default_values().iter().filter(|_| takes).map(|v| v.to_string_lossy()).collect();
    if values.is_empty() { String::new() } else { format!("`{}`", values.join(",")) }
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_long_help().or(arg.get_help()).map(|help| help.to_string()).unwrap_or_default();
    let values = if arg.get_action().takes_values() { arg.get_possible_values() } else { Vec::new() };
    let values: Vec<String> =
        values.iter().filter(|v| !v.is_hide_set()).map(|v| format!("`{}`", v.get_name())).collect();
    if !values.is_empty() && !arg.is_hide_possible_values_set() {
        write!(text, " ({})", values.join(", ")).unwrap();
    }
    if arg.is_required_set() {
        text.push_str(" (needed)");
    }
    text
}

/// Text that does not break out of a table's cell or turn into HTML.
fn cell(text: &str) -> String {
    let text = text.replace('|', "\\|").replace('<', "&lt;");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_of_all_flags_is_fresh() {
    let mut command = songrnn_fast::cli::Cli::command();
    command.build();
    let mut fresh = String::from(HEAD);
    page(&mut fresh, &mut command, 2);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value != "0") {
        std::fs::write(&path, &fresh).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    let differs = fresh.lines().zip(found.lines()).find(|(fresh, found)| fresh != found);
    assert!(
        found == fresh,
        "docs/cli.md is stale; run UPDATE_DOCS=1 cargo test --test sample_docs. First difference: {differs:?}"
    );
}

/// Every argument tells what it is for: an undocumented flag is a flag nobody finds.
#[test]
fn every_flag_has_help() {
    fn walk(command: &Command) {
        assert!(command.get_about().is_some(), "{} says nothing about itself", command.get_name());
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{} {} has no help", command.get_name(), arg.get_id());
        }
        command.get_subcommands().for_each(walk);
    }
    let mut command = songrnn_fast::cli::Cli::command();
    command.build();
    walk(&command);
    command.debug_assert();
}
