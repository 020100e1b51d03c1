//! What of a policy this host enforces: a spawn's own findings, up to where a worker would be executed.
//!
//! ```text
//!  policy ──everything a wish──► compile ──► plan ──► leaves made, namespaces born ──► gaps
//!  each setting with the gap that is about it, and whether that would refuse a start ◄──┘
//! ```
//! What is made for it is taken back at once. Must never know how a judgement looks to a person.

mod rows;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rbee_hive_policy::exposure::{Gap, Remains, exposure};
use rbee_hive_policy::{
    Command, Enforce, Gpus, HostFacts, LandlockMode, LimitKey, NotInForce, Policy, SandboxPlan, Violation, WorkerId, WorkerRequest, compile,
};
use rbee_hive_sys::clone::{Cloned, clone_process, exit_now};

use super::namespaces::{namespaces, namespaces_refused};
use super::policies::Loaded;
use super::resolve::devices::{self, DeviceFacts};
use super::resolve::identity;
use super::resolve::rootfs::RootFs;
use super::serve::Launcher;
use super::spawn::{find, joined, leaf_failed, nowhere};
use crate::cgroup::CgroupError;
use crate::protocol::{JudgedAs, Judgement, LaunchError, LaunchErrorKind};

/// What is found out on the way.
#[derive(Default)]
struct Trial {
    /// Not in force, in the words of `not_in_force`.
    notes: Vec<NotInForce>,
    /// What a start is refused for: a setting, or an entry of a list (`devices.nodes[0]`), and why.
    refusals: Vec<(String, String)>,
    /// What is as the policy has it, and yet worth a word.
    remarks: Vec<(String, String)>,
    remains: Option<Remains>,
}

impl Trial {
    fn refuse(&mut self, setting: impl Into<String>, why: impl Into<String>) {
        self.refusals.push((setting.into(), why.into()));
    }

    fn remark(&mut self, setting: impl Into<String>, why: impl Into<String>) {
        self.remarks.push((setting.into(), why.into()));
    }
}

impl Launcher {
    /// Judges the policy `name`.
    ///
    /// Errors: as a spawn under it, for a policy that is unknown or can't be read.
    pub(super) fn judge(&mut self, name: &str) -> Result<Judgement, LaunchError> {
        let Loaded { texts, policy } = self.policies.load(name)?;
        let mut trial = Trial::default();
        if let Err(error) = self.check_trusted(name) {
            trial.refuse("allow_trusted", error.message);
        }
        self.look_for_binary(&policy, &mut trial);
        // A uid that is leased for it is free again at once.
        if let Err(error) = identity::identify(&policy.credentials.user, &mut self.uids, &self.options) {
            trial.refuse("credentials.user", error.message);
        }
        let devices = self.try_devices(&policy, &mut trial)?;
        let uid = nix::unistd::geteuid().as_raw();
        let facts = HostFacts { uid, gid: nix::unistd::getegid().as_raw(), ..self.host_facts(&policy, devices) };
        look_at_paths(&policy, &facts, &mut trial);
        let request = request(name)?;
        if let Some(plan) = compile_wishes(&policy, (&request, &facts), &mut trial) {
            trial.notes.extend(plan.not_in_force.iter().cloned());
            trial.remains = Some(Remains::from(&plan));
            self.try_leaves(&plan, &mut trial)?;
            self.try_namespaces(&plan, &mut trial);
        }
        self.try_filters(&policy, &mut trial);
        let gaps = trial.remains.map(|remains| Gap::of(remains, &trial.notes)).unwrap_or_default();
        let settings = rows::rows(&policy, &gaps, &trial);
        // The same decision as a spawn's: whatever it refuses for is a refusal here.
        let refusal = compile(&policy, &request, &facts).err().map(|violation| violation.to_string());
        let refusal = refusal.or_else(|| settings.iter().find(|row| row.refuses).map(rows::sentence));
        Ok(Judgement {
            name: texts.name,
            source: texts.source,
            judged_as: JudgedAs { uid },
            starts: refusal.is_none(),
            refusal,
            settings,
            exposure: exposure(&policy, &gaps),
        })
    }

