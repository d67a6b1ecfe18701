//! What flags ask for: each tier is tried, or looked for where this build cannot open it.

use super::super::error::{CliError, one_line};
use super::super::options::DoctorOptions;
use super::super::size::{memory as size, parse_size};
use super::super::tier::{TierSpec, parse_tier};
use super::{Check, State, checks};
use crate::host::{Gpu, HostTree, Iommu, NumaNode};
use crate::session::{LowerTier, connect};
use larder_pool::spill::check_free;
use larder_pool::sys::file::SourceFile;
use larder_pool::sys::limits::{available_bytes, disk_free_bytes};
use larder_pool::wire::header::VERSION;
use std::path::Path;
use std::time::Instant;

/// One line per flag, in the order typed. Fails on what no host could have.
pub(super) fn all(tree: &HostTree, options: &DoctorOptions) -> Result<Vec<Check>, CliError> {
    let mut checks = Vec::new();
    if let Some(text) = &options.fast {
        let bytes = parse_size(text, available_bytes)
            .map_err(|error| CliError::Usage(format!("--fast: {error}")))?;
        checks.push(fast("--fast", bytes).asked());
    }
    for text in &options.tier {
        let check = match absent(tree, text) {
            Some(check) => check,
            None => tier(
                tree,
                parse_tier(text, available_bytes).map_err(CliError::Usage)?,
            ),
        };
        checks.push(check.asked());
    }
    Ok(checks)
}

/// Tiers that this build does not open: what the host has of them, and that it is of no use yet.
fn absent(tree: &HostTree, text: &str) -> Option<Check> {
    let value = |name: &str| text.strip_prefix(name)?.strip_prefix('=');
    if text == "hbm=auto" || text.starts_with("hbm=auto,") {
        let check = checks::gpu(&Gpu::read(tree));
        let next = "give hbm=sim,SIZE, or leave it out";
        return Some(Check::lacks(
            "hbm",
            format!("{}, and this build has no CUDA", check.found),
            next,
        ));
    }
    let name = if text.starts_with("cxl") {
        "cxl"
    } else if text.starts_with("vfio") {
        "vfio"
    } else {
        return None;
    };
    // A later build that opens it checks it as any other.
    if parse_tier(text, || 0).is_ok() {
        return None;
    }
    let place = value(name)?.split(',').next().unwrap_or_default();
    let found = match place.strip_prefix("node") {
        Some(number) if name == "cxl" => cxl_node(tree, number),
        _ if name == "cxl" => Err(format!("{place} is no node; give cxl=nodeN,SIZE")),
        _ => vfio(tree, place),
    };
    let found = found.unwrap_or_else(|missing| missing);
    let next = format!("leave it out: this build has no {name} tier");
    Some(Check::lacks(name, found, next))
}

fn cxl_node(tree: &HostTree, number: &str) -> Result<String, String> {
    let nodes = NumaNode::all(tree);
    let node = nodes.iter().find(|node| node.node.to_string() == number);
    let node = node.ok_or_else(|| format!("node{number} is not there"))?;
    let free = size(node.free_bytes);
    Ok(format!("node{number} has {free} free"))
}

fn vfio(tree: &HostTree, address: &str) -> Result<String, String> {
    if !tree.exists(&format!("/sys/bus/pci/devices/{address}")) {
        return Err(format!("no PCI device {address}"));
    }
    let driver = tree.link_name(&format!("/sys/bus/pci/devices/{address}/driver"));
    let driver = driver.unwrap_or_else(|| "no driver".to_owned());
    let groups = Iommu::read(tree).groups;
    Ok(format!("{address} has {driver}, {groups} iommu groups"))
}

fn tier(tree: &HostTree, spec: TierSpec) -> Check {
    match spec {
        TierSpec::Origin { .. } => Check::ok("origin", "the model files"),
        TierSpec::Dram { bytes, node, .. } => match node {
            Some(node) => numa(tree, node, bytes),
            None => fast("dram", bytes),
        },
        TierSpec::Hbm { bytes, .. } => fast("hbm=sim", bytes),
        TierSpec::Lower(LowerTier::Nvme { folder, bytes, .. }) => spill(&folder, bytes),
        TierSpec::Lower(LowerTier::Remote {
            address,
            token_file,
            ..
        }) => remote(&address, token_file.as_deref()),
    }
}

fn fast(name: &str, bytes: u64) -> Check {
    let free = available_bytes();
    let found = format!("{} of {} free", size(bytes), size(free));
    if bytes <= free {
        return Check::ok(name, found);
    }
    Check::lacks(name, found, "give less, or leave it out for 80% of it")
}

fn numa(tree: &HostTree, number: u32, bytes: u64) -> Check {
    let nodes = NumaNode::all(tree);
    let Some(node) = nodes.iter().find(|node| node.node == number) else {
        let found = format!("no NUMA node {number}");
        return Check::lacks("dram", found, "larder topo shows the nodes");
    };
    let free = node.free_bytes;
    let found = format!("{} of {} free on node {number}", size(bytes), size(free));
    if bytes <= free {
        return Check::ok("dram", found);
    }
    Check::lacks("dram", found, "give less, or another node")
}

