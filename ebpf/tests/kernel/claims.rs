//! Heat arrays change hands; heat outlives engines and starts.

use larder_ebpf::{Claim, ClaimError, Heat, HeatArray, Keep, Options, Range, status, stop};

use crate::bench::{Bench, GROUP, NOBODY, start_with};
use crate::workers::{self, LEFT};

fn other_model(number: u64) -> Claim {
    Claim {
        manifest: [number, 1, 2, 3],
        ..workers::claim()
    }
}

#[test]
fn engines_need_no_privileges_and_cannot_write_what_they_read() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        bench.worker_passes("claims_adds_and_reads", NOBODY, GROUP);
        bench.worker_passes("is_let_nowhere", NOBODY, NOBODY);
    });
}

#[test]
fn heat_of_a_dead_owner_goes_to_the_next_of_its_model() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        bench.worker_passes("claims_and_dies", NOBODY, GROUP);
        let regions = status(&bench.pins).expect("readable").regions;
        assert_eq!(regions.len(), 1);
        assert!(!regions[0].is_owner_alive && regions[0].region.owner_pid != 0);

        let other = HeatArray::claim(&bench.pins, &other_model(9)).expect("an unused array");
        assert_ne!(other.array(), Some(regions[0].array));
        let heir = HeatArray::claim(&bench.pins, &workers::claim()).expect("the dead one's");
        assert_eq!(heir.array(), Some(regions[0].array));
        assert!(heir.is_heat_kept());
        assert_eq!(heir.get(1).touches, LEFT);
        let second = HeatArray::claim(&bench.pins, &workers::claim()).expect("one more");
        assert_ne!(second.array(), heir.array());
        second.touch(1, 1);
        let heat = Heat::open(&bench.pins).expect("readable");
        let merged = heat.of_model(workers::claim().manifest).expect("readable");
        assert_eq!((merged.len(), merged[1].touches), (16, LEFT + 1));
        assert!(heat.of_model([5; 4]).expect("readable").is_empty());
        assert!(!second.is_heat_kept());
    });
}

#[test]
fn heat_of_another_cut_of_the_model_is_not_taken() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        let array = HeatArray::claim(&bench.pins, &workers::claim()).expect("an array");
        array.touch(1, LEFT);
        drop(array);
        let cut = Claim {
            block_count: workers::claim().block_count - 1,
            ..workers::claim()
        };
        let array = HeatArray::claim(&bench.pins, &cut).expect("an array");
        assert!(!array.is_heat_kept());
        assert_eq!(array.get(1).touches, 0);
    });
}

#[test]
fn engines_with_process_numbers_of_their_own_are_refused() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        // Of the processes that this thread starts from now on.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID).expect("root may");
        bench.worker_passes("is_in_a_pid_namespace", 0, 0);
    });
}

#[test]
fn all_arrays_can_be_taken_and_are_given_back() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        let claim = |number| HeatArray::claim(&bench.pins, &other_model(number));
        let mut arrays: Vec<HeatArray> = (0..8)
            .map(|number| claim(number).expect("an array"))
            .collect();
        let refused = claim(8).expect_err("no array left");
        assert!(
            matches!(refused, ClaimError::Full { arrays: 8 }),
            "{refused}"
        );
        arrays[5].touch(0, 3);
        arrays.remove(5);
        // Another model finds it empty; its own model found the heat before.
        assert_eq!(claim(5).expect("given back").get(0).touches, 3);
        let other = claim(8).expect("given back");
        assert_eq!((other.get(0).touches, other.is_heat_kept()), (0, false));
        let large = Claim {
            block_count: 257,
            ..other_model(1)
        };
        drop(other);
        let refused = HeatArray::claim(&bench.pins, &large).expect_err("more than entries");
        assert!(
            matches!(refused, ClaimError::Small { entries: 256, .. }),
            "{refused}"
        );
    });
}

