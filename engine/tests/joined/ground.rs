//! Where nodes and engines run: as root each node has a network of its own, else all share
//! loopback, each node behind a link that can be cut.

use crate::files;
use crate::forwarder::Forwarder;
use crate::namespaces::Namespaces;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// File of the token, in the folder of the engines: nodes that others reach must ask for one.
const TOKEN: &str = "token";

pub(crate) struct Ground {
    folder: TempDir,
    place: Place,
}

enum Place {
    Loopback(Vec<Arc<Forwarder>>),
    Namespaces(Namespaces),
}

impl Ground {
    /// A ground for `nodes` nodes, none of which runs yet.
    pub(crate) fn new(nodes: usize) -> Self {
        let folder = TempDir::new().expect("temp folder");
        // A test of its own says why there are none.
        let Some(Ok(namespaces)) = Self::namespaces(folder.path(), nodes) else {
            return Self::loopback(nodes);
        };
        std::fs::write(folder.path().join(TOKEN), "a secret of this test").expect("a token");
        let place = Place::Namespaces(namespaces);
        Self { folder, place }
    }

    /// A ground on loopback, whoever asks.
    pub(crate) fn loopback(nodes: usize) -> Self {
        Self {
            folder: TempDir::new().expect("temp folder"),
            place: Place::Loopback((0..nodes).map(|_| Arc::new(Forwarder::new())).collect()),
        }
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

    /// A file in the folder that engines run in.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// HOST:PORT of node `number`.
    pub(crate) fn address(&self, number: usize) -> String {
        match &self.place {
            Place::Loopback(links) => links[number].address.to_string(),
            Place::Namespaces(_) => Namespaces::address(number),
        }
    }

    /// The tier that node `number` is.
    pub(crate) fn tier(&self, number: usize) -> String {
        let tier = format!("remote=tcp://{}", self.address(number));
        match &self.place {
            Place::Loopback(_) => tier,
            Place::Namespaces(_) => {
                let token = self.folder.path().join(TOKEN);
                format!("{tier},token-file={}", token.display())
            }
        }
    }

    /// The program, where engines run.
    pub(crate) fn larder(&self) -> Command {
        let program = files::larder();
        let mut command = match &self.place {
            Place::Loopback(_) => Command::new(program),
            Place::Namespaces(namespaces) => namespaces.at_engine(&program),
        };
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Starts node `number`, which lends `mem`; always at the same address for engines.
    pub(crate) fn start(&self, number: usize, mem: &str) -> Node {
        let mut command = match &self.place {
            Place::Loopback(_) => {
                let mut command = Command::new(files::larder());
                command.args(["node", "--listen", "tcp://127.0.0.1:0"]);
                command
            }
            Place::Namespaces(namespaces) => {
                let mut command = namespaces.at_node(number, &files::larder());
                let listen = format!("tcp://{}", Namespaces::address(number));
                command.args(["node", "--listen", &listen, "--token-file"]);
                command.arg(self.folder.path().join(TOKEN));
                command
            }
        };
        let mut child = command
            .args(["--mem", mem])
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
        let link = match &self.place {
            Place::Loopback(links) => {
                links[number].open(address.parse().expect("an address"));
                Some(Arc::clone(&links[number]))
            }
            Place::Namespaces(_) => None,
        };
        // Whatever else it says must find a reader.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                println!("node: {line}");
            }
        });
        let address = address.to_owned();
        Node {
            child,
            address,
            link,
        }
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
    /// HOST:PORT where it listens itself.
    address: String,
    /// On loopback.
    link: Option<Arc<Forwarder>>,
}

impl Node {
    /// The tier that it is to engines of its own network, without a forwarder.
    pub(crate) fn tier(&self) -> String {
        format!("remote=tcp://{}", self.address)
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// It does nothing more, and its host and connections stay.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Its largest resident set so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the node lives");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.expect("a peak").split_whitespace().nth(1);
        let kib = kib.and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number") << 10
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("the node lives");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whatever failed then, this is why.
        if let Ok(Some(status)) = self.child.try_wait() {
            println!("a node was not there any more: {status}");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(link) = &self.link {
            link.close();
        }
    }
}