fn spill(folder: &Path, bytes: u64) -> Check {
    let name = "nvme";
    let place = folder.display();
    if !folder.is_dir() {
        let next = format!("mkdir -p {place}");
        return Check::lacks(name, format!("{place} is no folder"), next);
    }
    let path = folder.join(format!(".larder-doctor-{}", std::process::id()));
    let made = SourceFile::open_written(&path, 0);
    // It may not have come into being.
    let _ = std::fs::remove_file(&path);
    let is_direct = match made {
        Ok(file) => file.is_direct(),
        Err(error) => {
            let next = format!("sudo chown $(id -u) {place}");
            return Check::lacks(name, one_line(&error), next);
        }
    };
    if let Err(error) = check_free(folder) {
        let line = one_line(&error);
        let (found, next) = line
            .split_once("; ")
            .unwrap_or((&line, "give another folder"));
        return Check::lacks(name, found, next);
    }
    let free = disk_free_bytes(folder).unwrap_or(0);
    let how = if is_direct {
        "O_DIRECT"
    } else {
        "no O_DIRECT: through the page cache"
    };
    let found = format!("{place}: {} of {} free, {how}", size(bytes), size(free));
    if bytes <= free {
        return Check::ok(name, found);
    }
    Check::lacks(name, found, "give less; it takes room as it is written")
}

fn remote(address: &str, token_file: Option<&Path>) -> Check {
    let start = Instant::now();
    let connected = connect(address, token_file);
    let reached = start.elapsed();
    let asked = connected.as_ref().map(|client| {
        let told = client.info().and_then(|info| {
            let in_place = client.hands_over()?;
            Ok((info, client.lease()?, in_place))
        });
        (told, client.incarnation())
    });
    let found = match asked {
        Ok((Ok((info, lease, in_place)), incarnation)) => {
            let all = size(info.mem_bytes + info.disk_bytes);
            let free = size(info.free_bytes);
            let milliseconds = reached.as_secs_f64() * 1e3;
            let found = format!(
                "tcp://{address}: reached in {milliseconds:.1} ms, protocol {VERSION}, start \
                 {incarnation:016x}, lease {} s, {free} of {all} to lend{}",
                lease.as_secs(),
                if in_place {
                    ", weights read in place"
                } else {
                    ""
                }
            );
            let check = Check::ok("remote", found);
            if info.free_bytes > 0 {
                return check;
            }
            return Check {
                state: State::Ok,
                next: Some("it serves its models only; larder rm makes room".to_owned()),
                ..check
            };
        }
        Ok((Err(error), _)) => one_line(&error),
        Err(error) => one_line(error),
    };
    // Those errors end with what to do, after a semicolon.
    let (found, next) = found
        .rsplit_once("; ")
        .unwrap_or((&found, "look at the log of the node"));
    Check::lacks("remote", found, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_pool::node::{Node, NodeOptions};
    use larder_pool::spill::Spill;
    use std::net::SocketAddr;

    fn check(text: &str) -> Check {
        let options = DoctorOptions {
            fast: None,
            tier: vec![text.to_owned()],
            json: false,
        };
        let mut checks = all(&HostTree::this(), &options).expect("good use");
        assert_eq!(checks.len(), 1);
        checks.remove(0)
    }

    #[test]
    fn what_can_work_is_ok_and_what_cannot_fails() {
        let folder = tempfile::tempdir().expect("temp folder");
        let place = folder.path().display();
        for good in [
            "origin",
            "dram=1MiB",
            "hbm=sim,1MiB",
            &format!("nvme={place},1MiB"),
        ] {
            let check = check(good);
            assert_eq!((check.state, check.asked), (State::Ok, true), "{check:?}");
        }
        for (bad, part) in [
            (format!("nvme={place}/none,1MiB"), "mkdir"),
            (format!("nvme={place},4000TiB"), "give less"),
            ("dram=4000TiB".to_owned(), "give less"),
            ("dram=1MiB,node=900".to_owned(), "larder topo"),
            ("remote=tcp://127.0.0.1:1".to_owned(), "larder node"),
            ("vfio=0000:99:00.0".to_owned(), "no vfio tier"),
            ("hbm=auto".to_owned(), "hbm=sim"),
        ] {
            let check = check(&bad);
            assert_eq!(check.state, State::Fails, "{check:?}");
            let next = check.next.as_deref().unwrap_or_default();
            assert!(next.contains(part), "{check:?}");
        }
        assert_eq!(folder.path().read_dir().expect("there").count(), 0);
    }

    #[test]
    fn a_spill_folder_that_is_in_use_fails() {
        let folder = tempfile::tempdir().expect("temp folder");
        let spill = Spill::open(folder.path(), 1 << 20).expect("opens");
        let text = format!("nvme={},1MiB", folder.path().display());
        let held = check(&text);
        assert_eq!(held.state, State::Fails, "{held:?}");
        assert!(held.found.contains("in use by process"), "{held:?}");
        drop(spill);
        assert_eq!(check(&text).state, State::Ok);
    }

    #[test]
    fn a_node_says_what_it_lends() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let node = Node::start(NodeOptions::new(local, 4 << 20)).expect("starts");
        let check = check(&format!("remote=tcp://{}", node.address()));
        assert_eq!(check.state, State::Ok, "{check:?}");
        assert!(check.found.contains("4.0 MiB to lend"), "{check:?}");
        assert!(check.found.contains("lease 30 s"), "{check:?}");
        assert!(check.found.ends_with("read in place"), "{check:?}");
    }

    #[test]
    fn what_no_host_has_is_bad_use() {
        for text in ["tape=1", "dram=x", "remote=host"] {
            let options = DoctorOptions {
                fast: None,
                tier: vec![text.to_owned()],
                json: false,
            };
            let error = all(&HostTree::this(), &options).expect_err(text);
            assert_eq!(error.exit_code(), 2);
        }
    }
}
