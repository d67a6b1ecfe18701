//! The engine: manifests, tokenizer, model graphs, stager, KV, command line.
//!
//! Modules in reading order; each may use those above it, never those below.
#![forbid(unsafe_code)]

pub mod config;
pub mod host;
pub mod manifest;
pub mod tokenizer;
pub mod sample;
pub mod heat;
pub mod meter;
pub mod follow;
pub mod pressure;
pub mod timeline;

pub mod home;
pub mod backend;
pub mod kv;
pub mod layout;
pub mod supply;

pub mod gather;
pub mod stager;

pub mod graph;

pub mod session;

pub mod publish;
pub mod pack;
pub mod bound;
pub mod figures;

pub mod cli;
