//! The worker's want of memory: told before the kernel kills, counted when it does, and what the policy says of that.
//!
//! ```text
//!  sources ──poll──► pressure: told, at most so often        ──► hive
//!                └─► kills: counted, looked up in the log     ──► hive, and on_oom
//!  kernel log ─poll─► only that something was said: then the kills are counted
//! ```
//! The counters are read once more when everything is dead; so is the log, which by then says all that it will.

use std::time::{Duration, Instant};

use rbee_hive_policy::OnOom;

use super::{MainExit, Supervisor};
use crate::StoppedBy;
use crate::cgroup::{MemoryEvents, MemorySource, Tells, Told, WorkerLeaf};
use crate::init::OomContext;
use crate::oom::{Evidence, Finding, Kept, KernelLog, KillBook, MainEnd, Settled, judge};
use crate::protocol::{FromInit, MAX_VICTIMS, MemoryPressure, OomKills, PressureSource};

/// One telling for each source in such a time.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// One telling of kills in such a time.
const TELL_KILLS_EVERY: Duration = Duration::from_secs(1);
/// A source that has told something is not asked before: a worker at its limit could keep its init busy.
const QUIET: Duration = Duration::from_millis(100);
/// v1 tells that a kill follows, not that it has come: so it is looked for, each time after twice the time.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// Then it has not come: something was reclaimed after all.
const LAST_LOOK: Duration = Duration::from_millis(640);
/// After the kernel has said something it is not listened to for so long: what it says is seldom about a worker, and all inits hear it.
const LOG_QUIET: Duration = Duration::from_millis(250);
/// v1 tells nobody of a kill in a group below the leaf, or for want of the host's memory: without the kernel's log, kills are counted so often.
const BLIND_LOOK: Duration = Duration::from_secs(2);

/// What an init knows of its worker's memory.
pub(super) struct MemoryWatch {
    sources: Vec<MemorySource>,
    log: Option<(KernelLog, KillBook)>,
    before: MemoryEvents,
    told: Vec<(PressureSource, Instant, u64)>,
    kills_told: u64,
    kills_told_at: Option<Instant>,
    victims_told: u64,
    settled: Settled,
    quiet_until: Option<Instant>,
    log_quiet_until: Option<Instant>,
    /// Kills that no source tells of are looked for from time to time.
    blind: bool,
    kept: Kept,
    /// When a kill is looked for, and how long after the look before.
    look: Option<(Instant, Duration)>,
}

impl MemoryWatch {
    /// From what the launcher opened; `main` is the worker's own process as the host numbers it.
    pub(super) fn new(context: OomContext, main: Option<i32>) -> Self {
        let OomContext { log, leaf, sources } = context;
        let has = |tells| sources.iter().any(|source| source.tells == tells);
        let blind = has(Tells::OutOfMemory) && !has(Tells::Logged);
        Self {
            sources,
            log: log.map(|log| (log, KillBook::new(leaf, main))),
            before: MemoryEvents::default(),
            told: vec![],
            kills_told: 0,
            kills_told_at: None,
            victims_told: 0,
            settled: Settled::new(Instant::now()),
            quiet_until: None,
            log_quiet_until: None,
            blind,
            kept: Kept::default(),
            look: blind.then(|| (Instant::now() + BLIND_LOOK, BLIND_LOOK)),
        }
    }

    /// What to poll now.
    pub(super) fn listening(&self) -> impl Iterator<Item = &MemorySource> {
        let now = Instant::now();
        let is_quiet = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let (quiet, log_quiet) = (is_quiet(self.quiet_until), is_quiet(self.log_quiet_until));
        self.sources.iter().filter(move |source| if source.tells == Tells::Logged { !log_quiet } else { !quiet })
    }

    /// When to turn to it, whatever is polled.
    pub(super) fn resumes(&self) -> Option<Instant> {
        let now = Instant::now();
        let quiet = [self.quiet_until, self.log_quiet_until].into_iter().flatten().filter(|until| *until > now);
        quiet.chain(self.look.map(|(at, _)| at)).min()
    }

    /// Whether a kill is to be looked for now.
    pub(super) fn is_due(&self) -> bool {
        self.look.is_some_and(|(at, _)| Instant::now() >= at)
    }

    /// What has news, taken off it.
    fn news(&mut self) -> Vec<Tells> {
        let mut news = Vec::new();
        self.sources.retain(|source| match source.look() {
            Told::Nothing => true,
            Told::News => {
                news.push(source.tells);
                true
            }
            Told::Gone => false,
        });
        news
    }

    /// Whether `source` may be told now, and how many were left out since the last time.
    fn may_tell(&mut self, source: PressureSource, now: Instant) -> Option<u64> {
        match self.told.iter_mut().find(|(told, ..)| *told == source) {
            Some((_, at, unsaid)) if now.saturating_duration_since(*at) < TELL_EVERY => {
                *unsaid += 1;
                None
            }
            Some((_, at, unsaid)) => {
                *at = now;
                Some(std::mem::take(unsaid))
            }
            None => {
                self.told.push((source, now, 0));
                Some(0)
            }
        }
    }

