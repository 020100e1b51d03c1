//! What a memory cgroup has counted of its want of memory: which limit was reached, and how many were killed.
//!
//! v2 counts in `memory.events` what happened in a group and below it, in `memory.events.local` what happened in the group itself. v1 has no
//! such thing: `oom_kill` of `memory.oom_control` counts the group's own processes whoever's limit it was (those of groups below it are added
//! up here), `memory.failcnt` how often the group's own limit was reached, which for memory and swap together (with no swap: the same limit) Linux 6.16 no longer counts. There
//! the highest use tells.

use super::counters::{self, Home};
use super::leaf::WorkerLeaf;
use super::nested::Below;
use crate::oom::OomBound;

/// A leaf's counts. What is not counted here is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryEvents {
    /// Processes of the leaf and of groups below it that were killed for want of memory.
    pub(crate) kills: Option<u64>,
    /// Of groups below it, where these are counted by themselves (v1) and there are any.
    pub(crate) below: Option<Below>,
    /// Kills of a whole group.
    pub(crate) group_kills: Option<u64>,
    /// Times that nothing could be reclaimed at the leaf's own limit.
    pub(crate) own_ooms: Option<u64>,
    /// The same, with the groups below it.
    pub(crate) all_ooms: Option<u64>,
    /// Times that the leaf's own limit was reached (v2).
    pub(crate) limit_hits: Option<u64>,
    /// Whether the leaf's own limit was ever reached (v1).
    pub(crate) at_limit: Option<bool>,
    /// Times that it was above `memory.high`.
    pub(crate) high: Option<u64>,
    /// Whether the kernel kills all of the leaf at once.
    pub(crate) group: Option<u64>,
}

impl MemoryEvents {
    /// Whether all of the leaf was killed at once. Before 5.17 the kernel did not count it: then the setting tells.
    pub(crate) fn killed_as_a_group(&self) -> bool {
        match self.group_kills {
            Some(times) => times > 0,
            None => self.group == Some(1) && self.kills.is_some_and(|kills| kills > 0),
        }
    }

    /// With the kills that the leaf's own count does not have.
    fn with_below(self, below: impl FnOnce() -> Option<Below>) -> Self {
        let Some(own) = self.kills else { return self };
        let below = below();
        Self { kills: Some(own.saturating_add(below.map_or(0, |below| below.kills))), below, ..self }
    }

    /// Who ran out, as far as counts tell; `None` where nothing was killed, or nothing tells.
    pub(crate) fn bound(&self) -> Option<OomBound> {
        self.kills.filter(|kills| *kills > 0)?;
        match (self.own_ooms, self.all_ooms, self.at_limit) {
            (Some(1..), ..) | (None, _, Some(true)) => Some(OomBound::Worker),
            (Some(0), Some(1..), _) => Some(OomBound::Nested),
            (None, _, Some(false)) if self.below.is_some_and(|below| below.kills > 0) => {
                // The host's memory may as well have been used up.
                self.below.filter(|below| below.at_limit && Some(below.kills) == self.kills).map(|_| OomBound::Nested)
            }
            (Some(0), ..) | (None, _, Some(false)) => Some(OomBound::Host),
            (None, _, None) => None,
        }
    }
}

impl WorkerLeaf {
    /// What the leaf has counted so far.
    pub(crate) fn memory_events(&self) -> MemoryEvents {
        collect(&|home, file| self.read(home, file)).with_below(|| self.look_below())
    }

    /// Kills alone, at less cost.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        kills(&|home, file| self.read(home, file)).with_below(|| self.look_below()).kills
    }

    /// Bytes that the leaf has in use.
    pub(crate) fn memory_current(&self) -> Option<u64> {
        let text = self.read(Home::V1("memory"), "memory.usage_in_bytes").or_else(|| self.read(Home::V2, "memory.current"))?;
        counters::count(&text)
    }

    /// Microseconds that some task of the leaf has waited for memory, in all.
    pub(crate) fn memory_stall_usec(&self) -> Option<u64> {
        let text = self.read(Home::V2, "memory.pressure")?;
        let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
        some.split(' ').find_map(|word| counters::count(word.strip_prefix("total=")?))
    }
}

/// The leaf's own kills, and nothing else.
fn kills(read: &dyn Fn(Home, &str) -> Option<String>) -> MemoryEvents {
    let text = read(Home::V1("memory"), "memory.oom_control").or_else(|| read(Home::V2, "memory.events"));
    MemoryEvents { kills: text.and_then(|text| counters::keyed(&text, "oom_kill")), ..MemoryEvents::default() }
}

