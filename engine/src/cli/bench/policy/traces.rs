//! Traces from files: which blocks were used, in order.

use crate::cli::error::CliError;
use crate::cli::trace::{Head, Phase, Step, VERSION};
use flate2::read::GzDecoder;
use larder_pool::policy::replay::{Told, What};
use larder_pool::units::{BlockId, PromptId};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Uses of one trace, and bytes of one line, at most.
const USES_MAX: usize = 64 << 20;
const LINE_MAX: u64 = 64 << 20;

/// A trace of requests does not say when an answer ended: it is taken to take so long for each
/// token of the prompt and of the answer.
const MS_PER_PROMPT_TOKEN: f64 = 0.2;
const MS_PER_TOKEN: f64 = 50.0;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) uses: Vec<BlockId>,
    /// Prompts and answers, where it is one of requests.
    pub(super) told: Vec<Told>,
    /// The first uses, which only warm the cache.
    pub(super) warming: usize,
}

/// A request as Mooncake publishes it: the blocks of its prompt, by their content.
#[derive(Debug, Deserialize)]
struct Request {
    hash_ids: Vec<u64>,
    /// Milliseconds.
    #[serde(default)]
    timestamp: f64,
    #[serde(default)]
    input_length: u64,
    output_length: Option<u64>,
}

/// Answers under way: when they will have ended, and their lengths.
#[derive(Debug, Default)]
struct Answers {
    ends: BTreeSet<(u64, u64, u64)>,
    prompts: u64,
}

impl Answers {
    /// What is known when the blocks of a request are used, from the use at `at`.
    fn tell(&mut self, request: &Request, at: usize, told: &mut Vec<Told>) {
        while let Some(&(end, prompt, tokens)) = self.ends.first()
            && end as f64 <= request.timestamp
        {
            self.ends.pop_first();
            let what = What::Answered(PromptId::new(prompt), tokens);
            told.push(Told { at, what });
        }
        let what = What::Prompt(PromptId::new(self.prompts));
        told.push(Told { at, what });
        if let Some(tokens) = request.output_length {
            let prefill = request.input_length as f64 * MS_PER_PROMPT_TOKEN;
            let end = request.timestamp + prefill + tokens as f64 * MS_PER_TOKEN;
            self.ends.insert((end as u64, self.prompts, tokens));
        }
        self.prompts += 1;
    }
}

/// Reads every file. Runs of one model are one trace, in the order given.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Trace>, CliError> {
    let mut traces: Vec<Trace> = Vec::new();
    for path in paths {
        let trace = read_one(path)?;
        match traces.iter_mut().find(|before| before.name == trace.name) {
            Some(before) => before.append(trace),
            None => traces.push(trace),
        }
    }
    Ok(traces)
}

impl Trace {
    /// Goes on with another one, whose prompts have numbers of their own.
    fn append(&mut self, mut other: Self) {
        let at = self.uses.len();
        let prompts = self.told.iter().filter_map(|told| match told.what {
            What::Prompt(prompt) => Some(prompt),
            What::Answered(..) => None,
        });
        let next = prompts.max().map_or(0, |last| last.number() + 1);
        let moved = |prompt: PromptId| PromptId::new(prompt.number() + next);
        for told in &mut other.told {
            told.at += at;
            told.what = match told.what {
                What::Prompt(prompt) => What::Prompt(moved(prompt)),
                What::Answered(prompt, tokens) => What::Answered(moved(prompt), tokens),
            };
        }
        self.uses.extend(other.uses);
        self.told.extend(other.told);
    }
}

