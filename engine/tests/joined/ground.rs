//! Where nodes and engines run: as root each node has a network of its own, else all share
//! loopback, each node behind a link that can be cut.

use crate::forwarder::Forwarder;
use crate::namespaces::Namespaces;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const LARDER: &str = env!("CARGO_BIN_EXE_larder");

pub(crate) struct Ground {
    folder: TempDir,
    place: Place,
}

enum Place {
    Loopback(Vec<Forwarder>),
    Namespaces(Namespaces),
}

impl Ground {
    /// A ground for `nodes` nodes, none of which runs yet.
    pub(crate) fn new(nodes: usize) -> Self {
        let folder = TempDir::new().expect("temp folder");
        std::fs::write(folder.path().join("token"), "a secret of this test").expect("a token");
        let place = match Self::namespaces(folder.path(), nodes) {
            Some(Ok(namespaces)) => Place::Namespaces(namespaces),
            // A test of its own says why there are none.
            Some(Err(_)) | None => Place::Loopback((0..nodes).map(|_| Forwarder::new()).collect()),
        };
        Self { folder, place }
    }

    /// Namespaces, or why there are none; `None` for an ordinary user.
    pub(crate) fn namespaces(folder: &Path, nodes: usize) -> Option<Result<Namespaces, String>> {
        if !geteuid().is_root() {
            return None;
        }
        let name = folder.file_name().expect("a temp folder has a name");
        let unique = name.to_string_lossy().replace(['.', '-'], "");
        Some(Namespaces::new(&unique, nodes))
    }

    /// The folder in which engines run.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn token(&self) -> PathBuf {
        self.folder().join("token")
    }

    /// The tier that node `number` is.
    pub(crate) fn tier(&self, number: usize) -> String {
        let address = match &self.place {
            Place::Loopback(links) => links[number].address.to_string(),
            Place::Namespaces(_) => Namespaces::address(number),
        };
        format!(
            "remote=tcp://{address},token-file={}",
            self.token().display()
        )
    }

    /// The program, where engines run.
    pub(crate) fn larder(&self) -> Command {
        let program = Path::new(LARDER);
        let mut command = match &self.place {
            Place::Loopback(_) => Command::new(program),
            Place::Namespaces(namespaces) => namespaces.at_engine(program),
        };
        command.current_dir(self.folder()).stdin(Stdio::null());
        command
    }

    /// Starts node `number`, which lends `mem`; always at the same address for engines.
    pub(crate) fn start(&self, number: usize, mem: &str) -> Node {
        let (mut command, listen) = match &self.place {
            Place::Loopback(_) => (Command::new(LARDER), "127.0.0.1:0".to_owned()),
            Place::Namespaces(namespaces) => (
                namespaces.at_node(number, Path::new(LARDER)),
                Namespaces::address(number),
            ),
        };
        let mut child = command
            .args(["node", "--listen", &format!("tcp://{listen}"), "--mem", mem])
            .arg("--token-file")
            .arg(self.token())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a node starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let line = lines
            .next()
            .expect("a node says where it is")
            .expect("text");
        let (_, address) = line.rsplit_once(" at tcp://").expect("an address");
        if let Place::Loopback(links) = &self.place {
            links[number].set_node(address.parse::<SocketAddr>().expect("an address"));
        }
        // Whatever else it says must find a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Node { child }
    }

    /// From now on nothing passes between node `number` and the engines; connections stay open.
    pub(crate) fn cut(&self, number: usize) {
        match &self.place {
            Place::Loopback(links) => links[number].cut(),
            Place::Namespaces(namespaces) => namespaces.set_link(number, "down"),
        }
    }

    pub(crate) fn heal(&self, number: usize) {
        match &self.place {
            Place::Loopback(links) => links[number].heal(),
            Place::Namespaces(namespaces) => namespaces.set_link(number, "up"),
        }
    }

    /// Bytes that have come from node `number` so far, if the engine of process `pid` lives.
    pub(crate) fn received(&self, number: usize, pid: u32) -> Option<u64> {
        match &self.place {
            Place::Loopback(links) => Some(links[number].received()),
            Place::Namespaces(_) => Namespaces::received(number, pid),
        }
    }
}

/// A node, killed when dropped.
pub(crate) struct Node {
    child: Child,
}

impl Node {
    /// It does nothing more, and its host and connections stay.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("the node lives");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