    /// Exchanges what tells of nine tenths of the limit for what tells of the limit that is in force now; whether it is another.
    fn follow(&mut self, leaf: &WorkerLeaf) -> bool {
        self.follow_usage(leaf.usage_threshold(), || leaf.usage_source())
    }

    /// Where what tells of `threshold`, bytes, can't be opened, the old one stays, and with the next limits it is tried again.
    fn follow_usage(&mut self, threshold: Option<u64>, open: impl FnOnce() -> Option<MemorySource>) -> bool {
        let at = self.sources.iter().position(|source| matches!(source.tells, Tells::Usage { .. }));
        let before = at.map(|at| self.sources[at].tells);
        if before == threshold.map(|threshold| Tells::Usage { threshold }) {
            return false;
        }
        match (at, threshold.and_then(|_| open())) {
            (Some(at), Some(new)) => self.sources[at] = new,
            (None, Some(new)) => {
                // It comes before a kill is told.
                let at = self.sources.iter().position(|source| source.tells == Tells::OutOfMemory).unwrap_or(self.sources.len());
                self.sources.insert(at, new);
            }
            (Some(at), None) if threshold.is_none() => drop(self.sources.remove(at)),
            // What is told of another limit is looked at by that in force: rather at a wrong time than never.
            (_, None) => {}
        }
        // What was told was told of another limit.
        self.told.retain(|(source, ..)| *source != PressureSource::Usage);
        true
    }

    fn read_log(&mut self) {
        if let Some((log, book)) = &mut self.log {
            log.read_into(book);
        }
    }

    /// Victims that were not told yet.
    fn new_victims(&mut self) -> Vec<crate::Victim> {
        let Some((_, book)) = &self.log else { return vec![] };
        let new = usize::try_from(book.named() - self.victims_told).unwrap_or(usize::MAX).min(MAX_VICTIMS);
        self.victims_told = book.named();
        let mut victims: Vec<_> = book.victims().rev().take(new).cloned().collect();
        victims.reverse();
        victims
    }
}

impl Supervisor {
    /// Looks at what the sources have to say, and for kills that were announced.
    pub(super) fn look_at_memory(&mut self) {
        let news = self.memory.news();
        let now = Instant::now();
        let due = self.memory.is_due();
        if news.contains(&Tells::Logged) {
            self.memory.log_quiet_until = Some(now + LOG_QUIET);
        }
        let said_alone = news.iter().all(|tells| *tells == Tells::Logged);
        if said_alone && !due && !(news.contains(&Tells::Logged) && self.has_new_kills()) {
            return;
        }
        if !said_alone {
            self.memory.quiet_until = Some(now + QUIET);
        }
        let counters = self.memory_counters();
        for source in self.short_of(&news, &counters) {
            self.tell_pressure(source, &counters);
        }
        self.memory.before = counters;
        let kills = counters.kills.unwrap_or(0);
        if kills > self.memory.kills_told {
            self.notice_kills(kills, now);
        } else if news.contains(&Tells::OutOfMemory) {
            self.memory.look = Some((now + FIRST_LOOK, FIRST_LOOK));
        } else if let Some((_, waited)) = self.memory.look.filter(|_| due) {
            self.memory.look = (waited < LAST_LOOK).then(|| (now + waited * 2, waited * 2));
        }
        if self.memory.blind && self.memory.look.is_none() {
            self.memory.look = Some((now + BLIND_LOOK, BLIND_LOOK));
        }
    }

    /// What the leaf has counted, with what groups that are gone had.
    fn memory_counters(&mut self) -> MemoryEvents {
        let counters = self.leaf().memory_events();
        MemoryEvents { kills: counters.kills.map(|kills| self.memory.kept.in_all(kills)), ..counters }
    }

    fn has_new_kills(&mut self) -> bool {
        self.leaf().oom_kills().is_some_and(|kills| self.memory.kept.in_all(kills) > self.memory.kills_told)
    }

    /// Kills so far, also where the cgroup does not count them any more; `None` where none are counted.
    pub(super) fn kills_in_all(&mut self) -> Option<u64> {
        self.memory_counters().kills
    }

    /// What the news come to.
    fn short_of(&self, news: &[Tells], counters: &MemoryEvents) -> Vec<PressureSource> {
        let mut found = Vec::new();
        for tells in news {
            match tells {
                Tells::Stall => found.push(PressureSource::Psi),
                Tells::Events => {
                    let before = &self.memory.before;
                    found.extend((counters.high > before.high).then_some(PressureSource::High).filter(|_| counters.high > Some(0)));
                    found.extend((counters.limit_hits > before.limit_hits.or(Some(0))).then_some(PressureSource::Max));
                }
                // It is told on the way down, too.
                Tells::Usage { .. } if self.uses_nine_tenths() => found.push(PressureSource::Usage),
                Tells::Usage { .. } | Tells::OutOfMemory | Tells::Logged => {}
            }
        }
        found
    }

    /// Of the limit that is in force now.
    fn uses_nine_tenths(&self) -> bool {
        let threshold = self.leaf().usage_threshold();
        threshold.is_some_and(|threshold| self.leaf().memory_current().is_none_or(|bytes| bytes >= threshold))
    }

