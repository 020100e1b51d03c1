//! A launcher that is a thread.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use rbee_hive_policy::{
    Command, Enforce, HostFacts, LimitKey, LimitValue, MpsFacts, MpsWish, PlannedLimit, Policy, SandboxPlan, WorkerRequest, compile,
};
use rbee_hive_sandbox::launcher::HiveChannel;
use rbee_hive_sandbox::protocol::{BelowUse, Channel, FromLauncher, LaunchError, LaunchErrorKind, PolicyTexts, ProgramSeen, ToLauncher};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::fake_init::FakeInit;

type Ours = Channel<FromLauncher, ToLauncher>;

/// What tests look at, and turn.
#[derive(Default)]
pub(crate) struct Seen {
    /// Spawns that came.
    pub(super) spawns: AtomicUsize,
    /// Questions whether files are there.
    pub(super) finds: AtomicUsize,
    /// Orders to forget a worker.
    pub(super) forgotten: AtomicUsize,
    /// Orders to kill a worker with its init.
    pub(super) killed: AtomicUsize,
    /// The order to end.
    pub(super) shutdowns: AtomicUsize,
    /// Requests for sockets that came to any init.
    pub(super) batches: Arc<AtomicUsize>,
    /// Inits that live.
    pub(super) inits: AtomicUsize,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Seen {
    /// Keeps spawns, and questions whether files are there, waiting for their answer until the gate is opened.
    pub(crate) fn close_gate(&self) {
        *self.closed.lock().unwrap() = true;
    }

    pub(crate) fn open_gate(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass_gate(&self) {
        drop(self.opened.wait_while(self.closed.lock().unwrap(), |closed| *closed).unwrap());
    }
}

pub(super) fn start(directory: PathBuf) -> (HiveChannel, Arc<Seen>) {
    let (hive, theirs) = HiveChannel::pair().unwrap();
    let seen = Arc::new(Seen::default());
    let launcher = Launcher { channel: Arc::new(Ours::new(theirs)), seen: Arc::clone(&seen), directory };
    std::thread::spawn(move || launcher.serve());
    (hive, seen)
}

struct Launcher {
    channel: Arc<Ours>,
    seen: Arc<Seen>,
    directory: PathBuf,
}

impl Launcher {
    fn serve(self) {
        while let Ok((request, fds)) = self.channel.recv() {
            let answer = match request {
                ToLauncher::PolicyList { seq } => FromLauncher::Policies { seq, policies: vec![] },
                // The way in which tests make it die.
                ToLauncher::PolicyShow { name, .. } if name == "launcher-dies" => return self.die(),
                ToLauncher::PolicyShow { seq, name } => match text(&name) {
                    Some(text) => {
                        let resolved = serde_json::to_value(parse(&name, text)).unwrap();
                        FromLauncher::Policy { seq, source: "embedded".into(), text: text.into(), resolved }
                    }
                    None => FromLauncher::Refused { seq, error: refusal(LaunchErrorKind::UnknownPolicy) },
                },
                ToLauncher::PolicyTexts { seq, name } => match texts(&name) {
                    Some(texts) => FromLauncher::Texts { seq, texts },
                    None => FromLauncher::Refused { seq, error: refusal(LaunchErrorKind::UnknownPolicy) },
                },
                ToLauncher::PolicyJudge { seq, .. } => FromLauncher::Refused { seq, error: refusal(LaunchErrorKind::UnknownPolicy) },
                ToLauncher::Find { seq, model, .. } if model == "refused" => {
                    FromLauncher::Refused { seq, error: refusal(LaunchErrorKind::ModelNotFound) }
                }
                ToLauncher::Find { seq, .. } => {
                    self.seen.finds.fetch_add(1, Ordering::SeqCst);
                    self.seen.pass_gate();
                    FromLauncher::Done { seq }
                }
                ToLauncher::Forget { seq, .. } => {
                    self.seen.forgotten.fetch_add(1, Ordering::SeqCst);
                    FromLauncher::Done { seq }
                }
                ToLauncher::Kill { .. } => {
                    self.seen.killed.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                ToLauncher::Update { seq, limits, below_use, .. } => match (limits.get(&LimitKey::PidsMax), below_use) {
                    // One task is used, as far as this launcher knows.
                    (Some(LimitValue::Count(1)), BelowUse::Refuse) => {
                        FromLauncher::Refused { seq, error: refusal(LaunchErrorKind::NotAllowedNow) }
                    }
                    _ => {
                        let required = |value| PlannedLimit { value, enforce: Enforce::Required };
                        let limits = limits.into_iter().map(|(key, value)| (key, required(value))).collect();
                        FromLauncher::Updated { seq, limits, not_in_force: vec![] }
                    }
                },
                ToLauncher::Ports { .. } => continue,
                ToLauncher::Inspect { seq, .. } => FromLauncher::Inspected { seq, program: ProgramSeen::default() },
                ToLauncher::Shutdown => {
                    self.seen.shutdowns.fetch_add(1, Ordering::SeqCst);
                    return self.die();
                }
                ToLauncher::Spawn { seq, request } => {
                    self.seen.spawns.fetch_add(1, Ordering::SeqCst);
                    self.seen.pass_gate();
                    match self.spawn(seq, *request, fds) {
                        Some(answer) => answer,
                        None => continue,
                    }
                }
            };
            self.channel.send(&answer, &[]).unwrap();
        }
    }

    /// Inits hold the channel, too, to say when they are released.
    fn die(&self) {
        rustix::net::shutdown(self.channel.as_fd(), rustix::net::Shutdown::Both).unwrap();
    }

    fn spawn(&self, seq: u64, request: WorkerRequest, mut fds: Vec<OwnedFd>) -> Option<FromLauncher> {
        let act = match &request.command {
            Command::Worker { model, .. } => model.as_str(),
            // An MPS daemon does what its clients' policy ends with.
            Command::Mps { clients } => clients.strip_prefix("shared-")?,
            Command::Run { .. } => return None,
        };
        match act {
            "refused" => return Some(FromLauncher::Refused { seq, error: refusal(LaunchErrorKind::ModelNotFound) }),
            // No answer to this question: whether there is an init can't be known from it.
            "unclear" => return Some(FromLauncher::Done { seq }),
            "launcher-setup-fails" => return Some(FromLauncher::Refused { seq, error: refusal(LaunchErrorKind::SetupFailed) }),
            _ => {}
        }
        let init = FakeInit {
            plan: plan(&request),
            control: Channel::new(fds.pop().unwrap()),
            act: act.to_owned(),
            directory: self.directory.clone(),
            batches: Arc::clone(&self.seen.batches),
        };
        let answer = FromLauncher::Spawned {
            seq,
            plan: Box::new(init.plan.clone()),
            cgroup: leaf(&self.directory, &request),
            init_pid: getpid().as_raw_nonzero().get(),
            not_in_force: init.plan.not_in_force.clone(),
            policy_digest: texts(&request.policy).filter(|_| request.policy != "moves").map_or(0, |texts| texts.digest()),
        };
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        self.channel.send(&answer, &[pidfd.as_fd()]).unwrap();
        self.seen.inits.fetch_add(1, Ordering::SeqCst);
        let (channel, seen) = (Arc::clone(&self.channel), Arc::clone(&self.seen));
        std::thread::spawn(move || {
            let killed = init.act.starts_with("vanish");
            init.run();
            seen.inits.fetch_sub(1, Ordering::SeqCst);
            let (code, signal) = if killed { (None, Some(9)) } else { (Some(0), None) };
            let _ = channel.send(&FromLauncher::Released { worker_id: request.worker_id, code, signal, left: vec![] }, &[]);
        });
        None
    }
}

fn refusal(kind: LaunchErrorKind) -> LaunchError {
    LaunchError { kind, message: "no".into(), step: Some("make leaves".into()), errno: Some(13), hint: None, tried: vec!["/here".into()] }
}

/// The policies that tests spawn under.
fn text(name: &str) -> Option<&'static str> {
    Some(match name {
        // The port is the worker's own on the host.
        "host" | "stranger" => "[worker]\nbinary = \"w\"\n[network]\nmode = \"host\"\n",
        "impatient" => "[worker]\nbinary = \"w\"\n[network]\nmode = \"host\"\n[readiness]\nhttp = \"/health\"\nstart_timeout = \"300ms\"\n",
        // The hive holds the port, the worker serves a socket.
        "unix" | "mps" => "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n",
        // The hive holds the port, the worker serves the same one in its own namespace.
        "default" | "private" => "[worker]\nbinary = \"w\"\n[devices]\ngpus = \"leased\"\n[request]\nmay_set = [\"args\"]\n",
        "held" => "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{port}\"]\n[readiness]\nnone = true\n",
        "bare" => {
            "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\n[network]\nmode = \"none\"\n[readiness]\nnone = true\n[request]\nmay_set = [\"args\"]\n"
        }
        // The file of "moves" is another one when its texts are asked for.
        "limited" | "moves" => {
            "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\n[network]\nmode = \"none\"\n[readiness]\nnone = true\n[limits]\nmemory_max = \"1GiB\"\n\
             cpus = 1.0\n[request]\nmay_set = [\"limits\"]\n"
        }
        "gpu" => {
            "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\n[network]\nmode = \"none\"\n[readiness]\nnone = true\n[devices]\ngpus = \"leased\"\n"
        }
        name if name.starts_with("shared-") => {
            "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\non_hive_exit = \"kill\"\n[network]\nmode = \"none\"\n[readiness]\nnone = true\n\
             [devices]\ngpus = \"leased\"\nshare = { ways = 4 }\nmps = \"if_available\"\n"
        }
        "large" => "[worker]\nbinary = \"w\"\n[devices]\ngpus = \"leased\"\nvram_min = \"12GiB\"\n[request]\nmay_set = [\"args\"]\n",
        "gpu-limited" => {
            "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\n[network]\nmode = \"none\"\n[readiness]\nnone = true\n[devices]\ngpus = \"leased\"\n\
             gpu_memory_max = { value = \"1GiB\", enforce = \"if_available\" }\n"
        }
        "naps" => "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[idle]\nafter = \"1s\"\naction = \"freeze\"\n",
        "shrinks" => "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[idle]\nafter = \"1s\"\naction = \"reclaim\"\n",
        "leaves" => "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[idle]\nafter = \"1s\"\naction = \"stop\"\n",
        // One at a time, on a GPU where there is one.
        "one" => {
            "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[devices]\ngpus = \"leased\"\n[idle]\nafter = \"1s\"\nmax_warm = 1\n"
        }
        "two" => "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[idle]\nafter = \"1s\"\nmax_warm = 2\n",
        "notify" => "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\n[network]\nmode = \"none\"\n[readiness]\nnotify = true\n",
        _ => return None,
    })
}

/// A cgroup that counts, for workers whose policy is about idleness: none of them works.
fn leaf(directory: &std::path::Path, request: &WorkerRequest) -> Option<String> {
    let policy = parse(&request.policy, text(&request.policy)?);
    policy.idle.after_ms?;
    let leaf = format!("/w-{}", request.worker_id);
    let here = directory.join(leaf.trim_start_matches('/'));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::write(here.join("cpu.stat"), "usage_usec 5\n").unwrap();
    Some(leaf)
}

fn texts(name: &str) -> Option<PolicyTexts> {
    let profile = rbee_hive_policy::embedded::fragment("seccomp/inference").unwrap();
    let fragments = [("seccomp/inference".to_owned(), profile.to_owned())].into();
    text(name).map(|text| PolicyTexts { name: name.into(), source: "embedded".into(), text: text.into(), fragments })
}

fn parse(name: &str, text: &str) -> Policy {
    Policy::parse(name, name, text, &|name| rbee_hive_policy::embedded::fragment(name).map(str::to_owned)).unwrap()
}

fn plan(request: &WorkerRequest) -> SandboxPlan {
    let policy = parse(&request.policy, text(&request.policy).unwrap());
    // The listener of a worker under "stranger" is not of the uid that it should have.
    let uid = nix::unistd::geteuid().as_raw() + u32::from(request.policy == "stranger");
    let mps = match &request.mps {
        Some(MpsWish::Server(server)) => MpsFacts::There { server: server.clone(), shm: 0, shm_size: 1 << 20 },
        Some(MpsWish::None { why }) => MpsFacts::Missing { why: why.clone() },
        None => MpsFacts::default(),
    };
    let facts = HostFacts { uid, gid: uid, binary: "/bin/w".into(), model: "m".into(), host_cpus: "0".into(), mps, ..HostFacts::default() };
    compile(&policy, request, &facts).unwrap()
}
