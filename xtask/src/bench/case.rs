//! The cases of the table, with the goals that they are held to.

use crate::synth::ValueType;
use clap::ValueEnum;

/// Where the weights of a case come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    File,
    /// A node of the same host, as an engine finds it.
    Node,
    /// A packed folder, with such a node that has room for some of what streams.
    FolderAndNode,
    /// As of another host, over TCP.
    Tcp(Link),
    TcpAndSpill(Link),
}

/// What carries TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Both ends share this host's processors.
    Loopback,
    /// As fast as 25 Gbit/s Ethernet.
    Limited,
}

impl From {
    /// What a link adds to the tier of the node.
    pub(super) const fn limit(self) -> &'static str {
        match self {
            Self::Tcp(Link::Limited) | Self::TcpAndSpill(Link::Limited) => ",limit=3GB/s",
            _ => "",
        }
    }
}

/// What is held against its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Decoding, against the bound of the report.
    Bound,
    /// The first token, against the time of reading the file once.
    FirstToken,
}

/// See the module.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) shape: &'static str,
    pub(super) value_type: ValueType,
    /// Fast tier, as a share of the file's bytes.
    pub(super) fast: f64,
    pub(super) from: From,
    pub(super) wants: Wants,
    /// Tokens to generate.
    pub(super) count: usize,
    pub(super) goal: &'static str,
}

impl Case {
    /// Name of the model's file.
    pub(super) fn file(&self) -> String {
        let value = self.value_type.to_possible_value();
        let value = value.map_or_else(String::new, |value| value.get_name().to_owned());
        format!("{}-{value}.gguf", self.shape)
    }
}

const fn dense(name: &'static str, fast: f64, from: From, goal: &'static str) -> Case {
    Case {
        name,
        shape: "llama-3b",
        value_type: ValueType::Q8_0,
        fast,
        from,
        wants: Wants::Bound,
        count: if matches!(from, From::Node) { 64 } else { 32 },
        goal,
    }
}

const fn experts(name: &'static str, fast: f64, goal: &'static str) -> Case {
    Case {
        name,
        shape: "qwen3-moe",
        value_type: ValueType::Q4K,
        fast,
        from: From::File,
        wants: Wants::Bound,
        count: 64,
        goal,
    }
}

const fn memory(name: &'static str, value_type: ValueType, goal: &'static str) -> Case {
    Case {
        name,
        shape: "llama-3.2-1b",
        value_type,
        fast: 1.4,
        from: From::File,
        wants: Wants::Bound,
        count: 192,
        goal,
    }
}

const LIMITED: From = From::Tcp(Link::Limited);
const LOOPBACK: From = From::Tcp(Link::Loopback);
const BOTH: From = From::TcpAndSpill(Link::Limited);
const BOTH_LOOPBACK: From = From::TcpAndSpill(Link::Loopback);

pub(super) const CASES: &[Case] = &[
    dense("dense, half, file", 0.5, From::File, "0.92"),
    dense("dense, quarter, file", 0.25, From::File, "0.92"),
    dense("dense, half, node", 0.5, From::Node, "0.85"),
    dense(
        "dense, half, file and node",
        0.5,
        From::FolderAndNode,
        "0.85",
    ),
    dense("dense, half, TCP of 3 GB/s", 0.5, LIMITED, "0.85"),
    dense("dense, half, TCP of 3 GB/s, spill", 0.5, BOTH, "0.85"),
    dense("dense, half, loopback TCP", 0.5, LOOPBACK, "0.85"),
    dense(
        "dense, half, loopback TCP, spill",
        0.5,
        BOTH_LOOPBACK,
        "0.85",
    ),
    experts("experts, half, file", 0.5, "0.80"),
    experts("experts, quarter, file", 0.25, "0.92"),
    memory("memory, Q8_0", ValueType::Q8_0, "0.90"),
    memory("memory, F16", ValueType::F16, "0.90"),
    memory("memory, BF16", ValueType::Bf16, "0.90"),
    memory("memory, Q4_K", ValueType::Q4K, "0.85"),
    Case {
        wants: Wants::FirstToken,
        count: 1,
        ..memory("first token, cold file", ValueType::Q8_0, "0.91")
    },
];
