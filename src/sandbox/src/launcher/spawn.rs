//! One spawn: facts, plan, cgroups, descriptors, init. What fails leaves nothing behind.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rbee_hive_policy::learn::WatchPlan;
use rbee_hive_policy::{
    Bind, BindSource, Command, HostFacts, Ids, OnHiveExit, Policy, RootDirectory, SandboxPlan, Violation, WorkerId, WorkerRequest, compile,
};
use rbee_hive_sys::clone::{Cloned, clone_process};

use super::Purpose;
use super::audit::clipped;
use super::descriptors::Handed;
use super::directories::write_plan;
use super::gpu_locks::Locked;
use super::ledger::{self, Claim, DeviceNumber, Entry, Seat};
use super::namespaces::{namespaces, namespaces_refused};
use super::policies::passed;
use super::resolve::devices::DeviceFacts;
use super::resolve::{abilities, binary, gpu_memory, idmap::Reader, lease, limits, model, model::Model, paths, rootfs::RootFs};
use super::serve::{Launcher, error_chain};
use super::uids::UidLease;
use crate::cgroup::Leaves;
use crate::init::{InitContext, OomContext, Stdio};
use crate::mount_tree::{MountApi, Tree};
use crate::oom::ordinary_child;
use crate::protocol::{Channel, LaunchError, LaunchErrorKind, MAX_MESSAGE};
use crate::seccomp::Filters;
use crate::step::CallError;

/// Most devices of one worker: more than any machine has.
const MAX_DEVICES: usize = 64;

/// What the hive is told.
pub(super) struct Spawned {
    pub(super) worker_id: WorkerId,
    pub(super) plan: SandboxPlan,
    pub(super) cgroup: Option<String>,
    pub(super) init_pid: i32,
    pub(super) policy_digest: u64,
}

/// What was found out about a request, and the descriptors that belong to it.
struct Resolved {
    plan: SandboxPlan,
    trees: Vec<Tree>,
    gpus: Vec<Claim>,
    serves: Vec<DeviceNumber>,
    gpu_locks: Vec<Locked>,
    uid: Option<UidLease>,
    filters: Option<Filters>,
}

impl Launcher {
    /// Starts a worker's init, or says why not.
    pub(super) fn spawn(&mut self, request: WorkerRequest, handed: Handed) -> Result<Spawned, LaunchError> {
        self.ledger.admit(&request.worker_id, Seat::of(&request))?;
        self.check(&request)?;
        let loaded = self.policies.load(&request.policy)?;
        self.check_trusted(&request.policy)?;
        let policy = self.policy_of(&request, loaded.policy)?;
        let mut resolved = self.resolve(&request, &policy)?;
        if self.options.purpose == Purpose::Run {
            // A foreground command has nobody who could adopt it.
            resolved.plan.on_hive_exit = OnHiveExit::Kill;
        }
        check_size(&resolved.plan)?;
        let mut spawned = self.make(request.worker_id, resolved, handed)?;
        spawned.policy_digest = loaded.texts.digest();
        Ok(spawned)
    }

    /// What no policy has to say: only a hive that is no longer itself asks for these.
    fn check(&self, request: &WorkerRequest) -> Result<(), LaunchError> {
        let refuse = |kind, text: String| Err(LaunchError::new(kind, text));
        if self.options.purpose == Purpose::Serve && matches!(request.command, Command::Run { .. }) {
            let text = "a hive's workers run what their policy names: a command of one's own is for `rbee-hive run`";
            return refuse(LaunchErrorKind::PolicyViolation, text.into());
        }
        let devices = &request.devices;
        if devices.is_empty() || devices.len() > MAX_DEVICES {
            return refuse(LaunchErrorKind::InvalidParams, format!("{} devices are asked for: 1 to {MAX_DEVICES} can be", devices.len()));
        }
        if let Some((at, twice)) = devices.iter().enumerate().find(|(at, name)| devices[..*at].contains(name)) {
            return refuse(LaunchErrorKind::InvalidParams, format!("device {} ({at}) is named twice", clipped(twice, 64)));
        }
        request.port.map_or(Ok(()), |port| self.ledger.admit_port(port, &self.options.ports))
    }

    /// The policy `trusted` is for whoever configures the host to allow.
    pub(super) fn check_trusted(&self, name: &str) -> Result<(), LaunchError> {
        if name != "trusted" || self.options.allow_trusted || self.options.purpose != Purpose::Serve {
            return Ok(());
        }
        let text = "the policy \"trusted\" works only where the configuration enables it";
        Err(LaunchError::new(LaunchErrorKind::PolicyViolation, text)
            .with_hint("set allow_trusted = true in a configuration file that is root's, and start the hive with --config"))
    }