fn read_one(path: &Path) -> Result<Trace, CliError> {
    let fail = |source| CliError::File {
        path: path.to_path_buf(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    let is_packed = path.extension().is_some_and(|ending| ending == "gz");
    let bytes: Box<dyn Read> = if is_packed {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let name = path.file_name().unwrap_or_default().display().to_string();
    parse(name, BufReader::new(bytes)).map_err(|error| match error {
        TraceError::Io(source) => fail(source),
        TraceError::Line { number, what } => {
            let path = path.display();
            CliError::Usage(format!("{path} line {number}: {what}"))
        }
    })
}

#[derive(Debug)]
enum TraceError {
    Io(std::io::Error),
    Line { number: usize, what: String },
}

fn parse(name: String, mut lines: impl BufRead) -> Result<Trace, TraceError> {
    let mut trace = Trace {
        name,
        ..Trace::default()
    };
    let (mut ids, mut answers) = (HashMap::new(), Answers::default());
    let (mut number, mut head, mut line) = (0, None, String::new());
    loop {
        number += 1;
        line.clear();
        let wrong = |what: String| TraceError::Line { number, what };
        let bytes = (&mut lines).take(LINE_MAX).read_line(&mut line);
        if bytes.map_err(TraceError::Io)? as u64 == LINE_MAX {
            return Err(wrong(format!("longer than {LINE_MAX} bytes")));
        }
        if line.is_empty() {
            break;
        }
        if number == 1 {
            head = serde_json::from_str::<Head>(&line).ok();
            if let Some(head) = &head {
                if head.larder_trace != VERSION {
                    let found = head.larder_trace;
                    return Err(wrong(format!(
                        "version {found}, not {VERSION}; run it anew"
                    )));
                }
                trace.name = short(&head.model);
                continue;
            }
        }
        let blocks = match &head {
            Some(_) => serde_json::from_str::<Step>(&line).map(|step| {
                // Only what comes before the first decode step warms.
                let warms = step.phase == Phase::Prefill && trace.warming == trace.uses.len();
                trace.warming += if warms { step.blocks.len() } else { 0 };
                step.blocks
            }),
            None => serde_json::from_str::<Request>(&line).map(|request| {
                answers.tell(&request, trace.uses.len(), &mut trace.told);
                request.hash_ids
            }),
        };
        let blocks = blocks.map_err(|error| wrong(format!("{error}; give lines of a trace")))?;
        if trace.uses.len() + blocks.len() > USES_MAX {
            return Err(wrong(format!("more than {USES_MAX} uses; cut it")));
        }
        for block in blocks {
            // Blocks of a model keep their numbers, whatever file they are in; hashes become small.
            let next = ids.len() as u64;
            let number = match &head {
                Some(_) => block,
                None => *ids.entry(block).or_insert(next),
            };
            let number = u32::try_from(number);
            let number = number.map_err(|_| wrong(format!("block {block} is out of range")))?;
            trace.uses.push(BlockId::new(number));
        }
    }
    if trace.uses.is_empty() {
        let what = "no uses at all; give a file of larder run --trace".to_owned();
        return Err(TraceError::Line { number, what });
    }
    Ok(trace)
}

/// The last name of a path.
fn short(model: &str) -> String {
    let name = Path::new(model).file_name();
    name.map_or(model.to_owned(), |name| name.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(text: &str) -> Result<Trace, String> {
        parse("t".to_owned(), text.as_bytes()).map_err(|error| match error {
            TraceError::Line { number, what } => format!("{number}: {what}"),
            TraceError::Io(error) => error.to_string(),
        })
    }

    const HEAD: &str =
        "{\"larder_trace\":1,\"model\":\"a/m.gguf\",\"blocks\":9,\"block_bytes\":1}\n";

    #[test]
    fn both_kinds_of_traces_are_read() {
        let steps = "{\"phase\":\"prefill\",\"blocks\":[7,8]}\n\
                     {\"phase\":\"decode\",\"blocks\":[8,90]}";
        let found = trace(&format!("{HEAD}{steps}")).expect("a good trace");
        let uses: Vec<usize> = found.uses.iter().map(|block| block.index()).collect();
        assert_eq!((found.name.as_str(), found.warming), ("m.gguf", 2));
        assert_eq!(uses, [7, 8, 8, 90]);
        let requests = "{\"timestamp\":1,\"hash_ids\":[5,70000000000]}\n{\"hash_ids\":[5]}\n";
        let found = trace(requests).expect("a good trace");
        assert_eq!((found.uses.len(), found.warming), (3, 0));
        assert_eq!(found.told.len(), 2);
    }

    #[test]
    fn an_answer_is_told_once_it_has_ended() {
        let request = |time: u64, answer: u64| {
            format!(
                "{{\"timestamp\":{time},\"input_length\":500,\"output_length\":{answer},\"hash_ids\":[1,2]}}\n"
            )
        };
        let text = request(0, 10) + &request(599, 1) + &request(3000, 1);
        let mut found = trace(&text).expect("a good trace");
        let prompt = |at, number| (at, What::Prompt(PromptId::new(number)));
        let answered = |at, number, tokens| (at, What::Answered(PromptId::new(number), tokens));
        let told = |found: &Trace| -> Vec<_> {
            found.told.iter().map(|told| (told.at, told.what)).collect()
        };
        let expected = [
            prompt(0, 0),
            prompt(2, 1),
            answered(4, 0, 10),
            answered(4, 1, 1),
            prompt(4, 2),
        ];
        assert_eq!(told(&found), expected);
        found.append(trace(&request(0, 1)).expect("a good trace"));
        assert_eq!(told(&found).last(), Some(&prompt(6, 3)));
    }

    #[test]
    fn what_is_no_trace_has_its_line() {
        for (text, part) in [
            (String::new(), "no uses"),
            (HEAD.to_owned(), "no uses"),
            (format!("{HEAD}[1,2]"), "2: "),
            (HEAD.replace(":1", ":7"), "version 7"),
            ("{\"hash_ids\":[1]}\nnonsense".to_owned(), "2: "),
            ("{\"hash_ids\":[-1]}".to_owned(), "1: "),
            (
                format!("{HEAD}{{\"phase\":\"decode\",\"blocks\":[70000000000]}}"),
                "out of range",
            ),
        ] {
            let error = trace(&text).expect_err(&text);
            assert!(error.contains(part), "{error}");
        }
        let folder = tempfile::tempdir().expect("temp folder");
        let files = ["a", "b"].map(|name| folder.path().join(name));
        for (file, blocks) in files.iter().zip(["3,4", "4,5"]) {
            let step = format!("{HEAD}{{\"phase\":\"decode\",\"blocks\":[{blocks}]}}\n");
            std::fs::write(file, step).expect("written");
        }
        let joined = read(&files).expect("good traces");
        assert_eq!((joined.len(), joined[0].uses.len()), (1, 4));
        assert_eq!(joined[0].uses[1], joined[0].uses[2]);
        let error = read(&["/none/of/these".into()]).expect_err("no file");
        assert_eq!(error.exit_code(), 1);
    }
}
