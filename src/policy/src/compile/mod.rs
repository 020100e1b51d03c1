//! Policy, request and host facts to a plan. Pure: the same input gives the same plan.

mod env;
mod gpu;
mod host;
mod landlock;
mod limits;
mod mps;
mod process;
mod template;
mod update;
mod writes;

use std::path::{Path, PathBuf};

pub(crate) use env::{check_home, is_device_variable, is_loader_variable, valid_variable};
pub(crate) use template::{check_template, takes_no_part};
pub use update::update;

use crate::file::{MaySet, Policy};
use crate::{Bind, BindSource, Command, Credentials, HostFacts, MpsPlan, NotInForce, Readiness, SandboxPlan, TmpNodes, WorkerRequest};

/// Format of the plan record.
pub const PLAN_VERSION: u32 = 1;
/// Most bytes of arguments and environment together.
const MAX_WORDS: usize = 96 * 1024;
/// Where a worker that serves a Unix socket puts it.
const SOCKET: &str = "/run/worker/worker.sock";

/// Why a request does not become a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It asks for more than the policy allows.
    #[error("{setting}: {message}")]
    PolicyViolation {
        /// What was asked for.
        setting: String,
        /// Asked and allowed.
        message: String,
    },
    /// The policy requires what the host can't enforce.
    #[error("{setting} can't be enforced here: {why}")]
    NotEnforceable {
        /// The setting.
        setting: String,
        /// Why not.
        why: String,
    },
    /// It is wrong in itself.
    #[error("{field}: {message}")]
    InvalidParams {
        /// The parameter.
        field: String,
        /// What is wrong.
        message: String,
    },
}

impl Violation {
    fn policy(setting: &str, message: impl Into<String>) -> Self {
        Self::PolicyViolation { setting: setting.into(), message: message.into() }
    }

    fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::InvalidParams { field: field.into(), message: message.into() }
    }
}

/// Compiles the plan of one worker.
pub fn compile(policy: &Policy, request: &WorkerRequest, facts: &HostFacts) -> Result<SandboxPlan, Violation> {
    check_may_set(policy, request)?;
    let (mut limits, mut not_in_force) = limits::compile(policy, request, facts)?;
    not_in_force.extend(layers_to_come(policy));
    let landlock = landlock::compile(policy, facts, &mut not_in_force)?;
    if facts.rootless {
        not_in_force.extend(shared_uid(policy));
        not_in_force.extend(kept_groups(&facts.kept_groups));
    }
    let process = process::compile(policy, &limits, facts, &mut not_in_force)?;
    let mps = mps::compile(policy, request, facts, &mut not_in_force)?;
    let gpu_memory = gpu::compile(policy, request, (facts, mps.as_ref()), (&mut limits, &mut not_in_force))?;
    let mut env = env::compile(policy, request, facts)?;
    env.extend(mps::env(policy, request, mps.as_ref(), gpu_memory.as_ref().map(|memory| memory.limit_bytes)));
    let (executable, argv, readiness, port) = command(policy, request, facts)?;
    check_size(&argv, &env)?;
    let socket = match mps {
        Some(MpsPlan::Server) => Some(PathBuf::from(mps::CONTROL)),
        _ => template::uses(policy, "{socket}").then(|| PathBuf::from(SOCKET)),
    };
    let home = env.get("HOME").map_or_else(|| PathBuf::from(env::HOME), PathBuf::from);
    Ok(SandboxPlan {
        version: PLAN_VERSION,
        worker_id: request.worker_id.clone(),
        policy: request.policy.clone(),
        executable,
        argv,
        cwd: home.clone(),
        home,
        env,
        hostname: request.worker_id.to_string(),
        root: facts.root.clone(),
        binds: binds(policy, facts)?,
        symlinks: facts.symlinks.clone(),
        tmp_size: policy.filesystem.tmp_size,
        shm_size: mps::shm_size(policy, facts, mps.as_ref()),
        tmp_nodes: if grants(policy, "CAP_MKNOD") { TmpNodes::Dev } else { TmpNodes::Nodev },
        devices: facts.device_nodes.clone(),
        leased: request.devices.clone(),
        lease: request.lease.clone(),
        gpu_memory,
        mps,
        network: policy.network,
        limits,
        credentials: Credentials {
            uid: facts.uid,
            gid: facts.gid,
            inside: facts.inside,
            capabilities: policy.credentials.capabilities.iter().map(|c| c.name.clone()).collect(),
        },
        seccomp: policy.seccomp.rules.as_ref().map(|rules| rules.name.clone()),
        landlock,
        user_namespace: facts.rootless,
        process,
        umask: policy.process.umask,
        oom_score_adj: policy.process.oom_score_adj,
        stop: policy.worker.stop.clone(),
        on_hive_exit: policy.worker.on_hive_exit,
        readiness,
        start_timeout_ms: policy.readiness.start_timeout_ms,
        stall_timeout_ms: policy.readiness.stall_timeout_ms,
        port,
        socket,
        verify: policy.verify,
        on_oom: policy.worker.on_oom,
        pressure: policy.pressure,
        idle: policy.idle,
        not_in_force,
        watch: None,
    })
}

fn grants(policy: &Policy, capability: &str) -> bool {
    policy.credentials.capabilities.iter().any(|c| c.name == capability)
}

