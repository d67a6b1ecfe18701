//! Instruction sets that the kernels are written for, and what this CPU has.

use std::fmt;

/// Instruction set of a [`crate::Kernels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Naive float32, straight from the definitions. The specification of the others.
    Reference,
    /// Plain Rust with the structure of the fast kernels; any CPU runs it.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI.
    Avx512,
}

/// The CPU lacks an instruction set that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsaError {
    /// What was asked for.
    pub isa: Isa,
    /// CPU flags that it needs and this machine lacks.
    pub missing: String,
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kernels {} need a CPU with {}",
            self.isa.name(),
            self.missing
        )
    }
}

impl std::error::Error for IsaError {}

/// One flag: the kernel's name of it, and whether this CPU has it.
type Flag = (&'static str, bool);

#[cfg(target_arch = "x86_64")]
fn flags() -> [Flag; 12] {
    use std::arch::is_x86_feature_detected as has;
    [
        ("avx2", has!("avx2")),
        ("fma", has!("fma")),
        ("f16c", has!("f16c")),
        ("avx_vnni", has!("avxvnni")),
        ("avx512f", has!("avx512f")),
        ("avx512bw", has!("avx512bw")),
        ("avx512vl", has!("avx512vl")),
        ("avx512dq", has!("avx512dq")),
        ("avx512_vnni", has!("avx512vnni")),
        ("avx512_bf16", has!("avx512bf16")),
        ("avx512_vbmi", has!("avx512vbmi")),
        ("avx512_fp16", has!("avx512fp16")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn flags() -> [Flag; 0] {
    []
}

impl Isa {
    /// Every instruction set, slowest first.
    pub const ALL: [Self; 4] = [Self::Reference, Self::Portable, Self::Avx2, Self::Avx512];

    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Flags that the kernels of this instruction set use.
    const fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Reference | Self::Portable => &[],
            Self::Avx2 => &["avx2", "fma", "f16c"],
            Self::Avx512 => &[
                "fma",
                "f16c",
                "avx512f",
                "avx512bw",
                "avx512vl",
                "avx512dq",
                "avx512_vnni",
            ],
        }
    }

    /// Fails with the missing flags if this CPU cannot run it.
    pub fn check(self) -> Result<(), IsaError> {
        let have = flags();
        let lacks = |flag: &&&str| !have.iter().any(|(name, has)| *has && *name == **flag);
        let missing: Vec<&str> = self.needs().iter().filter(lacks).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(IsaError {
            isa: self,
            missing: missing.join(" "),
        })
    }

    /// Fastest instruction set of this CPU.
    pub fn detect() -> Self {
        let best = Self::ALL.into_iter().rev().find(|isa| isa.check().is_ok());
        best.unwrap_or(Self::Portable)
    }

    /// Instruction sets that this CPU runs, slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|isa| isa.check().is_ok())
            .collect()
    }
}

/// Flags of this CPU that the kernels care about, separated by spaces; for reports.
pub fn cpu_flags() -> String {
    let have: Vec<&str> = flags()
        .iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| *name)
        .collect();
    have.join(" ")
}

/// Whether a thread that walks weights reads them faster with prefetches far ahead of its loads.
///
/// Measured on Zen 5 (family 26) with blocks of 5 MiB: 1.09 to 1.31 of the speed without. On Zen 4
/// prefetches take the miss buffers from the loads, and other CPUs were not measured.
#[cfg(target_arch = "x86_64")]
pub(crate) fn gains_from_prefetch() -> bool {
    use std::arch::x86_64::__cpuid;
    let vendor = __cpuid(0);
    let is_amd = [vendor.ebx, vendor.edx, vendor.ecx]
        .map(u32::to_le_bytes)
        .concat()
        == b"AuthenticAMD";
    let version = __cpuid(1).eax;
    let family = (version >> 8 & 0xf) + (version >> 20 & 0xff);
    is_amd && family >= 0x1a
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn gains_from_prefetch() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detected_is_available() {
        let all = Isa::available();
        assert!(all.contains(&Isa::detect()));
        assert_eq!(all[..2], [Isa::Reference, Isa::Portable]);
    }

    #[test]
    fn missing_flags_are_named() {
        let error = IsaError {
            isa: Isa::Avx512,
            missing: "avx512f avx512_vnni".into(),
        };
        assert_eq!(
            error.to_string(),
            "kernels avx512 need a CPU with avx512f avx512_vnni"
        );
    }
}