    fn look_for_binary(&self, policy: &Policy, trial: &mut Trial) {
        let directories = joined(&policy.worker.binary_dirs, &self.options.binary_dirs);
        let root = match policy.filesystem.root.as_deref().map(|path| RootFs::open(path, &self.options)).transpose() {
            Ok(root) => root,
            Err(error) => return trial.refuse("filesystem.root", error.message),
        };
        let found = match &root {
            Some(root) => root.find_binary(&policy.worker.binary, &directories).map_err(nowhere),
            None => find(&policy.worker.binary, &directories, self.options.owner),
        };
        if let Err(error) = found {
            // Where it was looked for is a long list, and the same for every policy.
            let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            trial.refuse("worker.binary", format!("{:?} is nowhere to be found{hint}", policy.worker.binary));
        }
        let directories = [("worker.model_dirs", &policy.worker.model_dirs), ("worker.library_dirs", &policy.worker.library_dirs)];
        for (key, list) in directories {
            for (index, _) in list.iter().enumerate().filter(|(_, path)| !path.is_dir()) {
                trial.remark(format!("{key}[{index}]"), "this host has no such directory");
            }
        }
    }

    /// The devices of a worker on the CPU; a node that can't be granted is told and left out.
    fn try_devices(&self, policy: &Policy, trial: &mut Trial) -> Result<DeviceFacts, LaunchError> {
        let leased = ["CPU-0".to_owned()];
        let mut granted = policy.clone();
        granted.devices.nodes.clear();
        for (index, node) in policy.devices.nodes.iter().enumerate() {
            granted.devices.nodes.push(node.clone());
            if let Err(error) = DeviceFacts::of(&self.inventory, &leased, &granted) {
                granted.devices.nodes.pop();
                trial.refuse(format!("devices.nodes[{index}]"), error.message);
            }
        }
        if policy.devices.gpus == Gpus::Leased && self.inventory.gpus.is_empty() {
            trial.remark("devices.gpus", "this host has no GPU that is known: workers get the CPU, or ask for a GPU in vain");
        }
        DeviceFacts::of(&self.inventory, &leased, &granted)
    }

    /// Limits and device list, written to a leaf that nobody joins.
    fn try_leaves(&self, plan: &SandboxPlan, trial: &mut Trial) -> Result<(), LaunchError> {
        let id = self.unused_id()?;
        match self.tree.make_leaves(&id, &plan.limits, &plan.devices) {
            Ok(leaves) => {
                trial.notes.extend(leaves.notes.iter().cloned());
                if let Ok(sources) = self.tree.memory_sources(&id, plan, leaves.worker_leaf()) {
                    trial.notes.extend(sources.notes);
                }
                drop(leaves);
                self.tree.remove_leaves(&id);
            }
            Err(error) => match &*error.source {
                CgroupError::Limit { setting, why } => trial.refuse(format!("limits.{setting}"), why),
                _ => trial.refuse("cgroup", leaf_failed(&error).message),
            },
        }
        Ok(())
    }

    fn unused_id(&self) -> Result<WorkerId, LaunchError> {
        let names = (0..=self.ledger.entries.len()).map(|n| format!("judged-{n}"));
        let free = names.filter_map(|name| WorkerId::parse(&name).ok()).find(|id| !self.ledger.entries.contains_key(id));
        free.ok_or_else(|| LaunchError::new(LaunchErrorKind::AtCapacity, "no name is free for a trial"))
    }

