//! Taking over what was there before this hive.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use rbee_hive_policy::{NetworkMode, WorkerId};
use rbee_hive_sandbox::protocol::ToLauncher;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::{Attached, Deleted, WorkerSpawner};
use crate::adoption::{Birth, Case, Down, Facts, Living, News, Over, Verdicts, born, born_down, held, join};
use crate::events::Teller;
use crate::launcher::{LauncherClient, Released};
use crate::leases::Held;
use crate::records::{Records, WorkerRecord};
use crate::registry::PortLease;
use crate::task::{self, Born, WorkerHandle};
use crate::view::rfc3339;
use crate::{WorkerEntry, WorkerStatus, WorkerView};

/// How long an init may take to say where its worker is, before the hive serves without knowing it.
const ATTACHED_WITHIN: Duration = Duration::from_secs(5);
/// How long a daemon of before may take to end.
const DAEMON_END: Duration = Duration::from_secs(30);

/// What was there before.
pub(super) struct Before {
    pub(super) records: Arc<Records>,
    pub(super) cases: Vec<Case>,
    /// The last ones first.
    pub(super) deleted: VecDeque<Deleted>,
    /// What living workers have.
    pub(super) held: Vec<Held>,
}

impl Before {
    /// Reads it. Blocks: called before anything is served.
    pub(super) fn read(launcher: &LauncherClient, hive: Option<&OwnedFd>, verdicts: Option<&Verdicts>) -> Self {
        let (records, before) = Records::open(hive);
        let ended_at = |id: &WorkerId| verdicts.and_then(|v| v.read(id)).and_then(|written| written.at).map(rfc3339);
        let now = jiff::Timestamp::now();
        let facts = Facts { boot_id: records.boot_id(), cgroup: &launcher.cgroup, now, ended_at: &ended_at };
        let mut found = launcher.take_found();
        for (one, _) in found.iter_mut().filter(|(one, _)| one.plan.is_none()) {
            // It was too long for a message, or is not to be read.
            one.plan = verdicts.and_then(|v| v.plan(&one.worker_id)).map(Box::new);
        }
        let cases = join(found, (before.listed, &before.deleted), &facts);
        let living = |case: &Case| match case {
            Case::Living(living) => Some(held(&living.plan, living.record.as_ref())),
            // Between two lives it is nobody else's either.
            Case::Down(down) => Some(held(&down.plan, Some(&down.record))),
            _ => None,
        };
        let held = cases.iter().filter_map(living).collect();
        let deleted = |record: WorkerRecord| Deleted { known: Arc::new(record.known_to_go_on()), view: record.worker };
        let deleted = before.deleted.into_iter().map(deleted).collect();
        Self { deleted, records, cases, held }
    }
}

impl WorkerSpawner {
    /// Lists every worker that was there before this hive, as it is now. Called once, before anything is served; returns when each that lives
    /// has said where it is, or has not within a few seconds: it is listed as it was seen last then, and its task goes on listening.
    pub async fn adopt(&self) {
        let Some(attached) = &self.attached else { return };
        let cases = std::mem::take(&mut *crate::channel::lock(&attached.before));
        let (mut lives, mut over) = (0_usize, 0_usize);
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for case in cases {
            match case {
                Case::Living(living) => {
                    lives += 1;
                    begun.extend(self.go_on(attached, *living));
                }
                Case::Over(one) => {
                    over += usize::from(one.news != News::Old);
                    ended.extend(self.list_over(attached, *one));
                }
                Case::Down(down) => {
                    lives += 1;
                    ended.extend(self.wait_on(attached, *down));
                }
                Case::Deleted(id) => attached.forget(id).await,
                Case::Daemon(id, released) => attached.end_daemon(id, released),
            }
        }
        self.remember_policies(begun.iter().chain(&ended));
        join_all(ended.iter().map(|handle| attached.records.begin(handle))).await;
        join_all(begun.into_iter().map(|handle| attached.until_it_says(handle))).await;
        if lives + over > 0 {
            tracing::info!(lives, ended_meanwhile = over, "workers of before the restart are taken over");
        }
    }

