//! `larder man` and `larder completions`: both made from the options themselves.

use super::error::CliError;
use super::options::{Cli, CompletionsOptions, ManOptions};
use clap::CommandFactory;
use clap_mangen::Man;
use std::io::Write;
use std::path::Path;

/// Prints a page, or writes that of every command into a folder.
pub(super) fn man(options: &ManOptions) -> Result<(), CliError> {
    let mut cli = Cli::command();
    cli.build();
    if let Some(folder) = &options.out {
        return pages(cli, folder);
    }
    let command = match &options.command {
        None => &cli,
        Some(name) => cli.find_subcommand(name).ok_or_else(|| {
            let names: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
            let names = names.join(", ");
            CliError::Usage(format!("man: no command '{name}'; there are {names}"))
        })?,
    };
    let mut page = Vec::new();
    Man::new(command.clone())
        .render(&mut page)
        .and_then(|()| std::io::stdout().lock().write_all(&page))
        .map_err(CliError::output)
}

fn pages(cli: clap::Command, folder: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(cli, folder))
        .map_err(|source| CliError::File {
            path: folder.to_path_buf(),
            source,
        })
}

pub(super) fn completions(options: &CompletionsOptions) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "larder", &mut script);
    let mut out = std::io::stdout().lock();
    out.write_all(&script).map_err(CliError::output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let folder = tempfile::tempdir().expect("temp folder");
        pages(Cli::command(), folder.path()).expect("written");
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name));
        for command in Cli::command().get_subcommands() {
            let name = format!("larder-{}.1", command.get_name());
            assert!(page(&name).is_ok(), "{name}");
        }
        let node = page("larder-node.1").expect("there");
        assert!(node.contains("token\\-file"), "{node}");
        let options = ManOptions {
            command: Some("tape".to_owned()),
            out: None,
        };
        assert_eq!(man(&options).expect_err("none").exit_code(), 2);
    }
}
