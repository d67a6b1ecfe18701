//! What cannot work is refused in one line that says what to do.

use std::os::unix::fs::chown;
use std::process::Command;

use larder_abi::{Plain, Settings};
use larder_ebpf::{
    ClaimError, Heat, HeatArray, Keep, Options, Pins, ReadError, StartError, start, stop,
};
use larder_sys::bpf::{Access, Map};

use crate::bench::{Bench, NOBODY};
use crate::workers;

fn refused(options: &Options, words: &str) -> StartError {
    let error = start(options).expect_err("refused");
    let line = error.to_string();
    assert!(line.contains(words), "{line}");
    assert!(!line.contains('\n') && line.starts_with(|first: char| !first.is_uppercase()));
    error
}

#[test]
fn no_bpf_file_system() {
    Bench::run(|bench| {
        let options = Options {
            pins: Pins::new(bench.folder().join("plain/larder")),
            ..bench.options()
        };
        refused(&options, "run `mount -t bpf bpf /sys/fs/bpf`");
    });
}

#[test]
fn no_privileges() {
    Bench::run(|bench| bench.worker_passes("starts_without_privileges", NOBODY, NOBODY));
}

#[test]
fn two_capabilities_are_enough() {
    Bench::run(|bench| {
        let folder = bench.pins.root().with_file_name("own");
        std::fs::create_dir(&folder).expect("a folder");
        chown(&folder, Some(NOBODY), Some(NOBODY)).expect("root may");
        let pins = Pins::new(folder.join("larder"));
        let (program, arguments) = bench.prepare_worker("starts_with_two_capabilities", &pins);
        let user = NOBODY.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        command.args([
            "--inh-caps",
            "+bpf,+perfmon",
            "--ambient-caps",
            "+bpf,+perfmon",
        ]);
        command.arg(program).args(arguments);
        if let Err(error) = bench.passes(&mut command) {
            println!("skipped: setpriv: {error}");
        }
    });
}

#[test]
fn pins_of_somebody_else() {
    Bench::run(|bench| {
        std::fs::create_dir(bench.pins.root()).expect("a folder");
        chown(bench.pins.root(), Some(NOBODY), None).expect("root may");
        let error = refused(&bench.options(), "it belongs to user 65534");
        assert!(matches!(error, StartError::ForeignPin { uid: NOBODY, .. }));
    });
}

#[test]
fn started_twice() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        refused(&bench.options(), "run `larder heat stop` first");
        stop(&bench.pins, Keep::Nothing).expect("stopped");
        assert!(stop(&bench.pins, Keep::Nothing).is_err());
        bench.start().expect("started before");
    });
}

#[test]
fn maps_of_another_version() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        let path = bench.pins.root().join("settings");
        let map = Map::open(&path, Access::ReadWrite).expect("root may");
        let settings = Settings {
            version: 77,
            ..Settings::default()
        };
        let mut value = [0; Settings::BYTES];
        settings.put(&mut value);
        map.update(&0u32.to_ne_bytes(), &value).expect("root may");
        stop(&bench.pins, Keep::Maps).expect("stopped");
        let error = refused(
            &bench.options(),
            "version 77, not 1; run `larder heat stop`",
        );
        assert!(matches!(error, StartError::OtherVersion { found: 77, .. }));
        let error = Heat::open(&bench.pins).expect_err("another version");
        assert!(matches!(error, ReadError::OtherVersion { found: 77, .. }));
        let error = HeatArray::claim(&bench.pins, &workers::claim()).expect_err("another version");
        assert!(matches!(
            error,
            ClaimError::Read(ReadError::OtherVersion { .. })
        ));
    });
}

#[test]
fn some_maps_are_missing() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        stop(&bench.pins, Keep::Maps).expect("stopped");
        std::fs::remove_file(bench.pins.root().join("tier_stats")).expect("root may");
        refused(&bench.options(), "tier_stats is missing or broken");
        stop(&bench.pins, Keep::Nothing).expect("stopped");
        bench.start().expect("started before");
    });
}

#[test]
fn nothing_started() {
    Bench::run(|bench| {
        let error = Heat::open(&bench.pins).expect_err("nothing there");
        assert!(matches!(error, ReadError::NotStarted { .. }));
        let (array, reason) = HeatArray::claim_or_private(&bench.pins, &workers::claim());
        assert_eq!((array.array(), array.entries()), (None, 16));
        assert!(matches!(
            reason,
            Some(ClaimError::Read(ReadError::NotStarted { .. }))
        ));
        assert!(
            error.to_string().ends_with("run `larder heat start`"),
            "{error}"
        );
    });
}

#[test]
fn a_failed_start_leaves_the_heat_of_an_earlier_one() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        stop(&bench.pins, Keep::Maps).expect("stopped");
        let options = Options {
            cgroup: Some(bench.folder().to_path_buf()),
            ..bench.options()
        };
        refused(&options, "no cgroup of version 2");
        Heat::open(&bench.pins).expect("still there");
        assert!(bench.start().expect("started before").is_heat_kept);
    });
}

#[test]
fn no_cgroup() {
    Bench::run(|bench| {
        for (folder, words) in [
            (bench.folder().to_path_buf(), "no cgroup of version 2"),
            (bench.folder().join("nowhere"), "find "),
        ] {
            let options = Options {
                cgroup: Some(folder),
                ..bench.options()
            };
            refused(&options, words);
            assert!(!bench.pins.root().exists(), "half a start is none");
        }
    });
}

#[test]
fn no_entries_or_too_many() {
    Bench::run(|bench| {
        for entries in [0, u32::MAX] {
            let options = Options {
                entries,
                ..bench.options()
            };
            refused(&options, "entries per heat array");
        }
    });
}
