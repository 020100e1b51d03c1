//! What a job may do, read from the body of `POST /v1/jobs`.

use rbee_hive_policy::WorkerId;
use rbee_hive_worker_lifecycle::{SpawnParams, WorkerFilter};
use serde_json::Value;

use crate::params::{Fields, Param, Refusal, parse_spawn};

/// An operation with its parameters.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Starts a worker.
    Spawn(Box<SpawnParams>),
    /// Stops a worker.
    Stop {
        /// Which.
        worker: WorkerId,
        /// Milliseconds.
        grace_ms: Option<u64>,
    },
    /// Stops a worker and takes it off the list.
    Delete(WorkerId),
    /// Tells of one worker.
    Status(WorkerId),
    /// Tells of all.
    List(WorkerFilter),
}

const OPERATION: Param = Param::required("operation", "{}");
const HIVE: Param = Param::optional("hive_id", "{}");
const WORKER: Param = Param::required("worker", "{}");

const SPAWN: &[Param] = &[
    OPERATION,
    HIVE,
    Param::required("model", "{}"),
    Param::optional("worker", "{}"),
    Param::optional("device", "{}"),
    Param::optional("policy", "{}"),
    Param::optional("args", "{}"),
    Param::optional("env", "{}"),
    Param::optional("limits", "{}"),
    Param::optional("labels", "{}"),
    Param::optional("wait", "{}"),
    Param::optional("lease_id", "{}"),
];
const STOP: &[Param] = &[OPERATION, HIVE, WORKER, Param::optional("grace_ms", "{}")];
const ONE: &[Param] = &[OPERATION, HIVE, WORKER];
const LIST: &[Param] = &[OPERATION, HIVE, Param::optional("state", "{}"), Param::optional("labels", "{}")];

impl Operation {
    /// Reads a body that is JSON; `hive` is this hive's own id.
    pub(crate) fn parse(body: Value, hive: &str) -> Result<Self, Refusal> {
        if !body.is_object() {
            return Err(Refusal::params("body", "must be a JSON object"));
        }
        let Some(name) = body.get("operation") else { return Err(Refusal::params("operation", "missing")) };
        let name = name.as_str().unwrap_or_default().to_owned();
        let known = match name.as_str() {
            "worker_spawn" => SPAWN,
            "worker_stop" => STOP,
            "worker_delete" | "worker_status" => ONE,
            "worker_list" => LIST,
            _ => return Err(Refusal::params("operation", UNKNOWN_OPERATION)),
        };
        let mut fields = Fields::check(Some(body), known)?;
        check_hive(&mut fields, hive)?;
        match name.as_str() {
            "worker_spawn" => Ok(Self::Spawn(Box::new(parse_spawn(&mut fields, "worker")?))),
            "worker_stop" => Ok(Self::Stop { worker: fields.worker_id("worker")?, grace_ms: fields.take("grace_ms")? }),
            "worker_delete" => Ok(Self::Delete(fields.worker_id("worker")?)),
            "worker_status" => Ok(Self::Status(fields.worker_id("worker")?)),
            _ => Ok(Self::List(WorkerFilter { state: fields.take("state")?, labels: fields.take("labels")?.unwrap_or_default() })),
        }
    }
}

const UNKNOWN_OPERATION: &str = "unknown operation, known are: worker_spawn, worker_stop, worker_delete, worker_status, worker_list";

fn check_hive(fields: &mut Fields, own: &str) -> Result<(), Refusal> {
    match fields.take::<String>("hive_id")? {
        Some(given) if given != "localhost" && given != own => {
            Err(Refusal::UnknownHive { given: given.chars().take(80).collect(), own: own.into() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbee_hive_devices::DeviceSpec;
    use serde_json::json;

    #[test]
    fn the_seeds_request_is_a_spawn_on_the_first_gpu() {
        let body = json!({"operation": "worker_spawn", "hive_id": "localhost", "model": "test-model", "worker": "worker-1", "device": 0});
        let Operation::Spawn(params) = Operation::parse(body, "host").unwrap() else { panic!("not a spawn") };
        assert_eq!(params.worker_id.unwrap().as_str(), "worker-1");
        assert_eq!(params.device, DeviceSpec::Gpus(vec![0]));
    }

    #[test]
    fn unknown_operations_fields_and_hives_are_refused() {
        let kind = |body: Value| Operation::parse(body, "host").unwrap_err().kind();
        assert_eq!(kind(json!({"operation": "worker_spwan"})), "invalid_params");
        assert_eq!(kind(json!({"operation": 7})), "invalid_params");
        assert_eq!(kind(json!([])), "invalid_params");
        assert_eq!(kind(json!({"operation": "worker_status", "worker": "a", "x": 1})), "invalid_params");
        assert_eq!(kind(json!({"operation": "worker_list", "hive_id": "elsewhere"})), "unknown_hive");
        assert!(Operation::parse(json!({"operation": "worker_list", "hive_id": "host"}), "host").is_ok());
    }

    #[test]
    fn a_bad_worker_name_is_told_by_the_field_that_held_it() {
        let body = json!({"operation": "worker_spawn", "model": "m", "worker": "a/b"});
        assert!(Operation::parse(body, "host").unwrap_err().to_string().starts_with("worker: "));
    }
}
