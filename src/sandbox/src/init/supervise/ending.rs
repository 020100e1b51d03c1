//! From the end of the worker's own process to the init's: what is left is killed, the counters are read, the verdict is written and told.

use std::time::{Duration, Instant};

use super::{MainExit, Pumped, Reaped, Supervisor, violation};
use crate::init::record;
use crate::oom::Finding;
use crate::protocol::{FromInit, Resources};
use crate::{OomBound, Verdict};

/// After this, processes that were killed and are still there are told as unkillable; the init goes on waiting for them.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(10);
/// How long the hive has to take the verdict. It is on disk by then.
const ACK_WITHIN: Duration = Duration::from_secs(2);
/// Most parts of what a watched worker did: they wait to be sent with what else there is to say.
const PARTS: usize = super::outbox::MAX_WAITING / 2;
/// About how long a part of what a watched worker did is as a message: well below what a channel takes.
const PART: usize = crate::protocol::MAX_MESSAGE / 2;
/// Pause between two looks at a cgroup that should be empty.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(super) fn run(mut supervisor: Supervisor) -> i32 {
    supervisor.kill_all();
    supervisor.wait_until_empty();
    supervisor.drain();
    // All are reaped by now.
    let mut resources = supervisor.leaf().resources().or_io(super::io::ended());
    let out_of_memory = supervisor.memory_at_the_end();
    resources.oom_kills = supervisor.kills_in_all().or(resources.oom_kills);
    resources.memory_events.oom_kill = resources.oom_kills;
    let verdict = supervisor.verdict(&resources, out_of_memory);
    let parts = supervisor.watcher.take().map_or_else(Vec::new, |watcher| watcher.into_parts(PARTS, PART));
    for part in parts {
        supervisor.say(FromInit::Observed { part: Box::new(part) }, vec![]);
    }
    let written = record::write_verdict(&supervisor.context, &verdict, &resources);
    supervisor.say(FromInit::Ended { verdict, resources: Box::new(resources) }, vec![]);
    let until = Instant::now() + ACK_WITHIN;
    while !supervisor.acknowledged && !supervisor.hive_gone && Instant::now() < until {
        supervisor.turn(Some(until));
    }
    i32::from(written.is_err())
}

impl Supervisor {
    fn wait_until_empty(&mut self) {
        let unkillable_at = Instant::now() + UNKILLABLE_AFTER;
        let mut told = false;
        loop {
            let none_left = self.reap() == Reaped::NoneLeft;
            if none_left && !self.leaf().populated().unwrap_or(false) {
                return;
            }
            self.kill_all();
            if !told && Instant::now() >= unkillable_at {
                told = true;
                let verdict = Verdict::Unkillable { pids: self.leaf().pids() };
                let resources = self.leaf().resources();
                self.say(FromInit::Ended { verdict, resources: Box::new(resources) }, vec![]);
            }
            self.turn(Some(Instant::now() + LOOK_AGAIN));
        }
    }

    /// The last lines. Every writer is dead, so what is in the pipes is all that will ever be.
    fn drain(&mut self) {
        let Self { streams, log, .. } = self;
        for stream in streams {
            while stream.pump(log.as_mut()) == Pumped::Some {}
        }
    }

    fn out_of_memory(&self, resources: &Resources, found: Finding) -> Verdict {
        let Finding { scope, bound, victim } = found;
        // Another's limit was reached, or the host's memory was used up, or nobody knows.
        let own = bound == Some(OomBound::Worker);
        Verdict::OomKilled {
            peak: resources.memory_peak,
            limit: self.leaf().memory_limit().filter(|_| own),
            victim_pid: victim.as_ref().map(|v| v.pid),
            victim_memory: victim.as_ref().map(|v| v.memory),
            victim: victim.map(|v| v.name),
            scope: Some(scope),
            bound,
        }
    }

    fn verdict(&self, resources: &Resources, out_of_memory: Option<Finding>) -> Verdict {
        if let Some(notified) = &self.violation {
            return violation::verdict(notified);
        }
        let forced = self.stopping.as_ref().is_some_and(|s| s.forced);
        if let Some(found) = out_of_memory {
            return self.out_of_memory(resources, found);
        }
        let (code, signal) = match self.main_exit {
            Some(MainExit::Exited { code }) => (Some(code), None),
            Some(MainExit::Signaled { signal, .. }) => (None, Some(signal)),
            None => (None, None),
        };
        match (&self.stopping, self.main_exit) {
            (Some(stopping), _) => Verdict::Stopped { by: stopping.by, forced, code, signal },
            (None, Some(MainExit::Exited { code })) => Verdict::Exited { code },
            // Where violations are notified, a SIGSYS is one that somebody sent.
            (None, Some(MainExit::Signaled { signal: libc::SIGSYS, .. })) if self.killing_filter => {
                Verdict::SeccompKilled { syscall: None, number: None, args: None }
            }
            (None, Some(MainExit::Signaled { signal, core_dumped })) => Verdict::Signaled { signal, core_dumped },
            (None, None) => Verdict::Lost { why: "the init ended its watch before the worker did".into() },
        }
    }
}
