//! The node's namespaces.
//!
//! The network namespace has a name and no uplink: nothing of the node can reach, or be reached
//! from, anything but what is inside. Beside it the node has a mount namespace, in which `/run`,
//! `/var/lib` and `/var/log` are its own, and a process namespace, whose first process takes all
//! others with it when it ends. So whatever a part mounts, writes below those folders, or leaves
//! running is gone with that one process, and nothing of the machine's own is touched.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::config::Addresses;
use crate::layout::{COVERED, Layout};
use crate::names::Name;
use crate::procs::{self, Proc};

/// Says what `ip netns` made of `/run/netns` for us, so that it goes with the last cluster: the
/// folder, or only its mount on itself.
const MADE_RUN_NETNS: &str = ".made-run-netns";
const RUN_NETNS: &str = "/run/netns";

/// What the kubelet would set on the machine, with the values that it wants. Inside, files with
/// these values lie over the real ones: the kubelet is content, the machine unchanged.
const KUBELET_SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Set inside the network namespace, which has these for itself.
const NET_SYSCTLS: [(&str, &str); 2] = [
    ("ipv4/ip_forward", "1"),
    // Without it policies would not see traffic between pods of one bridge.
    ("bridge/bridge-nf-call-iptables", "1"),
];

/// Process 1 of the node. Arguments: where to say that everything is mounted, the program that
/// then stays, the folder of the values above, the folders to cover.
const INIT: &str = r#"
set -eu
said=$1 pause=$2 values=$3
shift 3
# This is the machine's /proc still, so this is the id that the machine knows us by.
read -r pid _ </proc/self/stat
mount --make-rshared /
mount -t proc proc /proc
for covered in "$@"; do
    mount -t tmpfs -o mode=0755 tmpfs "$covered"
