//! The probes, each with its forms from best to last resort.
//!
//! A form is one or more programs that only make sense together. The first form that the kernel
//! takes is the probe; one that no form of is taken is skipped with the reasons, and the others
//! go on.

use larder_abi::Offsets;

/// What a program hangs on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hook {
    /// A tracepoint by its typed arguments.
    Typed(&'static str),
    /// Page faults as performance events.
    PageFaults,
    /// Sampled accesses as performance events.
    Samples,
    /// A tracepoint by its record: category and name.
    Record(&'static str, &'static str),
    /// The mark in a binary.
    Mark,
}

/// An offset that a program reads at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) place: fn(&mut Offsets) -> &mut u32,
    /// Struct and member, whose offsets add up; or an empty name and the field of the record.
    pub(crate) path: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) program: &'static str,
    pub(crate) hook: Hook,
    pub(crate) needs: &'static [Need],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) forms: &'static [&'static [Part]],
}

/// A part without offsets.
const fn part(program: &'static str, hook: Hook) -> Part {
    Part {
        program,
        hook,
        needs: &[],
    }
}

macro_rules! need {
    ($place:ident, $($structure:literal $member:literal),+) => {
        Need {
            place: |offsets| &mut offsets.$place,
            path: &[$(($structure, $member)),+],
        }
    };
}

/// A probe of one classic tracepoint that tells a device address and a host address.
macro_rules! media {
    ($name:literal, $event:literal, $dpa:ident, $hpa:ident) => {
        Probe {
            name: $name,
            forms: &[&[Part {
                program: $name,
                hook: Hook::Record("cxl", $event),
                needs: &[need!($dpa, "" "dpa"), need!($hpa, "" "hpa")],
            }]],
        }
    };
}

pub(crate) const PROBES: [Probe; 11] = [
    Probe {
        name: "larder_fault",
        forms: &[
            &[part("larder_fault", Hook::Typed("page_fault_user"))],
            &[part("larder_fault_pe", Hook::PageFaults)],
            &[Part {
                program: "larder_fault_tp",
                hook: Hook::Record("exceptions", "page_fault_user"),
                needs: &[need!(at_fault_address, "" "address")],
            }],
        ],
    },
    Probe {
        name: "larder_sample",
        forms: &[&[part("larder_sample", Hook::Samples)]],
    },
    Probe {
        name: "larder_damon",
        forms: &[
            &[Part {
                program: "larder_damon",
                hook: Hook::Typed("damon_aggregated"),
                needs: &[
                    need!(damon_region_start, "damon_region" "ar", "damon_addr_range" "start"),
                    need!(damon_region_end, "damon_region" "ar", "damon_addr_range" "end"),
                    need!(damon_region_nr_accesses, "damon_region" "nr_accesses"),
                ],
            }],
            &[Part {
                program: "larder_damon_tp",
                hook: Hook::Record("damon", "damon_aggregated"),
                needs: &[
                    need!(at_damon_start, "" "start"),
                    need!(at_damon_end, "" "end"),
                    need!(at_damon_nr_accesses, "" "nr_accesses"),
                ],
            }],
        ],
    },
    Probe {
        name: "larder_touch",
        forms: &[&[part("larder_touch", Hook::Mark)]],
    },
    Probe {
        name: "larder_migrate",
        forms: &[
            &[part("larder_migrate", Hook::Typed("mm_migrate_pages"))],
            &[Part {
                program: "larder_migrt_tp",
                hook: Hook::Record("migrate", "mm_migrate_pages"),
                needs: &[
                    need!(at_migrate_succeeded, "" "succeeded"),
                    need!(at_migrate_failed, "" "failed"),
                ],
            }],
        ],
    },
    Probe {
        name: "larder_reclaim",
        forms: &[
            &[
                part(
                    "larder_recl_beg",
                    Hook::Typed("mm_vmscan_direct_reclaim_begin"),
                ),
                part(
                    "larder_reclaim",
                    Hook::Typed("mm_vmscan_direct_reclaim_end"),
                ),
            ],
            &[
                part(
                    "larder_recb_tp",
                    Hook::Record("vmscan", "mm_vmscan_direct_reclaim_begin"),
                ),
                Part {
                    program: "larder_recl_tp",
                    hook: Hook::Record("vmscan", "mm_vmscan_direct_reclaim_end"),
                    needs: &[need!(at_reclaim_nr_reclaimed, "" "nr_reclaimed")],
                },
            ],
        ],
    },
    Probe {
        name: "larder_memcg",
        forms: &[&[
            part(
                "larder_memc_beg",
                Hook::Typed("mm_vmscan_memcg_reclaim_begin"),
            ),
            part("larder_memcg", Hook::Typed("mm_vmscan_memcg_reclaim_end")),
        ]],
    },
    IO,
    media!("larder_cxl", "cxl_poison", at_poison_dpa, at_poison_hpa),
    media!(
        "larder_cxl_gm",
        "cxl_general_media",
        at_media_dpa,
        at_media_hpa
    ),
    media!("larder_cxl_dram", "cxl_dram", at_dram_dpa, at_dram_hpa),
];

