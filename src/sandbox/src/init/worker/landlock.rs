//! The worker's Landlock domain (landlock(7)): the files of its plan once more, each with no more than it is for, and, where the network is
//! the host's, its own port. A second layer: what the mount namespace shows is all that there is to name.
//!
//! Rules count for everything below their path; a link is followed, so that `/lib` stands for what it points to.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};
use rbee_hive_policy::{BindSource, NetworkMode, SandboxPlan, TmpNodes};

use crate::init::InitContext;
use crate::step::CallError;

type Rights = BitFlags<AccessFs>;

/// Rights by use, as far as this kernel's ABI has them.
struct Uses {
    list: Rights,
    read: Rights,
    run: Rights,
    /// Reading and writing what is there.
    talk: Rights,
    /// Everything but running, and but device nodes where the policy grants none.
    write: Rights,
}

impl Uses {
    fn of(abi: ABI, plan: &SandboxPlan) -> Self {
        let list = BitFlags::from(AccessFs::ReadDir);
        let read = list | AccessFs::ReadFile;
        let talk = (read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev) & AccessFs::from_all(abi);
        let nodes = match plan.tmp_nodes {
            TmpNodes::Dev => BitFlags::EMPTY,
            TmpNodes::Nodev => AccessFs::MakeChar | AccessFs::MakeBlock,
        };
        let write = AccessFs::from_all(abi) & !(nodes | AccessFs::Execute);
        Self { list, read, run: read | AccessFs::Execute, talk, write }
    }
}

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let Some(settings) = &context.plan.landlock else { return Ok(()) };
    let abi = ABI::from(i32::try_from(settings.abi).unwrap_or(i32::MAX));
    let ruleset = ruleset(abi, &context.plan).map_err(failed("landlock_create_ruleset"))?;
    let ruleset = allow_files(ruleset, &Uses::of(abi, &context.plan), &context.plan)?;
    let status = ruleset.restrict_self().map_err(failed("landlock_restrict_self"))?;
    match status.ruleset {
        RulesetStatus::NotEnforced => {
            let error = std::io::Error::from_raw_os_error(libc::EOPNOTSUPP);
            Err(CallError::new("landlock_restrict_self()", error).hint("the kernel said that it had Landlock, and did not enforce it"))
        }
        _ => Ok(()),
    }
}

fn ruleset(abi: ABI, plan: &SandboxPlan) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(abi))?;
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    if plan.network != NetworkMode::Host || abi < ABI::V4 {
        return ruleset.create();
    }
    let created = ruleset.handle_access(AccessNet::BindTcp)?;
    let mut created = match plan.landlock.as_ref() {
        Some(domain) if !domain.closed_ports.is_empty() => connect_to_all_but(&domain.closed_ports, plan.port, created)?,
        _ => created.create()?,
    };
    if let Some(port) = plan.port {
        created = created.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    Ok(created)
}

/// Landlock knows what is allowed and nothing else, so every other port is listed: about 40 ms, and 6 MiB of the worker's memory, which only
/// a policy with the host's network pays.
fn connect_to_all_but(closed: &[(u16, u16)], own: Option<u16>, ruleset: Ruleset) -> Result<RulesetCreated, RulesetError> {
    let is_open = |port: &u16| Some(*port) == own || closed.iter().all(|(first, last)| !(first..=last).contains(&port));
    let open = (1..=u16::MAX).filter(is_open).map(|port| Ok(NetPort::new(port, AccessNet::ConnectTcp)));
    ruleset.handle_access(AccessNet::ConnectTcp)?.create()?.add_rules(open)
}

fn allow_files(mut ruleset: RulesetCreated, uses: &Uses, plan: &SandboxPlan) -> Result<RulesetCreated, CallError> {
    for (path, rights) in [("/", uses.list), ("/etc", uses.read), ("/sys", uses.read), ("/proc", uses.talk), ("/run", uses.talk)] {
        ruleset = allow(ruleset, Path::new(path), rights)?;
    }
    if plan.root.is_some() {
        ruleset = allow_root(ruleset, uses, plan, Path::new("/"))?;
    }
    for path in ["/tmp", "/dev/shm"].into_iter().map(Path::new).chain([plan.home.as_path()]) {
        ruleset = allow(ruleset, path, uses.write | AccessFs::Execute)?;
    }
    ruleset = allow(ruleset, Path::new("/run/worker"), uses.write)?;
    for node in &plan.devices {
        ruleset = allow(ruleset, &node.path, uses.talk)?;
    }
    for bind in &plan.binds {
        let rights = match (&bind.source, bind.writable) {
            (_, true) => uses.write,
            // A model is data.
            (BindSource::Opened { .. }, false) => uses.read,
            (BindSource::Path { .. }, false) => uses.run,
        };
        if bind.optional && !bind.target.exists() {
            continue;
        }
        ruleset = allow(ruleset, &bind.target, rights)?;
    }
    Ok(ruleset)
}

/// Everything of a root directory may be run, but not what was mounted into it for less: a right that is given above counts below.
fn allow_root(mut ruleset: RulesetCreated, uses: &Uses, plan: &SandboxPlan, directory: &Path) -> Result<RulesetCreated, CallError> {
    const OURS: [&str; 6] = ["/proc", "/sys", "/dev", "/tmp", "/run", "/models"];
    let less = plan.binds.iter().filter(|b| b.writable || matches!(b.source, BindSource::Opened { .. })).map(|b| b.target.as_path());
    let less: Vec<&Path> = less.chain(OURS.map(Path::new)).chain([plan.home.as_path()]).collect();
    let entries = std::fs::read_dir(directory).map_err(crate::step::failed(|| format!("getdents64({directory:?})")))?;
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !path.is_symlink() && !less.contains(&path.as_path())) {
        ruleset = match less.iter().any(|l| l.starts_with(&path)) {
            true => allow_root(ruleset, uses, plan, &path)?,
            false => allow(ruleset, &path, uses.run)?,
        };
    }
    Ok(ruleset)
}

fn allow(ruleset: RulesetCreated, path: &Path, rights: Rights) -> Result<RulesetCreated, CallError> {
    let opened = PathFd::new(path).map_err(|e| CallError::new(format!("open({path:?}, O_PATH)"), std::io::Error::other(e)))?;
    // Rights that only directories have are no rights of a file (EINVAL).
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(ABI::V10) };
    let added = ruleset.add_rule(PathBeneath::new(opened, rights));
    added.map_err(|e| CallError::new(format!("landlock_add_rule({path:?})"), std::io::Error::other(e)))
}

fn failed(call: &'static str) -> impl FnOnce(RulesetError) -> CallError {
    move |e| CallError::new(format!("{call}()"), std::io::Error::other(e))
}
