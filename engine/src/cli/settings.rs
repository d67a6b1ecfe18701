//! `--config FILE`: a TOML file with a section per command, whose keys are its long options.
//!
//! There is one table of options, the one that the command line is parsed with: a file is turned
//! into the arguments that would have been typed, in front of those that were. What was typed, or
//! excludes a key, goes first.

use super::error::{CliError, one_line};
use super::node;
use super::options::{Cli, Command, ConfigCommand};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, CommandFactory, Parser};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of the largest file that is read.
const FILE_MAX: u64 = 1 << 20;
/// The option that names the file; it can not stand in one.
const CONFIG: &str = "config";

/// A key of a section.
struct Setting {
    key: String,
    line: usize,
    /// What would have been typed.
    arguments: Vec<String>,
}

/// A section, checked against the options of its command.
struct Section {
    command: String,
    settings: Vec<Setting>,
}

/// `larder config check`.
pub(super) fn config(command: &ConfigCommand) -> Result<(), CliError> {
    let ConfigCommand::Check { file } = command;
    let sections = read(file)?;
    for section in &sections {
        check(file, section)?;
    }
    let said: Vec<String> = sections
        .iter()
        .map(|section| format!("[{}] {}", section.command, keys(section.settings.len())))
        .collect();
    let said = if said.is_empty() {
        "nothing is set".to_owned()
    } else {
        said.join(", ")
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: ok, {said}", file.display()).map_err(CliError::output)
}

fn keys(count: usize) -> String {
    match count {
        1 => "1 key".to_owned(),
        _ => format!("{count} keys"),
    }
}

/// The arguments with those of the file that `--config` names, if it does.
pub(super) fn expand(arguments: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
    let command = Cli::command().ignore_errors(true);
    // Where help is asked for, or nothing makes sense, the parser proper says so.
    let Ok(matches) = command.try_get_matches_from(&arguments) else {
        return Ok(arguments);
    };
    let cli = Cli::command();
    let Some((name, typed)) = matches.subcommand() else {
        return Ok(arguments);
    };
    let Some(command) = cli
        .find_subcommand(name)
        .filter(|command| takes_file(command))
    else {
        return Ok(arguments);
    };
    let Some(file) = typed.get_one::<PathBuf>(CONFIG) else {
        return Ok(arguments);
    };
    let sections = read(file)?;
    let Some(section) = sections.into_iter().find(|section| section.command == name) else {
        return Ok(arguments);
    };
    let is_typed =
        |arg: &Arg| typed.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let mut all = arguments;
    // Behind the program and the command.
    let rest = all.split_off(2.min(all.len()));
    for setting in section.settings {
        let arg = option(command, &setting.key).expect("checked when the file was read");
        if !is_typed(arg) && !excluded(command, arg).into_iter().any(is_typed) {
            all.extend(setting.arguments.into_iter().map(OsString::from));
        }
    }
    all.extend(rest);
    Ok(all)
}

/// Options that may not stand beside `arg`: those it names, and the others of a group of which one
/// is to be given.
fn excluded<'a>(command: &'a clap::Command, arg: &Arg) -> Vec<&'a Arg> {
    let mut others = command.get_arg_conflicts_with(arg);
    for group in command.get_groups() {
        let members: Vec<_> = group.get_args().collect();
        if members.contains(&arg.get_id()) && !group.clone().is_multiple() {
            let all = command.get_arguments();
            others.extend(all.filter(|other| {
                other.get_id() != arg.get_id() && members.contains(&other.get_id())
            }));
        }
    }
    others
}

/// Reads a file and checks that every key is an option of its command.
fn read(path: &Path) -> Result<Vec<Section>, CliError> {
    let file = |source| CliError::File {
        path: path.to_path_buf(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(file)?.len();
    if bytes > FILE_MAX {
        let what = format!("{}: {bytes} bytes, at most {FILE_MAX}", path.display());
        return Err(CliError::Usage(what));
    }
    let text = std::fs::read_to_string(path).map_err(file)?;
    let table = DeTable::parse(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(path, line(&text, at), error.message())
    })?;
    let cli = Cli::command();
    let with_file = || cli.get_subcommands().filter(|command| takes_file(command));
    let names: Vec<String> = with_file()
        .map(|command| format!("[{}]", command.get_name()))
        .collect();
    let mut sections = Vec::new();
    for (name, value) in table.get_ref() {
        let at = line(&text, name.span().start);
        let found = with_file().find(|command| command.get_name() == name.get_ref().as_ref());
        let (Some(command), DeValue::Table(table)) = (found, value.get_ref()) else {
            let (name, names) = (name.get_ref(), names.join(", "));
            let what = format!("'{name}' is no section; known are {names}");
            return Err(wrong(path, at, &what));
        };
        let settings = table.iter().map(|(key, value)| {
            let at = line(&text, key.span().start);
            setting(command, key.get_ref(), value, at).map_err(|what| wrong(path, at, &what))
        });
        sections.push(Section {
            command: command.get_name().to_owned(),
            settings: settings.collect::<Result<_, _>>()?,
        });
    }
    Ok(sections)
}

fn takes_file(command: &clap::Command) -> bool {
    option_any(command, CONFIG).is_some()
}

fn option_any<'a>(command: &'a clap::Command, key: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(key))
}