    /// Keeps what their policies say, while the files say what they said then; of each version once.
    fn remember_policies<'a>(&self, handles: impl Iterator<Item = &'a WorkerHandle>) {
        let mut seen = BTreeSet::new();
        for handle in handles {
            if handle.known.decision.get().is_some_and(|decision| seen.insert(decision.policy_digest)) {
                self.remember(handle, &handle.view().policy);
            }
        }
    }

    /// A task for a worker that lives.
    fn go_on(&self, attached: &Attached, living: Living) -> Option<WorkerHandle> {
        let id = living.found.worker_id.clone();
        let port = living.plan.port.and_then(|port| {
            let adopted = self.registry.ports().adopt(port);
            if adopted.is_none() {
                tracing::error!(worker = %id, port, "two workers of before the restart have one port: this one is not reached by it");
            }
            adopted
        });
        let (born, handle) = born(living, Birth { tools: Arc::clone(&attached.tools), port })?;
        self.begin(attached, (born, &handle), News::Old);
        Some(handle)
    }

    /// A task for a worker whose next start is due; one that can't be started again is over.
    fn wait_on(&self, attached: &Attached, down: Down) -> Option<WorkerHandle> {
        let (id, news, record) = (down.plan.worker_id.clone(), down.news, down.record.clone());
        let over = |why: String| {
            tracing::error!(worker = %id, why, "a worker of before the restart is not started again");
            let mut record = record.clone();
            record.give_up(&why);
            self.list_over(attached, Over { record, news: News::Ended })
        };
        let port = match down.plan.port.map(|port| self.hold_again(port, down.plan.network)).transpose() {
            Ok(port) => port,
            Err(error) => return over(format!("its port can't be had again: {error}")),
        };
        let (born, handle) = match born_down(down, Birth { tools: Arc::clone(&attached.tools), port }) {
            Ok(born) => born,
            Err(error) => return over(format!("make the channel to an init: {error}")),
        };
        self.begin(attached, (born, &handle), news);
        Some(handle)
    }

    /// Between two lives nobody has kept it.
    fn hold_again(&self, port: u16, network: NetworkMode) -> io::Result<PortLease> {
        let mut lease = self.registry.ports().adopt(port).ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
        if network == NetworkMode::Private {
            lease.hold(None)?;
        }
        Ok(lease)
    }

    fn begin(&self, attached: &Attached, (mut born, handle): (Born, &WorkerHandle), news: News) {
        born.again = handle.known.asked.get().and_then(|asked| self.starter(handle, asked.again(&born.plan)));
        attached.tools.events.follow(&handle.id, &handle.known.timeline);
        let teller = Teller::new(Arc::clone(&attached.tools.events), handle.id.clone(), handle.known.job_id.get().cloned());
        tell_found(&teller, (&born.view, news));
        self.enlist(handle);
        self.keep_story_at_its_end(handle);
        tokio::spawn(task::run(born));
    }

    fn enlist(&self, handle: &WorkerHandle) {
        let view = handle.view();
        let since_1970 = view.created_at.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
        let asked_at = since_1970.map_or_else(SystemTime::now, |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        let entry = WorkerEntry {
            id: view.worker_id,
            model_id: view.model,
            device: view.devices.join(","),
            pid: None,
            port: view.port,
            status: WorkerStatus::Starting,
            started_at: asked_at,
        };
        match self.registry.register(entry) {
            Ok(()) => self.registry.attach(handle.id.as_str(), handle.clone()),
            // Each of them was found once, and nothing was served yet.
            Err(error) => tracing::error!(%error, "a worker of before the restart is not listed"),
        }
    }

    /// One that is over, without a task: it stays as it is.
    fn list_over(&self, attached: &Attached, Over { record, news }: Over) -> Option<WorkerHandle> {
        let kept = news == News::Old && self.story_of(&record.worker).is_some();
        // What an earlier hive has kept of it says more.
        let known = Arc::new(if kept { record.known() } else { record.known_to_go_on() });
        let WorkerRecord { worker, job_id, .. } = record;
        let id = WorkerId::parse(&worker.worker_id).ok()?;
        let teller = Teller::new(Arc::clone(&attached.tools.events), id.clone(), job_id);
        let view = watch::Sender::new(worker);
        attached.tools.events.follow(&id, &known.timeline);
        tell_found(&teller, (&view, news));
        let told = view.borrow().verdict.as_ref().map(|v| v.message.clone()).unwrap_or_default();
        if news != News::Old {
            tracing::warn!(worker = %id, verdict = told, "a worker has ended while no hive was there");
        }
        let (commands, _) = task::commands();
        let handle = WorkerHandle { id, commands, view: view.subscribe(), usage: Arc::default(), known };
        self.enlist(&handle);
        if !kept {
            self.keep_story_at_its_end(&handle);
        }
        Some(handle)
    }
}

fn tell_found(teller: &Teller, (view, news): (&watch::Sender<WorkerView>, News)) {
    match news {
        News::Old => {}
        News::Ended => teller.found(view, "ended", |_| {}),
        News::Lost => teller.found(view, "lost", |_| {}),
    }
}

impl Attached {
    async fn until_it_says(&self, handle: WorkerHandle) {
        let before = handle.view.borrow().generation;
        let says = handle.until(|view: &WorkerView| view.generation > before || view.pid.is_some());
        if timeout(ATTACHED_WITHIN, says).await.is_err() {
            tracing::warn!(worker = %handle.id, "its init does not say where it is: it is listed as it was seen last");
        }
        self.records.begin(&handle).await;
    }

    /// Its directories go as well.
    async fn forget(&self, worker_id: WorkerId) {
        let id = worker_id.clone();
        if let Err(error) = self.tools.launcher.ask(|seq| ToLauncher::Forget { seq, worker_id }, &[]).await {
            tracing::warn!(worker = %id, %error, "the records of a worker of before the restart stay on disk");
        }
    }

    /// An MPS daemon serves workers that end with the hive; it is nobody's.
    fn end_daemon(self: &Arc<Self>, id: WorkerId, released: Option<oneshot::Receiver<Released>>) {
        let attached = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(released) = released {
                let _ = attached.tools.launcher.send(&ToLauncher::Kill { worker_id: id.clone() }).await;
                let _ = timeout(DAEMON_END, released).await;
            }
            attached.forget(id).await;
        });
    }
}

#[cfg(test)]
impl WorkerSpawner {
    /// Writes every record as it is now.
    pub(crate) async fn flush_records(&self) {
        let attached = self.attached().unwrap();
        for handle in self.registry.handles() {
            attached.records.flush(&handle).await;
        }
    }
}
