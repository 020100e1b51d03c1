//! One fault: where, what, and with which worker.
//!
//! Must never know: how it is injected, and what follows.

use std::fmt;

use crate::points::{POINTS, Point, Process, Scene};
use crate::random::Random;

/// What is done at the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process ends at once.
    Kill,
    /// The call fails with this error.
    Fail(&'static str),
    /// The call takes so many milliseconds longer.
    Delay(u64),
}

/// A fault that is to be injected.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Where.
    pub point: &'static Point,
    /// What brings a process there.
    pub scene: Scene,
    /// What is done.
    pub action: Action,
    /// The worker's policy: `keeps` or `dies` with its hive.
    pub policy: &'static str,
    /// Which time the step is come to, from 1.
    pub nth: u64,
    /// Whether another worker comes and goes meanwhile.
    pub busy: bool,
}

/// Policies of the workers, by what they do when their hive goes.
pub const POLICIES: [&str; 2] = ["keeps", "dies"];

impl Fault {
    /// Number `number` of a run. The first ones kill at each step once, in an order of the seed's; the others are drawn.
    pub fn choose(random: &mut Random, number: usize, order: &[usize]) -> Self {
        let drawn = usize::try_from(random.below(POINTS.len() as u64)).unwrap_or(0);
        let point = &POINTS[order.get(number).copied().unwrap_or(drawn)];
        let action = match random.below(10) {
            _ if number < order.len() || point.name == ANY_TIME => Action::Kill,
            0..=4 if !point.errors.is_empty() => {
                let error: &&str = random.one_of(point.errors);
                Action::Fail(error)
            }
            5..=6 => Action::Delay(20 + random.below(180)),
            _ => Action::Kill,
        };
        let scene = *random.one_of(point.scenes);
        // Only some calls are made more than once.
        let nth = match point.name.split('.').next() {
            Some("cgroup") => 1 + random.below(6),
            Some("record") if number >= order.len() => 1 + random.below(2),
            _ => 1,
        };
        let drawn = *random.one_of(&POLICIES);
        let policy = if scene == Scene::Adopt { POLICIES[0] } else { drawn };
        Self { point, scene, action, policy, nth, busy: random.below(4) == 0 }
    }

    /// All points once.
    pub fn order(random: &mut Random) -> Vec<usize> {
        let mut order: Vec<usize> = (0..POINTS.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, usize::try_from(random.below(last as u64 + 1)).unwrap_or(0));
        }
        order
    }

    /// As the process reads it.
    pub fn line(&self, worker: &str) -> String {
        let Point { process, name, who, .. } = self.point;
        let who = who.replace("{}", worker);
        let action = match self.action {
            Action::Kill => "kill".to_owned(),
            Action::Fail(errno) => format!("errno:{errno}"),
            Action::Delay(ms) => format!("delay:{ms}"),
        };
        format!("{process}.{name}#{who}={action}@{}", self.nth)
    }

    /// The process that it ends, if any.
    pub fn kills(&self) -> Option<Process> {
        (self.action == Action::Kill).then_some(self.point.process)
    }

    /// Whether the process is killed from outside, in a state and at no step.
    pub fn is_from_outside(&self) -> bool {
        self.point.name == ANY_TIME
    }
}

const ANY_TIME: &str = "at any time";

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = if self.busy { ", busy" } else { "" };
        write!(out, "{} ({:?}, worker {}{busy})", self.line("victim"), self.scene, self.policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_faults_kill_at_every_step_once_and_a_seed_gives_the_same_ones_again() {
        let of = |seed| {
            let mut random = Random::seeded(seed);
            let order = Fault::order(&mut random);
            (0..POINTS.len() + 50).map(|n| Fault::choose(&mut random, n, &order)).collect::<Vec<_>>()
        };
        let faults = of(3);
        let names: std::collections::BTreeSet<_> = faults[..POINTS.len()].iter().map(|f| (f.point.process, f.point.name)).collect();
        assert_eq!(names.len(), POINTS.len(), "a step is listed twice");
        assert!(faults[..POINTS.len()].iter().all(|f| f.action == Action::Kill));
        let lines = |faults: &[Fault]| faults.iter().map(Fault::to_string).collect::<Vec<_>>();
        assert_eq!(lines(&faults), lines(&of(3)));
        assert_ne!(lines(&faults), lines(&of(4)));
    }
}