    fn resolve(&mut self, request: &WorkerRequest, policy: &Policy) -> Result<Resolved, LaunchError> {
        let devices = DeviceFacts::of(&self.inventory, &request.devices, policy)?;
        let nodes: Vec<ledger::Asked<'_>> =
            devices.exclusive.iter().map(|(node, memory)| ledger::Asked { node, memory: *memory }).collect();
        let share = lease::share(request, policy)?;
        let (gpus, serves) = self.ledger.claim(&nodes, (share, Seat::of(request)))?;
        let gpu_locks = self.gpu_locks.lock((&gpus, &serves), &self.ledger)?;
        let mut trees = Vec::new();
        let (who, mps) = self.identify(request, policy, (share, &mut trees))?;
        // What lies below a listed directory is the host's own already.
        let mut binds: Vec<Bind> = devices.binds.iter().filter(|b| !shown(&b.target, policy, &[])).cloned().collect();
        let (mut binary, mut model) = (PathBuf::new(), String::new());
        let binary_dirs = joined(&policy.worker.binary_dirs, &self.options.binary_dirs);
        let root = policy.filesystem.root.as_deref().map(|path| RootFs::open(path, &self.options)).transpose()?;
        if !matches!(request.command, Command::Run { .. }) {
            binary = match &root {
                Some(root) => root.find_binary(&policy.worker.binary, &binary_dirs).map_err(nowhere)?,
                None => find(&policy.worker.binary, &binary_dirs, self.options.owner)?,
            };
        }
        if let Command::Worker { model: asked, .. } = &request.command {
            let found = self.model(asked, policy, who.ids)?;
            model.clone_from(&found.inside);
            binds.extend(found.hand_over(&mut trees));
        }
        for directory in binary_dirs.iter().chain(&policy.worker.library_dirs).filter(|d| d.is_dir()) {
            binds.push(read_only(directory));
        }
        if root.is_none() && !binary.as_os_str().is_empty() && !shown(&binary, policy, &binds) {
            binds.push(read_only(&binary));
        }
        let root = root.map(|root| -> Result<_, LaunchError> {
            trees.push(root.tree(MountApi::probe())?);
            Ok(RootDirectory { path: root.path, index: trees.len() - 1 })
        });
        let root = root.transpose()?;
        let mut facts = HostFacts {
            uid: who.ids.uid,
            gid: who.ids.gid,
            inside: who.inside,
            binary,
            root,
            binary_dirs: binary_dirs.into_iter().filter(|d| d.is_dir()).collect(),
            binds,
            model,
            mps,
            ..self.host_facts(policy, devices)
        };
        facts.block_devices.extend(limits::block_devices(request.limits.values()));
        let mut plan = compile(policy, request, &facts).map_err(refused)?;
        let filters = match self.options.watch {
            true => {
                plan.watch = Some(Box::new(WatchPlan { base: policy.clone(), profile: policy.seccomp.rules.clone() }));
                Some(watching(policy)?)
            }
            false => self.filters(policy)?,
        };
        Ok(Resolved { plan, trees, gpus, serves, gpu_locks, uid: who.lease, filters })
    }

    /// What this host is for a policy, whatever is run under it.
    pub(super) fn host_facts(&self, policy: &Policy, devices: DeviceFacts) -> HostFacts {
        let host = paths::look_at(policy.listed_paths());
        HostFacts {
            rootless: !nix::unistd::geteuid().is_root(),
            kept_groups: kept_groups(nix::unistd::getegid().as_raw()),
            symlinks: host.symlinks,
            absent: host.absent,
            device_nodes: devices.nodes,
            device_env: devices.env,
            cpuset: devices.cpuset,
            mems: devices.mems,
            nowhere_near: devices.nowhere_near,
            gpu_pci: devices.gpu_pci,
            gpu_memory_watched: gpu_memory::watched(self.options.purpose),
            host_cpus: devices.host_cpus,
            host_mems: self.host_mems(),
            landlock_abi: rbee_hive_sys::landlock::abi(),
            hive_ports: self.hive_ports.clone(),
            unenforceable: self.tree.unenforceable(),
            loose_writes: self.tree.loose_writes(),
            memory: limits::memory(),
            swap: limits::swap(),
            huge_page_pools: limits::huge_page_pools(),
            block_devices: limits::block_devices(policy.limits.values().map(|l| &l.value).chain(policy.request.max.values())),
            huge_pages: self.tree.huge_pages(),
            dmem_regions: self.tree.dmem_regions(),
            env: passed(&policy.environment.pass),
            ..abilities::look_at()
        }
    }

