//! Files become arguments, what is typed goes first, and what is wrong has its line.

use super::*;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("temp folder");
    let path = folder.path().join("larder.toml");
    std::fs::write(&path, text).expect("written");
    (folder, path)
}

fn expanded(text: &str, typed: &[&str]) -> Vec<String> {
    let (_folder, path) = file(text);
    let config = ["--config", path.to_str().expect("a plain path")];
    let arguments = [&["larder"], &typed[..1], &config[..], &typed[1..]].concat();
    let arguments = arguments.into_iter().map(OsString::from).collect();
    let all = expand(arguments).expect("a good file");
    let all = all.into_iter().map(|one| one.into_string().expect("text"));
    all.collect()
}

fn checked(text: &str) -> Result<(), String> {
    let (_folder, file) = file(text);
    config(&ConfigCommand::Check { file }).map_err(|error| {
        assert_eq!(error.exit_code(), 2, "{error}");
        one_line(&error)
    })
}

const NODE: &str = "[node]\nmem = \"1GiB\"\ntier = [\"nvme=/a,1GiB\"]\ninsecure = true\n";

#[test]
fn keys_stand_in_front_of_what_is_typed() {
    let all = expanded(NODE, &["node", "--listen", "tcp://[::]:1"]);
    assert_eq!(all[1], "node");
    for key in ["--mem=1GiB", "--tier=nvme=/a,1GiB", "--insecure"] {
        assert!(all[2..5].contains(&key.to_owned()), "{all:?}");
    }
    assert!(Cli::try_parse_from(&all).is_ok(), "{all:?}");
}

#[test]
fn what_is_typed_goes_first() {
    let all = expanded(NODE, &["node", "--mem", "2GiB", "--token-file", "t"]);
    assert!(!all.contains(&"--mem=1GiB".to_owned()), "{all:?}");
    assert!(!all.contains(&"--insecure".to_owned()), "{all:?}");
    assert!(Cli::try_parse_from(&all).is_ok(), "{all:?}");
    let prompt = "[run]\nprompt = \"a\"\nseed = 7\n";
    let all = expanded(prompt, &["run", "m.gguf", "--prompt-tokens", "1"]);
    assert!(Cli::try_parse_from(&all).is_ok(), "{all:?}");
    let all = expanded(prompt, &["run", "m.gguf"]);
    let Command::Run(options) = Cli::try_parse_from(&all).expect("good use").command else {
        panic!("run was typed");
    };
    assert_eq!(options.prompt.prompt.as_deref(), Some("a"));
    assert_eq!(options.sampling.seed, 7);
}

#[test]
fn sections_of_other_commands_and_none_change_nothing() {
    assert_eq!(expanded(NODE, &["run", "m", "-p", "x"]).len(), 7);
    let plain: Vec<OsString> = ["larder", "ls", "x"].map(OsString::from).to_vec();
    assert_eq!(expand(plain.clone()).expect("nothing to do"), plain);
    let absent = ["larder", "node", "--config", "/none/of/these"];
    let error = expand(absent.map(OsString::from).to_vec()).expect_err("no file");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn good_files_pass() {
    assert_eq!(checked(""), Ok(()));
    assert_eq!(checked(NODE), Ok(()));
    let run = "[run]\nfast = \"1GiB\"\ntier = \"origin,limit=5MB/s\"\nthreads = 2\n\
               temperature = 0.5\nignore-eos = false\nprompt = \"x\"\n";
    assert_eq!(checked(run), Ok(()));
}

#[test]
fn an_option_whose_value_may_be_missing_takes_true_false_and_a_string() {
    let parsed = |text: &str, typed: &[&str]| {
        let all = expanded(text, &[&["run", "m.gguf", "-p", "x"], typed].concat());
        match Cli::try_parse_from(&all).expect("good use").command {
            Command::Run(options) => (options.warm.warm, options.pressure.pressure),
            _ => panic!("run was typed"),
        }
    };
    let file = |name: &str| Some(Some(PathBuf::from(name)));
    let text = |value: &str| Some(value.to_owned());
    for (keys, warm, pressure) in [
        ("warm = true\npressure = true\n", Some(None), text("auto")),
        ("warm = false\npressure = false\n", None, None),
        (
            "warm = \"a.heat\"\npressure = \"/p\"\n",
            file("a.heat"),
            text("/p"),
        ),
    ] {
        let keys = format!("[run]\n{keys}");
        assert_eq!(parsed(&keys, &[]), (warm, pressure), "{keys}");
        assert_eq!(checked(&keys), Ok(()), "{keys}");
    }
    let keys = "[run]\nwarm = true\npressure = true\n";
    let typed = parsed(keys, &["--warm=b.heat", "--pressure=/q"]);
    assert_eq!(typed, (file("b.heat"), text("/q")));
}

#[test]
fn what_is_wrong_has_its_line() {
    for (text, parts) in [
        ("mem = \"1GiB\"\n", &["line 1", "'mem'", "[node]"][..]),
        ("\n[tape]\n", &["line 2", "'tape'"]),
        ("[node]\nmemm = 1\n", &["line 2", "'memm'", "token-file"]),
        ("[node]\n\nmem = true\n", &["line 3", "string or a number"]),
        ("[node]\ninsecure = 1\n", &["line 2", "true or false"]),
        ("[node]\nmem = \"8 apples\"\n", &["line 2", "8 apples"]),
        ("[node]\nlisten = \"host\"\n", &["line 2", "tcp://"]),
        ("[run]\nwarm = [1]\n", &["line 2", "true, false or a"]),
        ("[node]\nconfig = \"x\"\n", &["line 2", "unknown key"]),
        ("[run]\nseed = 1\nthreads = 0\n", &["line 3", "--threads 0"]),
        ("[run]\nkv-type = \"f8\"\n", &["line 2", "f8"]),
        ("[run]\ntier = [\"a\", 1.5]\n", &["line 2", "'a'"]),
        ("[run]\ntier = [[1]]\n", &["line 2", "list of strings"]),
        ("[run]\ntop-p = 3\n", &["line 2", "--top-p 3"]),
        (
            "[run]\nfast = \"1MiB\"\ntier = \"dram=2MiB\"\n",
            &["line 2", "two sizes"],
        ),
        ("[run]\nseed = 1\nseed = 2\n", &["line 3"]),
        ("[run\n", &["line 1"]),
    ] {
        let error = checked(text).expect_err(text);
        for part in parts {
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