#[test]
fn every_array_has_one_winner() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        // More engines than arrays, each for a model of its own, again and again.
        let claims = |number: u64| {
            let mut won = 0;
            for _ in 0..12 {
                let Ok(array) = HeatArray::claim(&bench.pins, &other_model(number)) else {
                    continue;
                };
                won += 1;
                let before = array.get(7).touches;
                assert!(array.is_heat_kept() || before == 0, "heat of another model");
                array.touch(7, number + 1);
                let found = array.get(7).touches;
                assert_eq!(found, before + number + 1, "somebody else adds to it");
                assert_eq!(found % (number + 1), 0, "heat of another model");
            }
            won
        };
        let won: u32 = std::thread::scope(|scope| {
            let engines: Vec<_> = (0..12)
                .map(|number| scope.spawn(move || claims(number)))
                .collect();
            engines
                .into_iter()
                .map(|engine| engine.join().expect("no engine fails"))
                .sum()
        });
        assert!(won >= 12, "{won}");
        let regions = status(&bench.pins).expect("readable").regions;
        assert!(regions.iter().all(|region| region.region.owner_pid == 0));
    });
}

#[test]
fn heat_outlives_a_restart_of_the_probes() {
    Bench::run(|bench| {
        let Some(report) = bench.start() else { return };
        assert!(!report.is_heat_kept);
        let array = HeatArray::claim(&bench.pins, &workers::claim()).expect("an array");
        array.touch(4, 11);
        drop(array);
        let stopped = stop(&bench.pins, Keep::Maps).expect("stopped");
        assert_eq!(stopped.maps, 0);
        assert!(stopped.programs > 0 && stopped.links > 0);
        let more = Options {
            entries: 512,
            ..bench.options()
        };
        let report = start_with(&more).expect("started before");
        assert_eq!((report.is_heat_kept, report.entries), (true, 256));
        let array = HeatArray::claim(&bench.pins, &workers::claim()).expect("an array");
        assert_eq!(array.get(4).touches, 11);
        drop(array);
        let stopped = stop(&bench.pins, Keep::Nothing).expect("stopped");
        assert_eq!(stopped.maps, 13);
        assert!(!bench.pins.root().exists());
    });
}

#[test]
fn nonsense_of_an_owner_harms_nobody() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        let all = |value: u64| Range {
            start: value,
            end: u64::MAX,
            block_bytes: value | 1,
            entry: value as u32,
            tier: value as u32,
            kind: value as u32,
            reserved: 0,
        };
        let claim = Claim {
            block_first: u64::MAX,
            block_count: 16,
            ranges: vec![all(0), all(1), all(u64::MAX), all(1 << 63)],
            ..workers::claim()
        };
        let array = HeatArray::claim(&bench.pins, &claim).expect("an array");
        array.touch(0, u64::MAX);
        array.touch(0, 2);
        // Faults everywhere in the address space are now "inside"; entries beyond are drops.
        let memory = vec![1u8; 40 << 20];
        assert!(memory.iter().all(|byte| *byte == 1));
        let heat = Heat::open(&bench.pins).expect("readable");
        let number = array.array().expect("a pinned one");
        assert_eq!(heat.entries(number).expect("readable")[0].touches, 1);
        let tiers = heat.tiers().expect("readable");
        assert!(tiers.iter().map(|tier| tier.drops).sum::<u64>() > 0);
        status(&bench.pins).expect("readable");
    });
}

#[test]
fn ranges_can_change_while_an_engine_runs() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        let array = HeatArray::claim(&bench.pins, &workers::claim()).expect("an array");
        let number = array.array().expect("a pinned one") as usize;
        let region = |bench: &Bench| {
            let heat = Heat::open(&bench.pins).expect("readable");
            heat.regions().expect("readable")[number]
        };
        let before = region(bench);
        let range = Range {
            start: 1 << 40,
            end: 2 << 40,
            block_bytes: 4096,
            ..Range::default()
        };
        array.set_ranges(&[range]);
        let after = region(bench);
        assert_eq!(after.ranges[0], range);
        assert_eq!(after.generation, before.generation + 2);
        assert_eq!(
            (after.manifest, after.block_count),
            (before.manifest, before.block_count)
        );
    });
}

#[test]
fn without_pins_the_same_code_runs_on_own_memory() {
    let array = HeatArray::private(&Claim {
        block_count: 4,
        ..workers::claim()
    });
    array.touch(3, 2);
    array.touch(3, 1);
    assert_eq!(
        (array.get(3).touches, array.array(), array.entries()),
        (3, None, 4)
    );
    array.set_ranges(&[]);
}