    pub(super) fn model(&self, asked: &str, policy: &Policy, ids: Ids) -> Result<Model, LaunchError> {
        let directories = joined(&policy.worker.model_dirs, &self.options.model_dirs);
        if directories.is_empty() {
            return opaque(asked);
        }
        let proof = nix::unistd::geteuid().is_root().then_some(&self.proof);
        match model::find_model(asked, &directories, Reader { ids, proof }) {
            // The policy itself names no directory: a word that is no file below --model-dir stays the opaque word that it is.
            Err(e) if policy.worker.model_dirs.is_empty() && e.kind != LaunchErrorKind::ModelNotReadable => opaque(asked),
            found => found,
        }
    }

    fn host_mems(&self) -> String {
        let nodes = self.inventory.nodes.iter().filter(|node| self.inventory.has_memory(node));
        nodes.map(|node| node.id.to_string()).collect::<Vec<_>>().join(",")
    }

    pub(super) fn filters(&self, policy: &Policy) -> Result<Option<Filters>, LaunchError> {
        let capabilities: Vec<String> = policy.credentials.capabilities.iter().map(|c| c.name.clone()).collect();
        let Some(profile) = &policy.seccomp.rules else { return Ok(None) };
        let made = Filters::compile(profile, &capabilities);
        made.map(Some).map_err(|e| LaunchError::new(LaunchErrorKind::InvalidPolicy, error_chain(&e)))
    }

    fn make(&mut self, id: WorkerId, resolved: Resolved, handed: Handed) -> Result<Spawned, LaunchError> {
        let Handed { control, streams } = handed;
        let Resolved { mut plan, trees, gpus, serves, gpu_locks, uid, filters } = resolved;
        let memory = self.ledger.admit_memory(&id, &plan.limits)?;
        let leaves = self.tree.make_leaves(&id, &plan.limits, &plan.devices).map_err(|e| leaf_failed(&e))?;
        plan.not_in_force.extend(leaves.notes.iter().cloned());
        plan.not_in_force.extend(self.confined.note());
        let oom = self.oom_context(&mut plan, &leaves).inspect_err(|_| drop(self.tree.remove_leaves(&id)))?;
        let (cgroup, device_program) = (leaves.path.clone(), leaves.device_program);
        let locks = gpu_locks.iter().map(Locked::as_raw).chain(uid.as_ref().map(UidLease::as_raw)).collect();
        let started = self.start(&plan, leaves, Parts { trees, control, streams, filters, oom, locks });
        match started {
            Ok((init_pid, pidfd)) => {
                let (on_hive_exit, port) = (plan.on_hive_exit, plan.port);
                let lock = uid.map(|u| u.lock);
                let entry = Entry {
                    pidfd,
                    gpus,
                    on_hive_exit,
                    port,
                    memory,
                    plan: Box::new(plan.clone()),
                    cgroup: cgroup.clone(),
                    device_program,
                    serves,
                    locks: gpu_locks,
                    uid: lock,
                    ended: None,
                };
                self.ledger.entries.insert(id.clone(), entry);
                Ok(Spawned { worker_id: id, plan, cgroup, init_pid, policy_digest: 0 })
            }
            Err(e) => {
                self.tree.remove_leaves(&id);
                let _ = self.directories.forget(id.as_str());
                Err(e)
            }
        }
    }

    fn start(&self, plan: &SandboxPlan, leaves: Leaves, parts: Parts) -> Result<(i32, OwnedFd), LaunchError> {
        let setup = |step: &'static str| move |e: CallError| LaunchError::setup(step, e);
        let (state, logs) = self.directories.make(plan.worker_id.as_str()).map_err(setup("make directories"))?;
        write_plan(&state, plan, leaves.path.as_deref()).map_err(setup("write the plan"))?;
        let stdio = match parts.streams {
            Some(streams) => Stdio::Inherited(streams),
            None => Stdio::Logged { directory: logs },
        };
        let namespaces = namespaces(plan);
        let context = InitContext {
            plan: plan.clone(),
            control: Channel::new(parts.control),
            leaves,
            staging: self.directories.staging.clone(),
            trees: parts.trees.into_iter().map(Some).collect(),
            mounts: MountApi::probe(),
            stdio,
            state,
            locks: parts.locks,
            root: None,
            pipes: None,
            deny: self.confined.lists(),
            filters: parts.filters,
            listener: None,
            notify: None,
            oom: parts.oom,
            host_numbers: None,
            mapping: None,
        };
        let clone = || clone_process(&self.proof, namespaces, context.leaves.init_v2_fd());
        match ordinary_child(clone, |cloned| matches!(cloned, Cloned::Child)) {
            Ok(Cloned::Child) => crate::init::main(context, &self.proof),
            Ok(Cloned::Parent { pid, pidfd }) => Ok((pid, pidfd)),
            Err(e) => Err(LaunchError::setup("create namespaces", namespaces_refused(plan, e))),
        }
    }
}

