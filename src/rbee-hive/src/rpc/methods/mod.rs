//! The methods, one a file, and their table: what is not in it does not exist.

mod device_heal;
mod device_list;
mod device_topology;
mod discover;
mod hive_drain;
mod hive_info;
mod hive_shutdown;
mod lease_acquire;
mod lease_list;
mod lease_release;
mod policy_check;
mod policy_doctor;
mod policy_explain;
mod policy_list;
mod policy_score;
mod policy_show;
mod worker_delete;
mod worker_explain;
mod worker_freeze;
mod worker_history;
mod worker_list;
mod worker_logs;
mod worker_process_list;
mod worker_signal;
mod worker_spawn;
mod worker_status;
mod worker_stop;
mod worker_subscribe;
mod worker_thaw;
mod worker_update;
mod worker_verify;
mod worker_wait;

use serde::Serialize;
use serde_json::Value;

use super::method::{Answer, Method};
use crate::params::Refusal;
pub(super) use worker_subscribe::{SUBSCRIBE, UNSUBSCRIBE};

/// Every method.
pub(crate) const METHODS: &[Method] = &[
    worker_spawn::METHOD,
    worker_status::METHOD,
    worker_list::METHOD,
    worker_stop::METHOD,
    worker_delete::METHOD,
    worker_wait::METHOD,
    worker_signal::METHOD,
    worker_logs::METHOD,
    worker_process_list::METHOD,
    worker_history::METHOD,
    worker_verify::METHOD,
    worker_update::METHOD,
    worker_freeze::METHOD,
    worker_thaw::METHOD,
    SUBSCRIBE,
    UNSUBSCRIBE,
    device_list::METHOD,
    device_topology::METHOD,
    device_heal::METHOD,
    lease_list::METHOD,
    lease_acquire::METHOD,
    lease_release::METHOD,
    policy_list::METHOD,
    policy_show::METHOD,
    policy_check::METHOD,
    policy_explain::METHOD,
    policy_score::METHOD,
    policy_doctor::METHOD,
    worker_explain::METHOD,
    hive_info::METHOD,
    hive_drain::METHOD,
    hive_shutdown::METHOD,
    discover::METHOD,
];

/// Schema of a worker's name.
const WORKER_ID: &str = r#"{"type":"string","pattern":"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"}"#;
/// Schema of a length of time in milliseconds, or another natural number.
const NATURAL: &str = r#"{"type":"integer","minimum":0}"#;

/// Schema of a moment.
const TIME: &str = r#"{"type":"string","format":"date-time"}"#;

/// A value as an answer.
fn answer(value: &impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(|e| Refusal::params("answer", e.to_string()))
}

/// The parameters of a method that takes none.
const NOTHING: &[crate::params::Param] = &[];

/// An object without members, where there is nothing to tell.
fn done() -> Answer {
    Ok(Value::Object(serde_json::Map::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_schemas_are_json() {
        let mut names: Vec<_> = METHODS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METHODS.len());
        for param in METHODS.iter().flat_map(|m| m.params) {
            assert!(serde_json::from_str::<Value>(param.schema).is_ok(), "{}", param.name);
        }
    }
}