    /// The limits are others: so is what is too near to them, and what is so already is told now.
    pub(super) fn follow_limits(&mut self) {
        if self.memory.follow(self.context.leaves.worker_leaf()) && self.uses_nine_tenths() {
            let counters = self.memory_counters();
            self.tell_pressure(PressureSource::Usage, &counters);
        }
    }

    fn tell_pressure(&mut self, source: PressureSource, counters: &MemoryEvents) {
        let Some(unsaid) = self.memory.may_tell(source, Instant::now()) else { return };
        let pressure = MemoryPressure {
            source,
            stalled_usec: self.leaf().memory_stall_usec(),
            breaches: match source {
                PressureSource::High => counters.high,
                PressureSource::Max => counters.limit_hits,
                PressureSource::Psi | PressureSource::Usage => None,
            },
            memory_current: self.leaf().memory_current(),
            memory_max: self.leaf().memory_limit(),
            unsaid,
        };
        self.say(FromInit::Pressure { pressure }, vec![]);
    }

    fn notice_kills(&mut self, kills: u64, now: Instant) {
        if self.main_exit.is_none() {
            self.memory.settled.count(kills, now);
        }
        self.follow_on_oom();
        let wait = self.memory.kills_told_at.map(|at| at + TELL_KILLS_EVERY).filter(|until| *until > now);
        match wait {
            Some(until) => self.memory.look = Some((until, LAST_LOOK)),
            None => {
                self.memory.look = None;
                self.tell_kills(kills);
            }
        }
    }

    fn tell_kills(&mut self, oom_kills: u64) {
        self.memory.read_log();
        let victims = self.memory.new_victims();
        (self.memory.kills_told, self.memory.kills_told_at) = (oom_kills, Some(Instant::now()));
        self.say(FromInit::OomKills { kills: OomKills { oom_kills, victims } }, vec![]);
    }

    /// What the policy says of a worker that has lost a process. One that is on its way to its end has nothing to follow.
    fn follow_on_oom(&mut self) {
        if self.main_exit.is_some() || self.stopping.is_some() {
            return;
        }
        match self.context.plan.on_oom {
            OnOom::Continue => {}
            OnOom::Stop => self.stop(StoppedBy::Oom, Duration::from_millis(self.context.plan.stop.grace_ms)),
            OnOom::Kill => self.stop(StoppedBy::Oom, Duration::ZERO),
        }
    }

    /// Everything is dead: what there is still to tell, and whether the end was for want of memory.
    pub(super) fn memory_at_the_end(&mut self) -> Option<Finding> {
        let counters = self.memory_counters();
        let killed = matches!(self.main_exit, Some(MainExit::Signaled { signal: libc::SIGKILL, .. }));
        let kills = counters.kills.unwrap_or(0);
        if kills > self.memory.kills_told {
            self.tell_kills(kills);
        } else if killed {
            // Where no counter says so, the log may.
            self.memory.read_log();
        }
        let asked = self.stopping.as_ref();
        let ended_for = asked.filter(|stopping| stopping.by == StoppedBy::Oom).map(|_| self.context.plan.on_oom);
        let evidence = Evidence {
            main: if killed && !asked.is_some_and(|stopping| stopping.forced) { MainEnd::Killed } else { MainEnd::Otherwise },
            counters,
            others: self.memory.settled.others(self.main_ended.unwrap_or_else(Instant::now)),
            book: self.memory.log.as_ref().map(|(_, book)| book),
            ended_for,
        };
        judge(&evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(tells: Tells) -> MemorySource {
        MemorySource::of(tells, std::fs::File::open("/dev/null").unwrap().into())
    }

    fn usage(threshold: u64) -> Tells {
        Tells::Usage { threshold }
    }

    #[test]
    fn what_tells_of_a_limit_is_exchanged_only_for_what_tells_of_the_next() {
        let sources = vec![source(Tells::Stall), source(usage(9)), source(Tells::OutOfMemory)];
        let mut watch = MemoryWatch::new(OomContext { log: None, leaf: None, sources }, None);
        let mut follow = |threshold: Option<u64>, opens: bool| {
            let changed = watch.follow_usage(threshold, || threshold.filter(|_| opens).map(|threshold| source(usage(threshold))));
            (changed, watch.sources.iter().map(|s| s.tells).collect::<Vec<_>>())
        };
        let with = |threshold| vec![Tells::Stall, usage(threshold), Tells::OutOfMemory];
        assert_eq!(follow(Some(9), true), (false, with(9)));
        assert_eq!(follow(Some(18), false), (true, with(9)), "the old one stays where there is no new one");
        assert_eq!(follow(Some(18), true), (true, with(18)), "and is tried again");
        assert_eq!(follow(None, true), (true, vec![Tells::Stall, Tells::OutOfMemory]), "no limit, nothing to tell of");
        assert_eq!(follow(Some(27), false), (true, vec![Tells::Stall, Tells::OutOfMemory]));
        assert_eq!(follow(Some(27), true), (true, with(27)));
    }
}