/// The filters of `policy learn`. Whether a worker is watched is this process's own option: no request can ask for it.
fn watching(policy: &Policy) -> Result<Filters, LaunchError> {
    let capabilities: Vec<String> = policy.credentials.capabilities.iter().map(|c| c.name.clone()).collect();
    let made = Filters::watching(policy.seccomp.rules.as_ref(), &capabilities);
    made.map_err(|e| LaunchError::new(LaunchErrorKind::InvalidPolicy, error_chain(&e)))
}

struct Parts {
    trees: Vec<Tree>,
    control: OwnedFd,
    streams: Option<[OwnedFd; 3]>,
    locks: Vec<i32>,
    filters: Option<Filters>,
    oom: OomContext,
}

/// What is told of a worker that runs must fit into a message, or nobody would ever hear of it.
pub(super) fn check_size(plan: &SandboxPlan) -> Result<(), LaunchError> {
    /// For what is not known yet: limits that turn out not to be in force, and the cgroup's path.
    const ROOM: usize = 16 * 1024;
    let bytes = serde_json::to_vec(plan).map_or(usize::MAX, |text| text.len());
    let notes = serde_json::to_vec(&plan.not_in_force).map_or(0, |text| text.len());
    if bytes.saturating_add(notes) > MAX_MESSAGE - ROOM {
        let text = format!("the worker's plan has {bytes} bytes, at most {} can be told", MAX_MESSAGE - ROOM - notes);
        return Err(LaunchError::new(LaunchErrorKind::InvalidParams, text).with_hint("shorten model, args and env"));
    }
    Ok(())
}

/// A model that is no file but a word for the worker to know. One that a program would take for an option is none: that would be an argument,
/// which a policy may not let a request set.
fn opaque(asked: &str) -> Result<Model, LaunchError> {
    if asked.starts_with('-') {
        let text = format!("model {:?} begins like an option", clipped(asked, 64));
        return Err(LaunchError::new(LaunchErrorKind::PolicyViolation, text));
    }
    Ok(Model::opaque(asked))
}

pub(super) fn joined(ours: &[PathBuf], added: &[PathBuf]) -> Vec<PathBuf> {
    ours.iter().chain(added).cloned().collect()
}

pub(super) fn find(name: &str, directories: &[PathBuf], owner: u32) -> Result<PathBuf, LaunchError> {
    binary::find_binary(name, directories, owner).map_err(nowhere)
}

pub(super) fn nowhere(error: binary::BinaryNotFound) -> LaunchError {
    LaunchError::new(LaunchErrorKind::BinaryNotFound, error.to_string())
        .with_hint("install it, or name its directory with --binary-dir")
        .with_tried(error.tried)
}

fn read_only(path: &Path) -> Bind {
    Bind { source: BindSource::Path { path: path.to_owned() }, target: path.to_owned(), writable: false, optional: false }
}

/// What an ordinary user's processes are in beside their own group. Root drops all of them.
fn kept_groups(own: u32) -> Vec<u32> {
    let all = if nix::unistd::geteuid().is_root() { vec![] } else { nix::unistd::getgroups().unwrap_or_default() };
    all.into_iter().map(nix::unistd::Gid::as_raw).filter(|gid| *gid != own).collect()
}

/// Whether `path` is to be seen anyhow: below a listed directory, or one of the binds.
fn shown(path: &Path, policy: &Policy, binds: &[Bind]) -> bool {
    policy.listed_paths().any(|p| path.starts_with(p)) || binds.iter().any(|b| path.starts_with(&b.target))
}

pub(super) fn refused(violation: Violation) -> LaunchError {
    let kind = match &violation {
        Violation::PolicyViolation { .. } => LaunchErrorKind::PolicyViolation,
        Violation::NotEnforceable { .. } => LaunchErrorKind::NotEnforceable,
        Violation::InvalidParams { .. } => LaunchErrorKind::InvalidParams,
    };
    LaunchError::new(kind, violation.to_string())
}

pub(super) fn leaf_failed(e: &crate::cgroup::LeafError) -> LaunchError {
    let mut error =
        LaunchError::new(LaunchErrorKind::SetupFailed, format!("setup step {:?} failed: {}", e.step, super::serve::error_chain(&e.source)));
    error.step = Some(e.step.to_owned());
    error.errno = e.source.errno();
    error
}