/// The option that a key sets.
fn option<'a>(command: &'a clap::Command, key: &str) -> Option<&'a Arg> {
    option_any(command, key).filter(|_| key != CONFIG)
}

fn setting(
    command: &clap::Command,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    line: usize,
) -> Result<Setting, String> {
    let name = command.get_name();
    let Some(arg) = option(command, key) else {
        let mut known: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
        known.retain(|long| *long != CONFIG);
        let known = known.join(", ");
        return Err(format!(
            "unknown key '{key}' in [{name}]; known are {known}"
        ));
    };
    let typed = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(format!("--{key}={text}")),
        DeValue::Integer(number) => Some(format!("--{key}={number}")),
        DeValue::Float(number) => Some(format!("--{key}={number}")),
        _ => None,
    };
    let arguments = match (arg.get_action(), value.get_ref()) {
        (_, DeValue::Boolean(true)) if stands_alone(arg) => Some(vec![format!("--{key}")]),
        (_, DeValue::Boolean(false)) if stands_alone(arg) => Some(Vec::new()),
        (ArgAction::Append, DeValue::Array(values)) => {
            let each = values.iter().map(|value| typed(value.get_ref()));
            each.collect()
        }
        (ArgAction::Set | ArgAction::Append, value) => typed(value).map(|one| vec![one]),
        _ => None,
    };
    let arguments = arguments.ok_or_else(|| {
        let wanted = match arg.get_action() {
            ArgAction::SetTrue => "true or false",
            _ if stands_alone(arg) => "true, false or a string",
            ArgAction::Append => "a string, or a list of strings",
            _ => "a string or a number",
        };
        format!("'{key}' wants {wanted}")
    })?;
    Ok(Setting {
        key: key.to_owned(),
        line,
        arguments,
    })
}

/// Whether the option may be typed without a value.
fn stands_alone(arg: &Arg) -> bool {
    let values = arg.get_num_args().map(|range| range.min_values());
    matches!(arg.get_action(), ArgAction::SetTrue) || values == Some(0)
}

/// Line of the byte `at`, counted from 1.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}

fn wrong(path: &Path, line: usize, what: &str) -> CliError {
    CliError::Usage(format!("{} line {line}: {what}", path.display()))
}

/// Resolves each key by itself, so that an error has a line, and then all of them together.
fn check(path: &Path, section: &Section) -> Result<(), CliError> {
    for setting in &section.settings {
        resolve(&section.command, std::slice::from_ref(setting))
            .map_err(|what| wrong(path, setting.line, &what))?;
    }
    let line = section.settings.first().map_or(1, |first| first.line);
    resolve(&section.command, &section.settings).map_err(|what| wrong(path, line, &what))
}

fn resolve(command: &str, settings: &[Setting]) -> Result<(), String> {
    let has = |keys: &[&str]| {
        let given = settings.iter().find(|one| keys.contains(&one.key.as_str()));
        given.is_some()
    };
    let mut typed = vec!["larder".to_owned(), command.to_owned()];
    if command == "run" {
        // What a file need not say.
        typed.push("model".to_owned());
        if !has(&["prompt", "file", "prompt-tokens"]) {
            typed.push("--prompt-tokens=1".to_owned());
        }
    }
    typed.extend(settings.iter().flat_map(|one| one.arguments.clone()));
    let cli = Cli::try_parse_from(typed).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        first.trim_start_matches("error: ").to_owned()
    })?;
    let resolved = match cli.command {
        Command::Run(options) => options
            .sampling
            .resolve()
            .and_then(|_| options.engine.resolve().map(drop)),
        Command::Node(options) => node::resolve(&options).map(drop),
        _ => Ok(()),
    };
    resolved.map_err(|error| one_line(&error))
}

#[cfg(test)]
mod tests;