/// What policies name and this version does not enforce is said, never left out.
fn layers_to_come(policy: &Policy) -> Vec<NotInForce> {
    let note = |setting: &str, why: &str| NotInForce { setting: setting.into(), why: why.into() };
    let mut notes = Vec::new();
    if policy.restart.when != crate::RestartWhen::Never {
        notes.push(note("restart", "this version does not restart workers yet"));
    }
    notes
}

/// What an ordinary user's workers go without.
fn shared_uid(policy: &Policy) -> impl Iterator<Item = NotInForce> {
    let note = |setting: &str, why: &str| NotInForce { setting: setting.into(), why: why.into() };
    let shared = "a uid for each worker needs root: they all have the uid of who started them, each in a user namespace";
    let own = (policy.credentials.user == "per-worker").then(|| note("credentials.user", shared));
    let init = match policy.seccomp.rules {
        Some(_) => "worker and init have one uid: what keeps a worker from its init is its seccomp profile alone",
        None => "worker and init have one uid and there is no seccomp profile: a worker can silence its init (prlimit(2))",
    };
    own.into_iter().chain([note("init_isolation", init)])
}

/// setgroups(2) is given up for the maps of a user namespace (user_namespaces(7)): inside they are shown as nobody's, and count all the same.
fn kept_groups(groups: &[u32]) -> Option<NotInForce> {
    let list = groups.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let why = format!("files of the groups {list} stay open to workers: an ordinary user can't drop them; start the hive without them");
    (!groups.is_empty()).then(|| NotInForce { setting: "credentials.groups".into(), why })
}

fn check_may_set(policy: &Policy, request: &WorkerRequest) -> Result<(), Violation> {
    let allowed = |what| policy.request.may_set.contains(&what);
    let refuse = |name: &str| Err(Violation::policy(name, "the policy's [request] may_set does not list it"));
    if let Command::Worker { args, .. } = &request.command
        && !args.is_empty()
        && !allowed(MaySet::Args)
    {
        return refuse("args");
    }
    if !request.env.is_empty() && !allowed(MaySet::Env) {
        return refuse("env");
    }
    if !request.limits.is_empty() && !allowed(MaySet::Limits) {
        return refuse("limits");
    }
    Ok(())
}

type Started = (PathBuf, Vec<String>, Readiness, Option<u16>);

fn command(policy: &Policy, request: &WorkerRequest, facts: &HostFacts) -> Result<Started, Violation> {
    match &request.command {
        Command::Run { argv } => {
            let program = argv.first().filter(|p| !p.is_empty()).ok_or_else(|| Violation::invalid("command", "is empty"))?;
            check_words("command", argv)?;
            Ok((PathBuf::from(program), argv.clone(), Readiness::None, None))
        }
        Command::Worker { args, .. } => {
            check_words("args", args)?;
            check_words("model", std::slice::from_ref(&facts.model))?;
            let port = policy.takes_port().then_some(request.port).flatten();
            if policy.takes_port() && port.is_none() {
                return Err(Violation::invalid("port", "the policy's workers take one"));
            }
            let argv = template::expand(policy, request, &template::Words { facts, args, port, socket: SOCKET });
            Ok((facts.binary.clone(), argv, policy.readiness.probe.clone(), port))
        }
        Command::Mps { .. } => {
            let argv = template::expand(policy, request, &template::Words { facts, args: &[], port: None, socket: mps::CONTROL });
            Ok((facts.binary.clone(), argv, Readiness::Tcp, None))
        }
    }
}

fn check_words(field: &str, words: &[String]) -> Result<(), Violation> {
    match words.iter().find(|w| w.contains('\0')) {
        Some(_) => Err(Violation::invalid(field, "contains a NUL character")),
        None => Ok(()),
    }
}

fn check_size(argv: &[String], env: &std::collections::BTreeMap<String, String>) -> Result<(), Violation> {
    let bytes = argv.iter().map(|a| a.len() + 1).sum::<usize>() + env.iter().map(|(k, v)| k.len() + v.len() + 2).sum::<usize>();
    if bytes > MAX_WORDS {
        return Err(Violation::invalid("args", format!("arguments and environment are {bytes} bytes, at most {MAX_WORDS} are taken")));
    }
    Ok(())
}

fn binds(policy: &Policy, facts: &HostFacts) -> Result<Vec<Bind>, Violation> {
    let mut binds = Vec::new();
    let files = &policy.filesystem;
    let listed = files.read_only.iter().map(|p| (p, false)).chain(files.read_write.iter().map(|p| (p, true)));
    for (listed, writable) in listed {
        if facts.symlinks.contains_key(&listed.path) {
            continue;
        }
        if facts.absent.contains(&listed.path) {
            if listed.optional {
                continue;
            }
            let why = format!("the host has no {}; write {{ path = …, optional = true }} if it may be absent", listed.path.display());
            return Err(Violation::NotEnforceable { setting: "filesystem".into(), why });
        }
        binds.push(bind(&listed.path, writable));
    }
    // What lies deeper comes later: mounted the other way round, a directory would cover what is listed below it, and with its own access.
    binds.sort_by_key(|bind| bind.target.components().count());
    binds.extend(facts.binds.iter().cloned());
    Ok(binds)
}

fn bind(path: &Path, writable: bool) -> Bind {
    Bind { source: BindSource::Path { path: path.to_owned() }, target: path.to_owned(), writable, optional: false }
}