    /// A process in the namespaces of a worker, which ends at once.
    fn try_namespaces(&self, plan: &SandboxPlan, trial: &mut Trial) {
        match clone_process(&self.proof, namespaces(plan), None) {
            Ok(Cloned::Child) => exit_now(0),
            Ok(Cloned::Parent { pidfd, .. }) => {
                while let Err(nix::errno::Errno::EINTR) = waitid(Id::PIDFd(std::os::fd::AsFd::as_fd(&pidfd)), WaitPidFlag::WEXITED) {}
            }
            Err(error) => {
                let error = LaunchError::setup("create namespaces", namespaces_refused(plan, error));
                let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                trial.refuse("namespaces", format!("{}{hint}", error.message));
            }
        }
    }

    fn try_filters(&self, policy: &Policy, trial: &mut Trial) {
        if policy.seccomp.rules.is_none() {
            return;
        }
        match devices::seccomp_actions() {
            (false, _) => trial.refuse("seccomp.profile", "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)"),
            (true, false) => trial.remark("seccomp.profile", "a violation kills without its name: this kernel has no notifications (5.0)"),
            (true, true) => {}
        }
        if let Err(error) = self.filters(policy) {
            trial.refuse("seccomp.profile", error.message);
        }
    }
}

/// A listed path that the host lacks is left out where it may be absent, and refuses the start where not.
fn look_at_paths(policy: &Policy, facts: &HostFacts, trial: &mut Trial) {
    let files = &policy.filesystem;
    for (key, list) in [("filesystem.read_only", &files.read_only), ("filesystem.read_write", &files.read_write)] {
        for (index, listed) in list.iter().enumerate().filter(|(_, listed)| facts.absent.contains(&listed.path)) {
            let at = format!("{key}[{index}]");
            match listed.optional {
                true => trial.remark(at, "this host has none: it is left out"),
                false => trial.refuse(at, "this host has none; write { path = …, optional = true } if it may be absent"),
            }
        }
    }
}

/// The plan of the policy with everything that is required made a wish, so that one pass tells of every gap and not of the first alone.
fn compile_wishes(policy: &Policy, (request, facts): (&WorkerRequest, &HostFacts), trial: &mut Trial) -> Option<SandboxPlan> {
    let mut wishes = policy.clone();
    wishes.limits.values_mut().for_each(|limit| limit.enforce = Enforce::IfAvailable);
    wishes.pressure.enforce = Enforce::IfAvailable;
    let files = &mut wishes.filesystem;
    files.read_only.iter_mut().chain(&mut files.read_write).for_each(|listed| listed.optional = true);
    if wishes.landlock.enforce == LandlockMode::Required {
        wishes.landlock.enforce = LandlockMode::IfAvailable;
    }
    for _ in 0..=LimitKey::ALL.len() {
        let (setting, why) = match compile(&wishes, request, facts) {
            Ok(plan) => return Some(plan),
            Err(Violation::NotEnforceable { setting, why }) => (setting, why),
            Err(Violation::PolicyViolation { setting, message }) => (setting, message),
            Err(Violation::InvalidParams { field, message }) => (field, message),
        };
        // A limit that this host can't have at all, such as a CPU that it lacks: told, and the rest is judged without it.
        match LimitKey::from_name(&setting) {
            Ok(key) if wishes.limits.remove(&key).is_some() => trial.refuse(format!("limits.{setting}"), why),
            _ => {
                trial.refuse(setting, why);
                return None;
            }
        }
    }
    None
}

/// As for `run`: binary, model and port are another matter.
fn request(policy: &str) -> Result<WorkerRequest, LaunchError> {
    let id = WorkerId::parse("judged").map_err(|e| LaunchError::new(LaunchErrorKind::InvalidParams, e.to_string()))?;
    Ok(WorkerRequest {
        worker_id: id,
        policy: policy.to_owned(),
        command: Command::Run { argv: vec!["true".to_owned()] },
        devices: vec!["CPU-0".to_owned()],
        lease: None,
        mps: None,
        env: std::collections::BTreeMap::new(),
        limits: std::collections::BTreeMap::new(),
        port: None,
    })
}
