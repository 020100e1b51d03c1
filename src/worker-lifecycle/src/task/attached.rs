//! A worker that was there before this hive: where it is, as its init says and the hive before had seen, and what goes on from there.

use std::os::fd::OwnedFd;
use std::time::Duration;

use procfs::Current as _;
use rbee_hive_policy::NetworkMode;
use rbee_hive_sandbox::protocol::Attached;
use tokio::time::Instant;

use super::run::host_pid;
use super::{INIT_SILENT, ThisLife, Worker};
use crate::state::{Before, Event, Now, Process, Standing, standing};
use crate::view::{now, rfc3339};

/// A worker that has not answered yet has so long at least: nobody has asked it while there was no hive.
const AT_LEAST: Duration = Duration::from_secs(5);

impl Worker {
    /// It has outlived the hive before, which has seen this of it.
    pub(super) fn comes_from(&mut self, before: Before) {
        self.before = Some(before);
        self.take_life_as_seen();
    }

    /// What is known of its life is what its view says.
    fn take_life_as_seen(&mut self) {
        let view = self.view.borrow();
        let age = view.ready_at.as_deref().and_then(age_of);
        self.life = ThisLife {
            executed_at: view.started_at.clone(),
            ready_at: view.ready_at.clone(),
            ready_since: age.map(|age| Instant::now().checked_sub(age).unwrap_or_else(Instant::now)),
        };
    }

    /// Its init has said where it is. Said again, it changes nothing.
    pub(super) fn attached(&mut self, attached: Attached, fds: Vec<OwnedFd>) {
        let Some(before) = self.before.take() else { return };
        let mut fds = fds.into_iter();
        let pid = fds.next().as_ref().and_then(host_pid);
        self.take_port(fds.next());
        if let Some(ticks) = attached.start_ticks {
            self.known.start_ticks.set(ticks);
        }
        let running_for = attached.start_ticks.and_then(running_for);
        if attached.ready_notified {
            // Asked again after a thaw it need not say it again.
            self.notified.send_modify(|notified| notified.ready = true);
        }
        let now_there = Now { stopping: attached.stopping, frozen: attached.frozen, notified: attached.ready_notified };
        let found = standing(now_there, before, &self.plan);
        self.show_adopted(found, (Process { pid }, running_for));
        self.story.tell("spawn_adopted", "{} was there before this hive: it runs as {}", &[&self.id, &shown(pid)]);
        tracing::info!(worker = %self.id, pid, standing = ?found, "a worker of before the restart goes on");
        match found {
            Standing::Starting => self.started_before = running_for.unwrap_or_default(),
            // Whoever asked for its end may be gone: it is not to hang for that.
            Standing::Stopping(_) => {
                let grace = Duration::from_millis(self.plan.stop.grace_ms);
                self.silent_at = Some(Instant::now() + grace.saturating_add(INIT_SILENT));
            }
            _ => self.usage.touch(),
        }
        self.forward();
        if let Some(kills) = attached.oom_kills_since {
            self.killed_for_want_of_memory(&kills);
        }
        if attached.unsaid > 0 {
            tracing::warn!(worker = %self.id, unsaid = attached.unsaid, "of what happened to it while there was no hive not all is known");
        }
    }

    fn show_adopted(&mut self, standing: Standing, (process, running_for): (Process, Option<Duration>)) {
        let show = self.moved(Event::Adopted { process, standing });
        self.teller.found(&self.view, "living", |view| {
            show(view);
            if view.started_at.is_none() {
                view.started_at = running_for.and_then(|time| Some(rfc3339(jiff::Timestamp::now().checked_sub(time).ok()?)));
            }
            // It was ready before this hive came to know it: when, nobody has seen.
            if matches!(standing, Standing::Ready | Standing::Frozen(_) | Standing::Thawing) && view.ready_at.is_none() {
                view.ready_at = Some(now());
            }
        });
        self.take_life_as_seen();
    }

    fn take_port(&mut self, listener: Option<OwnedFd>) {
        let Some(port) = self.port.as_mut().filter(|_| self.plan.network == NetworkMode::Private) else { return };
        if let Err(error) = port.hold(listener.map(Into::into)) {
            tracing::error!(worker = %self.id, port = port.port(), %error, "its port can't be held again: nobody reaches it by that");
        }
    }

    /// What is left of the time that a start may take.
    pub(super) fn rest_of_start(&self, total: Duration) -> Duration {
        match self.started_before {
            Duration::ZERO => total,
            before => total.saturating_sub(before).max(AT_LEAST.min(total)),
        }
    }
}

/// For how long a process has run that was started at `ticks` after boot; `None` where that can't be told.
fn running_for(ticks: u64) -> Option<Duration> {
    let uptime = procfs::Uptime::current().ok()?.uptime_duration();
    let since = Duration::from_millis(ticks.saturating_mul(1000) / procfs::ticks_per_second().max(1));
    uptime.checked_sub(since)
}

/// How long ago that was, RFC 3339; `None` where it is no time.
fn age_of(at: &str) -> Option<Duration> {
    let age = jiff::Timestamp::now().duration_since(at.parse().ok()?);
    Some(Duration::try_from(age).unwrap_or_default())
}

fn shown(pid: Option<i32>) -> String {
    pid.map_or_else(|| "one that has ended already".to_owned(), |pid| format!("pid {pid}"))
}