const IO: Probe = Probe {
    name: "larder_io",
    forms: &[
        &[
            part("larder_io_issue", Hook::Typed("block_rq_issue")),
            Part {
                program: "larder_io",
                hook: Hook::Typed("block_rq_complete"),
                needs: &[
                    need!(request_q, "request" "q"),
                    need!(request_queue_disk, "request_queue" "disk"),
                    need!(gendisk_major, "gendisk" "major"),
                    need!(gendisk_first_minor, "gendisk" "first_minor"),
                ],
            },
        ],
        &[
            Part {
                program: "larder_issue_tp",
                hook: Hook::Record("block", "block_rq_issue"),
                needs: &[
                    need!(at_issue_dev, "" "dev"),
                    need!(at_issue_sector, "" "sector"),
                ],
            },
            Part {
                program: "larder_io_tp",
                hook: Hook::Record("block", "block_rq_complete"),
                needs: &[
                    need!(at_complete_dev, "" "dev"),
                    need!(at_complete_sector, "" "sector"),
                    need!(at_complete_error, "" "error"),
                ],
            },
        ],
    ],
};

impl Hook {
    /// What the hook is, for people.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Typed(name) => format!("tp_btf {name}"),
            Self::PageFaults => "perf page-faults".to_owned(),
            Self::Samples => "perf samples".to_owned(),
            Self::Record(category, name) => format!("tracepoint {category}:{name}"),
            Self::Mark => "mark larder:block_touch".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn programs_have_names_that_the_kernel_keeps() {
        // `BPF_OBJ_NAME_LEN` is 16 with the zero.
        let parts = PROBES
            .iter()
            .flat_map(|probe| probe.forms.iter().copied().flatten());
        let names: Vec<&str> = parts.map(|part| part.program).collect();
        assert!(
            names
                .iter()
                .all(|name| name.len() < 16 && name.starts_with("larder_"))
        );
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    /// The type information of the committed object, and the names of its functions.
    fn object() -> (Vec<u8>, HashSet<String>) {
        use object::{Object, ObjectSection, ObjectSymbol};
        let elf = include_bytes!("../probes/larder.bpf.o").to_vec();
        let file = object::File::parse(elf.as_slice()).expect("an object");
        let btf = file.section_by_name(".BTF").expect("type information");
        let names = file
            .symbols()
            .filter_map(|symbol| symbol.name().ok().map(str::to_owned));
        (btf.data().expect("in the file").to_vec(), names.collect())
    }

    #[test]
    fn every_program_of_the_table_is_in_the_object() {
        let (_, names) = object();
        for part in PROBES
            .iter()
            .flat_map(|probe| probe.forms.iter().copied().flatten())
        {
            assert!(names.contains(part.program), "{}", part.program);
        }
    }

    #[test]
    fn both_sides_have_one_layout() {
        use larder_abi::{Event, HeatEntry, IoLatency, Range, Region, Settings, TierStats};
        use std::mem::offset_of;
        let (btf, _) = object();
        let structs = crate::btf::Structs::parse(&btf).expect("type information");
        macro_rules! check {
            ($($type:ident { $($field:ident)* })*) => {
                $($(assert_eq!(
                    structs.offset(stringify!($type), stringify!($field)),
                    Some(offset_of!($type, $field) as u32),
                    "{}.{}", stringify!($type), stringify!($field)
                );)*)*
            };
        }
        check! {
            HeatEntry { touches marks faults samples accesses errors seen_ns }
            Region { owner_pid owner_start generation manifest block_first block_count ranges }
            Range { start end block_bytes entry tier kind }
            TierStats { faults filtered drops reclaim_ns ios media_errors }
            IoLatency { ios errors nanos buckets }
            Settings { version only_tgid cgroup_id cgroup_level sample_period stall_ns }
            Event { at_ns kind tgid address detail array entry }
            Offsets { request_q at_fault_address at_dram_hpa }
        }
    }
}