fn collect(read: &dyn Fn(Home, &str) -> Option<String>) -> MemoryEvents {
    if let Some(control) = read(Home::V1("memory"), "memory.oom_control") {
        let at_limit = v1_at_limit(&|file| read(Home::V1("memory"), file).and_then(|text| counters::count(&text)));
        return MemoryEvents { kills: counters::keyed(&control, "oom_kill"), at_limit, ..MemoryEvents::default() };
    }
    let all = read(Home::V2, "memory.events").unwrap_or_default();
    let own = read(Home::V2, "memory.events.local").unwrap_or_default();
    MemoryEvents {
        kills: counters::keyed(&all, "oom_kill"),
        below: None,
        group_kills: counters::keyed(&all, "oom_group_kill"),
        own_ooms: counters::keyed(&own, "oom"),
        all_ooms: counters::keyed(&all, "oom"),
        limit_hits: counters::keyed(&own, "max"),
        at_limit: None,
        high: counters::keyed(&own, "high"),
        group: read(Home::V2, "memory.oom.group").and_then(|text| counters::count(&text)),
    }
}

/// Whether memory, or memory and swap together, have come to their limit; `None` where that can't be told.
pub(super) fn v1_at_limit(number: &dyn Fn(&str) -> Option<u64>) -> Option<bool> {
    /// What one allocation may ask for at once: the highest use stays below the limit by less.
    const STEP: u64 = 2 << 20;
    let reached = |kind: &str| {
        let [failed, most, limit] = ["failcnt", "max_usage_in_bytes", "limit_in_bytes"].map(|file| number(&format!("memory.{kind}{file}")));
        let near = most.zip(limit).map(|(most, limit)| most >= limit.saturating_sub(STEP));
        if failed.is_some_and(|times| times > 0) { Some(true) } else { near }
    };
    match (reached(""), reached("memsw.")) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (memory, _) => memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(all: &str, own: &str) -> MemoryEvents {
        collect(&|home, file| match (home, file) {
            (Home::V2, "memory.events") => Some(all.to_owned()),
            (Home::V2, "memory.events.local") => Some(own.to_owned()),
            (Home::V2, "memory.oom.group") => Some("0\n".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn v2_tells_whose_limit_it_was() {
        let none = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n";
        let one = "low 0\nhigh 2\nmax 9\noom 3\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(v2(one, one).bound(), Some(OomBound::Worker));
        assert_eq!(v2(one, none).bound(), Some(OomBound::Nested));
        let killed = "max 0\noom 0\noom_kill 1\n";
        assert_eq!(v2(killed, killed).bound(), Some(OomBound::Host));
        assert_eq!((v2(none, none).bound(), v2("", "").bound()), (None, None));
        assert_eq!((v2(one, one).high, v2(one, one).limit_hits), (Some(2), Some(9)));
        let old = MemoryEvents { kills: Some(3), group: Some(1), ..MemoryEvents::default() };
        assert!(old.killed_as_a_group() && !v2(one, one).killed_as_a_group());
        assert!(!MemoryEvents { group_kills: Some(0), ..old }.killed_as_a_group());
    }

    #[test]
    fn v1_tells_a_limit_that_was_never_reached() {
        let v1 = |figures: &'static [(&str, &str)]| {
            collect(&move |home, file| match (home, file) {
                (Home::V1("memory"), "memory.oom_control") => Some("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n".into()),
                (Home::V1("memory"), file) => figures.iter().find(|(name, _)| *name == file).map(|(_, text)| (*text).to_owned()),
                _ => None,
            })
        };
        const LIMIT: (&str, &str) = ("memory.limit_in_bytes", "67108864\n");
        const NEVER: (&str, &str) = ("memory.failcnt", "0\n");
        let host = v1(&[NEVER, LIMIT, ("memory.max_usage_in_bytes", "20000000\n")]);
        let own = v1(&[("memory.failcnt", "7\n"), LIMIT, ("memory.max_usage_in_bytes", "67108864\n")]);
        assert_eq!((host.bound(), own.bound()), (Some(OomBound::Host), Some(OomBound::Worker)));
        let uncounted = v1(&[NEVER, LIMIT, ("memory.max_usage_in_bytes", "67104768\n")]);
        assert_eq!(uncounted.bound(), Some(OomBound::Worker), "with no swap to have, the limit that is reached is not counted");
        assert_eq!((v1(&[]).bound(), v1(&[]).kills), (None, Some(1)));
        let below = |kills, at_limit| move || Some(Below { kills, at_limit });
        let nested = host.with_below(below(2, true));
        assert_eq!((nested.kills, nested.bound()), (Some(3), None), "one was not in those groups");
        let none_of_its_own = MemoryEvents { kills: Some(0), ..host };
        assert_eq!(none_of_its_own.with_below(below(2, true)).bound(), Some(OomBound::Nested));
        assert_eq!(none_of_its_own.with_below(below(2, false)).bound(), None, "nobody's limit was reached for all that is known");
        assert_eq!(own.with_below(below(2, true)).bound(), Some(OomBound::Worker));
        assert_eq!((MemoryEvents::default().with_below(below(2, true)).kills, host.with_below(|| None)), (None, host));
    }
}
