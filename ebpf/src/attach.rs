//! Loading one probe, hanging it on its hook and pinning both.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::links::FdLink;
use aya::programs::uprobe::UProbeScope;
use aya::programs::{
    BtfTracePoint, PerfEvent as PerfProgram, ProgramError, ProgramFd, TracePoint, UProbe,
};
use aya::{Btf, Ebpf};
use larder_sys::bpf::{PerfEvent, PerfScope, link_perf, perf_event, pin};

use crate::error::one_line;
use crate::format::Tracefs;
use crate::notes;
use crate::offsets::{Found, no_btf, no_tracefs, no_tracepoint};
use crate::pins::Pins;
use crate::probe::{Hook, Part, Probe};

/// What probes are hung on with.
pub(crate) struct Attacher<'a> {
    pub(crate) ebpf: &'a mut Ebpf,
    pub(crate) pins: &'a Pins,
    pub(crate) found: &'a Found,
    pub(crate) btf: Option<&'a Btf>,
    pub(crate) tracefs: Option<&'a Tracefs>,
    /// Event of `Hook::Samples`.
    pub(crate) samples: PerfEvent,
    /// Binary whose marks are probed.
    pub(crate) marked: Option<&'a Path>,
    pub(crate) processors: &'a [u32],
}

impl Attacher<'_> {
    /// Hangs the first form of `probe` that the kernel takes; all reasons if it takes none.
    pub(crate) fn probe(&mut self, probe: &Probe) -> Result<&'static [Part], Vec<String>> {
        let mut reasons = Vec::new();
        for form in probe.forms {
            match self.form(form) {
                Ok(()) => return Ok(form),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons)
    }

    /// Hangs all programs of a form, or none.
    fn form(&mut self, form: &[Part]) -> Result<(), String> {
        let mut made = Vec::new();
        let mut parts = form.iter();
        let result = parts.try_for_each(|part| {
            let hung = self.part(part, &mut made);
            hung.map_err(|reason| format!("{}: {reason}", part.hook.describe()))
        });
        if result.is_err() {
            for path in made {
                // What cannot be removed here is removed by `stop`; the reason matters more.
                let _ = fs::remove_file(path);
            }
        }
        result
    }

    fn part(&mut self, part: &Part, made: &mut Vec<PathBuf>) -> Result<(), String> {
        if let Some(reason) = self.found.missing(part.program) {
            return Err(reason.to_owned());
        }
        match part.hook {
            Hook::Typed(name) => {
                let btf = self.btf.ok_or_else(no_btf)?;
                let program: &mut BtfTracePoint = self.program(part.program)?;
                program.load(name, btf).map_err(|error| reason(&error))?;
                let id = program.attach().map_err(|error| reason(&error))?;
                let link = program.take_link(id).map_err(|error| reason(&error))?;
                let program = clone(program.fd())?;
                self.pin(part.program, &program, vec![link.into()], made)
            }
            Hook::PageFaults => {
                let program: &mut PerfProgram = self.program(part.program)?;
                program.load().map_err(|error| reason(&error))?;
                let program = clone(program.fd())?;
                self.pin_events(part.program, &program, PerfEvent::page_faults(1), made)
            }
            Hook::Samples => {
                let program: &mut PerfProgram = self.program(part.program)?;
                program.load().map_err(|error| reason(&error))?;
                let program = clone(program.fd())?;
                self.pin_events(part.program, &program, self.samples, made)
            }
            Hook::Record(category, name) => {
                let tracefs = self.tracefs.ok_or_else(no_tracefs)?;
                let id = tracefs.id(category, name);
                let id = id.ok_or_else(|| no_tracepoint(category, name))?;
                let program: &mut TracePoint = self.program(part.program)?;
                program.load().map_err(|error| reason(&error))?;
                let program = clone(program.fd())?;
                // A tracepoint runs its programs on every processor, whichever the event is of.
                let event = PerfEvent::tracepoint(id);
                self.pin_program(part.program, &program, made)?;
                self.pin_event(part.program, &program, (event, 0), made)
            }
            Hook::Mark => self.mark(part.program, made),
        }
    }

    fn mark(&mut self, name: &str, made: &mut Vec<PathBuf>) -> Result<(), String> {
        let path = self
            .marked
            .ok_or("no binary was named whose marks to probe")?;
        let elf = fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))?;
        let marks = notes::marks(&elf, "larder", "block_touch");
        if marks.is_empty() {
            return Err(format!("{} holds no mark", path.display()));
        }
        let program: &mut UProbe = self.program(name)?;
        program.load().map_err(|error| reason(&error))?;
        let mut links = Vec::new();
        for mark in marks {
            let id = program.attach(mark, path, UProbeScope::AllProcesses);
            let id = id.map_err(|error| reason(&error))?;
            let link = program.take_link(id).map_err(|error| reason(&error))?;
            links.push(FdLink::try_from(link).map_err(|error| one_line(&error))?);
        }
        let program = clone(program.fd())?;
        self.pin(name, &program, links, made)
    }

    fn program<'p, T>(&'p mut self, name: &str) -> Result<&'p mut T, String>
    where
        &'p mut T: TryFrom<&'p mut aya::programs::Program, Error = ProgramError>,
    {
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or_else(|| format!("the object has no program {name}"))?;
        program.try_into().map_err(|error| reason(&error))
    }

    fn pin(
        &self,
        name: &str,
        program: &ProgramFd,
        links: Vec<FdLink>,
        made: &mut Vec<PathBuf>,
    ) -> Result<(), String> {
        self.pin_program(name, program, made)?;
        let is_single = links.len() == 1;
        for (index, link) in links.into_iter().enumerate() {
            let file = if is_single {
                name.to_owned()
            } else {
                format!("{name}_{index}")
            };
            let path = self.pins.links().join(file);
            // The pin keeps the link; what is returned would only be another descriptor of it.
            let _pinned = link.pin(&path).map_err(|error| one_line(&error))?;
            made.push(path);
        }
        Ok(())
    }

    /// Hangs `program` on `event` of every processor.
    fn pin_events(
        &self,
        name: &str,
        program: &ProgramFd,
        event: PerfEvent,
        made: &mut Vec<PathBuf>,
    ) -> Result<(), String> {
        self.pin_program(name, program, made)?;
        let mut processors = self.processors.iter();
        processors
            .try_for_each(|processor| self.pin_event(name, program, (event, *processor), made))
    }

    fn pin_event(
        &self,
        name: &str,
        program: &ProgramFd,
        (event, processor): (PerfEvent, u32),
        made: &mut Vec<PathBuf>,
    ) -> Result<(), String> {
        let path = self.pins.links().join(format!("{name}_cpu{processor}"));
        let event = perf_event(event, PerfScope::Processor(processor))
            .map_err(|errno| format!("perf_event_open: {errno}"))?;
        let link = link_perf(program.as_fd(), event.as_fd())
            .map_err(|errno| format!("link to an event: {errno}"))?;
        pin(link.as_fd(), &path).map_err(|errno| format!("pin {}: {errno}", path.display()))?;
        made.push(path);
        Ok(())
    }

    fn pin_program(
        &self,
        name: &str,
        program: &ProgramFd,
        made: &mut Vec<PathBuf>,
    ) -> Result<(), String> {
        let path = self.pins.programs().join(name);
        let pinned = pin(program.as_fd(), &path);
        pinned.map_err(|errno| format!("pin {}: {errno}", path.display()))?;
        made.push(path);
        Ok(())
    }
}

fn clone(fd: Result<&ProgramFd, ProgramError>) -> Result<ProgramFd, String> {
    let fd = fd.map_err(|error| reason(&error))?;
    fd.try_clone()
        .map_err(|error| format!("duplicate a descriptor: {error}"))
}

/// An error in one line; of a verifier's log its last words, which say what it refused.
fn reason(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return one_line(error);
    };
    let log = verifier_log.to_string();
    let mut lines = log.lines().rev().filter(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("processed ") && !line.starts_with("verification")
    });
    match lines.next() {
        Some(last) => format!("the verifier refused it: {}", last.trim()),
        None => format!("load: {io_error}"),
    }
}
