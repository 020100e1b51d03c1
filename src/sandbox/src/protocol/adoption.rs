//! What a hive is told of workers that outlived the hive before it.
//!
//! ```text
//!  launcher ──Hello──► hive
//!           ──Found──► hive   one for each worker that has a directory; a living one with its init's pidfd and a channel to it
//!           ──FoundAll──► hive
//!      init ──Attached, then the rest──► hive   by that channel
//! ```
//! Records are read by newer programs than wrote them, and the other way round: fields are only ever added, each with a default.

use serde::{Deserialize, Serialize};

use super::{OomKills, Resources};
use crate::{StoppedBy, Verdict};

/// What became of a worker while nobody looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum FoundHow {
    /// Its init lives and has been verified: number, start time, cgroup and peer of its socket. It is in the launcher's ledger again, so
    /// `Released` follows when it ends.
    Living,
    /// It has ended, and its init has written how. Its cgroups are gone; its directories stay until `Forget`.
    Ended {
        /// As the init wrote it.
        verdict: Option<Verdict>,
        /// The last counters, as the init wrote them.
        #[serde(default)]
        resources: Option<Box<Resources>>,
    },
    /// Nobody can say what became of it. Nothing of it runs any more but what `left` names; its directories stay until `Forget`.
    Lost {
        /// What was found instead, one sentence.
        why: String,
        /// What could not be removed, or was left alone because it is none of ours; empty normally.
        #[serde(default)]
        left: Vec<String>,
    },
}

/// The state of a worker as its init tells it to a hive that has just come to it. What happened while no hive was there follows as
/// messages of its own, as far as it is not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// Start time of the worker's own process, clock ticks after boot, by the init's view; `None` where it could not be read.
    pub start_ticks: Option<u64>,
    /// Whether the worker has ever said READY=1.
    pub ready_notified: bool,
    /// Who has asked for its end, where a stop is under way.
    pub stopping: Option<StoppedBy>,
    /// Whether its own process has ended: the rest is being cleared away, and the verdict follows.
    pub ending: bool,
    /// Whether it stands still.
    pub frozen: bool,
    /// Processes of it that the kernel has killed for want of memory, since its start; `None` where none are counted.
    pub oom_kills: Option<u64>,
    /// Of them those that no hive was told of: the sum since its start, and the victims that are new; `None` where there are none.
    pub oom_kills_since: Option<OomKills>,
    /// Whether the second descriptor is there: the worker's port, listening.
    pub port: bool,
    /// Messages that were to be told once no hive was there, and that there was no room for: the oldest ones.
    pub unsaid: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{FromInit, FromLauncher, ToInit};

    fn again<T: Serialize + serde::de::DeserializeOwned>(message: &T) -> T {
        serde_json::from_slice(&serde_json::to_vec(message).unwrap()).unwrap()
    }

    fn attached() -> Attached {
        Attached {
            start_ticks: Some(77),
            ready_notified: true,
            stopping: Some(StoppedBy::Request),
            ending: true,
            frozen: true,
            oom_kills: Some(3),
            oom_kills_since: Some(OomKills { oom_kills: 3, victims: vec![] }),
            port: true,
            unsaid: 9,
        }
    }

    #[test]
    fn what_an_init_says_to_the_hive_that_comes_to_it_is_read_as_it_was_said() {
        let FromInit::Attached { state } = again(&FromInit::Attached { state: Box::new(attached()) }) else { panic!("another message") };
        assert_eq!(*state, attached());
        assert!(matches!(again(&FromInit::Superseded), FromInit::Superseded));
        assert!(matches!(again(&FromInit::Held { locks: 2 }), FromInit::Held { locks: 2 }));
        assert!(matches!(again(&ToInit::KeepPort), ToInit::KeepPort));
    }

    #[test]
    fn an_older_init_leaves_out_what_it_does_not_know_and_a_newer_one_says_more() {
        let old: Attached = serde_json::from_str(r#"{"start_ticks": 5}"#).unwrap();
        assert_eq!(old, Attached { start_ticks: Some(5), ..Attached::default() });
        let new: FromInit = serde_json::from_str(r#"{"op": "attached", "state": {"frozen": true, "colour": "red"}}"#).unwrap();
        assert!(matches!(new, FromInit::Attached { state } if state.frozen));
        assert!(serde_json::from_str::<FromInit>(r#"{"op": "of_tomorrow"}"#).is_err(), "and that is one bad message");
    }

    #[test]
    fn what_a_launcher_found_is_read_as_it_was_said() {
        let lost = FoundHow::Lost { why: "its record is empty".into(), left: vec!["/sys/fs/cgroup/x: busy".into()] };
        let ended = FoundHow::Ended { verdict: Some(Verdict::Exited { code: 3 }), resources: Some(Box::default()) };
        for how in [FoundHow::Living, ended, FoundHow::Ended { verdict: None, resources: None }, lost] {
            let found = FromLauncher::Found {
                worker_id: rbee_hive_policy::WorkerId::parse("w1").unwrap(),
                plan: Some(Box::new(crate::verify::tests::plan())),
                cgroup: Some("/r/workers/w-w1/worker".into()),
                init_pid: Some(7),
                not_in_force: vec![],
                policy_digest: Some(u64::MAX),
                how: how.clone(),
            };
            let FromLauncher::Found { how: told, plan, policy_digest, init_pid, .. } = again(&found) else { panic!("another message") };
            assert_eq!((told, plan.map(|p| *p)), (how, Some(crate::verify::tests::plan())));
            assert_eq!((policy_digest, init_pid), (Some(u64::MAX), Some(7)));
        }
        assert!(matches!(again(&FromLauncher::FoundAll { count: 4 }), FromLauncher::FoundAll { count: 4 }));
    }
}
