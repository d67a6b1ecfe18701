//! The memory nodes of a session: connections that serve a model, lend memory, or both.

use crate::manifest::{Container, Manifest, ModelError};
use crate::session::{LowerTier, SessionOptions};
use larder_pool::remote::{Client, NamedModel, ObjectHash, RemoteError, RemoteOptions, Watch};
use larder_pool::units::BytesPerSec;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a model of a node is named on the command line.
pub const SCHEME: &str = "remote://";

/// A node could not serve what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("read token file {}: {error}", path.display())]
    Token {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("no node for remote://{name}; give one with --tier remote=tcp://HOST:PORT")]
    NoNode { name: String },
    #[error("no node has a model named '{name}'; they have {names}; load it with larder load")]
    NoModel { name: String, names: String },
    #[error("two models are named '{name}': {one}, {other}; remove one with larder rm")]
    TwoModels {
        name: String,
        one: String,
        other: String,
    },
    #[error("start a thread that watches a node: {0}")]
    Watch(std::io::Error),
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A node of a session, connected to or still to come.
#[derive(Clone)]
pub struct NodeLink {
    pub client: Arc<Client>,
    /// Asks it all the time whether it is there; `None` where one answer is enough.
    pub watch: Option<Arc<Watch>>,
    pub limit: Option<BytesPerSec>,
    pub is_forced: bool,
}

/// The nodes of a session, in the order they were given.
#[derive(Clone, Default)]
pub struct Nodes {
    pub links: Vec<NodeLink>,
    /// Those that hold the model, in the order they were given.
    pub origins: Vec<usize>,
}

impl NodeLink {
    /// The node has been reached.
    fn is_there(&self) -> bool {
        self.client.health().life() > 0
    }
}

/// Connects to the node at `address`.
pub fn connect(address: &str, token_file: Option<&Path>) -> Result<Arc<Client>, NodesError> {
    Ok(Client::connect(&remote_options(address, token_file)?)?)
}

fn remote_options(address: &str, token_file: Option<&Path>) -> Result<RemoteOptions, NodesError> {
    let mut options = RemoteOptions::new(address);
    if let Some(path) = token_file {
        let text = std::fs::read_to_string(path).map_err(|error| NodesError::Token {
            path: path.to_path_buf(),
            error,
        })?;
        options.token = Some(text.trim().to_owned());
    }
    Ok(options)
}

impl Nodes {
    /// Connects to every node among the tiers.
    pub fn connect(options: &SessionOptions) -> Result<Self, NodesError> {
        let mut links = Vec::new();
        for tier in &options.lower {
            let LowerTier::Remote {
                address,
                token_file,
                is_forced,
                may_join,
                limit,
            } = tier
            else {
                continue;
            };
            let remote = remote_options(address, token_file.as_deref())?;
            let client = match Client::connect(&remote) {
                Err(error) if *may_join && error.is_lost() => Client::later(&remote),
                client => client?,
            };
            links.push(NodeLink {
                watch: Some(Arc::new(client.watch().map_err(NodesError::Watch)?)),
                client,
                limit: *limit,
                is_forced: *is_forced,
            });
        }
        Ok(Self {
            links,
            origins: Vec::new(),
        })
    }

    /// Opens the model `name`, which every node that has it serves.
    pub fn open_model(&mut self, name: &str) -> Result<(Container, Manifest), NodesError> {
        if self.links.is_empty() {
            let name = name.to_owned();
            return Err(NodesError::NoNode { name });
        }
        let mut found: Option<(usize, ObjectHash)> = None;
        for (index, link) in self.links.iter().enumerate() {
            if !link.is_there() {
                continue;
            }
            let Some(hash) = link.client.resolve(name)? else {
                continue;
            };
            match found {
                None => {
                    found = Some((index, hash));
                    self.origins.push(index);
                }
                Some((_, first)) if first == hash => self.origins.push(index),
                Some((at, first)) => {
                    let place = |index: usize, hash: ObjectHash| {
                        format!("{hash} at {}", self.links[index].client.address())
                    };
                    return Err(NodesError::TwoModels {
                        name: name.to_owned(),
                        one: place(at, first),
                        other: place(index, hash),
                    });
                }
            }
        }
        let Some((index, hash)) = found else {
            let mut models = Vec::new();
            for link in self.links.iter().filter(|link| link.is_there()) {
                models.extend(link.client.names()?);
            }
            return Err(no_model(name, &models));
        };
        let root = self.links[index].client.get_object(hash)?;
        let path = PathBuf::from(format!("{SCHEME}{name}"));
        Ok(Manifest::from_packed(&path, &root)?)
    }
}

/// No node has the model; `models` are those that they have.
pub fn no_model(name: &str, models: &[NamedModel]) -> NodesError {
    let mut names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let names = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    let name = name.to_owned();
    NodesError::NoModel { name, names }
}