done
[ /var/run -ef /run ] || mount --bind /run /var/run
mkdir -p /run/lock /run/netns
for value in "$values"/*; do
    [ -e "/proc/sys/$(basename "$value" | tr . /)" ] || continue
    mount --bind "$value" "/proc/sys/$(basename "$value" | tr . /)"
done
echo "$pid" >"$said.new"
mv "$said.new" "$said"
exec "$pause"
"#;

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(
        output.status.success(),
        "{:?}: {}",
        command,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Makes the network namespace with its addresses.
pub(crate) fn create(layout: &Layout, addresses: &Addresses, path: &str) -> Result<()> {
    let shared = layout.lock_shared()?;
    let mark = layout.clusters().join(MADE_RUN_NETNS);
    if !mark.exists() {
        if !Path::new(RUN_NETNS).exists() {
            fs::write(mark, "folder")?;
        } else if !is_mount(Path::new(RUN_NETNS))? {
            fs::write(mark, "mount")?;
        }
    }
    let ip = |words: &str| run(Command::new("ip").args(words.split(' ')).env("PATH", path));
    let netns = layout.name.netns();
    ip(&format!("netns add {netns}"))?;
    drop(shared);
    // The kernel need not have dummy devices: a bridge carries the node's address.
    let (node, nowhere) = (addresses.node, addresses.nowhere());
    for words in [
        "link set lo up".to_owned(),
        "link add node0 type bridge".to_owned(),
        format!("addr add {node}/24 dev node0"),
        "link set node0 up".to_owned(),
        // ClusterIPs are translated after the route is chosen, so there must be one.
        format!("route add default via {nowhere} dev node0"),
    ] {
        ip(&format!("-netns {netns} {words}"))?;
    }
    inside(&layout.name, || {
        for (name, value) in NET_SYSCTLS {
            let file = Path::new("/proc/sys/net").join(name);
            fs::write(&file, value).with_context(|| file.display().to_string())?;
        }
        Ok(())
    })?
}

/// Starts process 1 of the node.
pub(crate) fn start_init(layout: &Layout, pause: &Path, path: &str) -> Result<Proc> {
    let values = layout.at("etc/sysctl");
    fs::create_dir_all(&values)?;
    for (name, value) in KUBELET_SYSCTLS {
        fs::write(values.join(name.replace('/', ".")), format!("{value}\n"))?;
    }
    let said = layout.at("run/init.pid");
    let log = File::create(layout.log("init"))?;
    let mut child = Command::new("setsid")
        .arg("nsenter")
        .arg(format!("--net={}", layout.name.netns_path().display()))
        .args([
            "unshare",
            "--mount",
            "--propagation=slave",
            "--pid",
            "--fork",
        ])
        .args(["--kill-child=SIGKILL", "--", "/bin/sh", "-c", INIT, "init"])
        .args([&said, pause, &values])
        .args(COVERED)
        .env_clear()
        .env("PATH", path)
        .env(procs::MARK, layout.state())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run setsid nsenter unshare")?;
    let told = crate::process::poll(Duration::from_secs(20), || {
        if let Ok(pid) = fs::read_to_string(&said) {
            return Ok(Some(pid));
        }
        match child.try_wait()? {
            Some(status) => bail!("ended with {status}"),
            None => Ok(None),
        }
    })
    .with_context(|| crate::process::tail_of(layout, "init"))?
    .context("the node's process 1 did not start in 20 s")?;
    crate::process::reap_later(child);
    let pid = told.trim().parse()?;
    Proc::find("init", pid).context("the node's process 1 has ended")
}

/// A command inside the network namespace alone: files and processes are the machine's.
pub(crate) fn enter_network(name: &Name) -> Command {
    enter(&name.netns_path())
}

/// A command inside a network namespace.
pub(crate) fn enter(namespace: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display()));
    command.arg("--");
    command
}

/// A command inside all of the node's namespaces.
pub(crate) fn enter_node(init: &Proc) -> Command {
    let mut command = Command::new("nsenter");
    command.args([
        "--target",
        &init.pid.to_string(),
        "--net",
        "--mount",
        "--pid",
        "--",
    ]);
    command
}

/// Runs a function on a thread of its own inside the network namespace. Sockets belong to the
/// namespace that they were made in, so one that it returns works everywhere.
pub(crate) fn inside<T: Send>(name: &Name, act: impl FnOnce() -> T + Send) -> Result<T> {
    inside_of(&name.netns_path(), act)
}

/// As [`inside`], in the namespace of a file.
pub(crate) fn inside_of<T: Send>(path: &Path, act: impl FnOnce() -> T + Send) -> Result<T> {
    let namespace = File::open(path).with_context(|| path.display().to_string())?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(act())
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Connects from inside.
pub(crate) fn dial(name: &Name, target: SocketAddr, timeout: Duration) -> Result<TcpStream> {
    inside(name, || TcpStream::connect_timeout(&target, timeout))?
        .with_context(|| format!("connect to {target} inside {}", name.netns()))
}

/// Removes the network namespaces' names, and `/run/netns` if nobody else needs it.
pub(crate) fn remove(layout: &Layout) -> Result<()> {
    let _shared = layout.lock_shared()?;
    let name = &layout.name;
    for (path, namespace) in [
        (name.outside_path(), name.outside()),
        (name.netns_path(), name.netns()),
    ] {
        if path.exists() {
            run(Command::new("ip").args(["netns", "delete", &namespace]))?;
        }
    }
    let mark = layout.clusters().join(MADE_RUN_NETNS);
    let Ok(made) = fs::read_to_string(&mark) else {
        return Ok(());
    };
    let used = fs::read_dir(RUN_NETNS).is_ok_and(|mut entries| entries.next().is_some());
    if !used {
        while is_mount(Path::new(RUN_NETNS))? {
            nix::mount::umount(RUN_NETNS)?;
        }
        if made == "folder" && Path::new(RUN_NETNS).exists() {
            fs::remove_dir(RUN_NETNS)?;
        }
        fs::remove_file(mark)?;
    }
    Ok(())
}

/// Where something is mounted, as this process sees it.
pub(crate) fn mount_points() -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().filter_map(mount_point).collect())
}

/// The fifth field; blanks in it are written in octal.
fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?;
    let plain = field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\");
    Some(PathBuf::from(plain))
}

fn is_mount(path: &Path) -> Result<bool> {
    Ok(mount_points()?.iter().any(|point| point == path))
}

/// Every process in the network namespaces: the node's, and that of the peer outside.
pub(crate) fn members(name: &Name) -> Vec<u32> {
    let paths = [name.netns_path(), name.outside_path()];
    let own: Vec<_> = paths.iter().filter_map(|p| procs::namespace(p)).collect();
    if own.is_empty() {
        return Vec::new();
    }
    procs::all()
        .into_iter()
        .filter(|pid| procs::netns_of(*pid).is_some_and(|of| own.contains(&of)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_written() {
        let line = r"36 35 98:0 /m /a\040b/c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line).unwrap(), Path::new("/a b/c"));
        assert!(is_mount(Path::new("/proc")).unwrap());
        assert!(!is_mount(Path::new("/proc/self")).unwrap());
    }

    #[test]
    fn the_first_process_is_a_script_that_a_shell_can_read() {
        let output = Command::new("sh")
            .args(["-n", "-c", INIT])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn no_namespace_no_members() {
        assert!(members(&"no-such-cluster".parse().unwrap()).is_empty());
    }
}
