//! The parameters of a spawn.

use rbee_hive_devices::{DeviceSpec, WhenBusy};
use rbee_hive_worker_lifecycle::{SpawnParams, WaitFor};
use serde_json::Value;

use super::{Fields, LIMITS, Param, Refusal, parse_limits};

/// Most bytes of model, arguments, environment and labels together: a request must fit one datagram to the launcher.
const MAX_TEXT: usize = 120 * 1024;

/// Schema of a device.
pub(crate) const DEVICE: &str =
    r#"{"oneOf":[{"type":"integer","minimum":0},{"type":"string"},{"type":"array","items":{"type":"string"}},{"type":"object"}]}"#;

/// The parameters of `worker_spawn`, in their positions.
pub(crate) const SPAWN_PARAMS: &[Param] = &[
    Param::optional("worker_id", r#"{"type":"string","pattern":"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"}"#),
    Param::required("model", r#"{"type":"string"}"#),
    Param::optional("device", DEVICE),
    Param::optional("policy", r#"{"type":"string","default":"default"}"#),
    Param::optional("args", r#"{"type":"array","items":{"type":"string"}}"#),
    Param::optional("env", r#"{"type":"object","additionalProperties":{"type":"string"}}"#),
    Param::optional("limits", LIMITS),
    Param::optional("labels", r#"{"type":"object","additionalProperties":{"type":"string"}}"#),
    Param::optional("wait", r#"{"enum":["ready","started"],"default":"ready"}"#),
    Param::optional("lease_id", r#"{"type":"string","pattern":"^lease:[0-9]+$"}"#),
];

/// Reads a spawn's parameters, their names already checked; the worker's name comes in the field `id_field`.
pub(crate) fn parse_spawn(fields: &mut Fields, id_field: &str) -> Result<SpawnParams, Refusal> {
    let params = SpawnParams {
        worker_id: fields.optional_worker_id(id_field)?,
        model: fields.need("model")?,
        device: parse_device(fields)?,
        policy: fields.take("policy")?.unwrap_or_else(|| "default".to_owned()),
        args: fields.take("args")?.unwrap_or_default(),
        env: fields.take("env")?.unwrap_or_default(),
        limits: parse_limits(fields)?,
        labels: fields.take("labels")?.unwrap_or_default(),
        wait: fields.take::<String>("wait")?.map_or(Ok(WaitFor::Ready), |w| spawn_wait(&w))?,
        job_id: None,
        lease_id: fields.take("lease_id")?,
        client: None,
    };
    check_texts(&params)?;
    Ok(params)
}

/// Reads the field `device`.
pub(crate) fn parse_device(fields: &mut Fields) -> Result<DeviceSpec, Refusal> {
    let given: Option<Value> = fields.take("device")?;
    let Some(given) = given else { return Ok(DeviceSpec::Auto) };
    DeviceSpec::parse(&given).map_err(|e| Refusal::params("device", e.to_string()))
}

/// Reads the fields `when_busy` and `queue_timeout_ms`.
pub(crate) fn parse_when_busy(fields: &mut Fields) -> Result<WhenBusy, Refusal> {
    let word: Option<String> = fields.take("when_busy")?;
    WhenBusy::parse(word.as_deref(), fields.take("queue_timeout_ms")?).map_err(|e| Refusal::params("when_busy", e))
}
fn spawn_wait(text: &str) -> Result<WaitFor, Refusal> {
    match text {
        "ready" => Ok(WaitFor::Ready),
        "started" => Ok(WaitFor::Started),
        other => Err(Refusal::params("wait", format!("{other:?} is not \"ready\" or \"started\""))),
    }
}

/// What `worker_wait` waits for.
pub(crate) fn parse_wait_for(text: &str) -> Result<WaitFor, Refusal> {
    match text {
        "ready" => Ok(WaitFor::Ready),
        "exit" => Ok(WaitFor::Exit),
        other => Err(Refusal::params("for", format!("{other:?} is not \"ready\" or \"exit\""))),
    }
}

/// Refuses what could never be passed to `execve`, and more text than the launcher takes.
fn check_texts(params: &SpawnParams) -> Result<(), Refusal> {
    let no_nul = |field: &str, text: &str| match text.contains('\0') {
        true => Err(Refusal::params(field, "holds a NUL byte")),
        false => Ok(()),
    };
    if params.model.is_empty() {
        return Err(Refusal::params("model", "is empty"));
    }
    no_nul("model", &params.model)?;
    no_nul("policy", &params.policy)?;
    params.args.iter().try_for_each(|a| no_nul("args", a))?;
    for (name, value) in &params.env {
        if name.is_empty() || name.contains('=') {
            return Err(Refusal::params("env", format!("{name:?} is no name of a variable")));
        }
        no_nul("env", name)?;
        no_nul("env", value)?;
    }
    let pairs = params.env.iter().chain(&params.labels).map(|(k, v)| k.len() + v.len());
    let total = params.model.len() + params.policy.len() + params.args.iter().map(String::len).sum::<usize>() + pairs.sum::<usize>();
    if total > MAX_TEXT {
        return Err(Refusal::params("args", format!("model, args, env and labels are {total} bytes together, more than {MAX_TEXT}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(given: Value) -> Result<SpawnParams, Refusal> {
        parse_spawn(&mut Fields::check(Some(given), SPAWN_PARAMS)?, "worker_id")
    }

    fn refused_field(given: Value) -> String {
        match parse(given) {
            Err(Refusal::Params { field, .. }) => field,
            other => panic!("not a parameter error: {other:?}"),
        }
    }

    #[test]
    fn only_the_model_is_required() {
        let params = parse(json!({"model": "m"})).unwrap();
        assert_eq!((params.policy.as_str(), params.wait, params.device), ("default", WaitFor::Ready, DeviceSpec::Auto));
        assert_eq!(refused_field(json!({})), "model");
    }

    #[test]
    fn bad_values_name_their_field() {
        assert_eq!(refused_field(json!({"model": "m", "worker_id": "../x"})), "worker_id");
        assert_eq!(refused_field(json!({"model": "m\0"})), "model");
        assert_eq!(refused_field(json!({"model": "m", "args": "x"})), "args");
        assert_eq!(refused_field(json!({"model": "m", "args": ["x".repeat(200_000)]})), "args");
        assert_eq!(refused_field(json!({"model": "m", "env": {"A=B": "c"}})), "env");
        assert_eq!(refused_field(json!({"model": "m", "wait": "exit"})), "wait");
        assert_eq!(refused_field(json!({"model": "m", "limits": {"memroy_max": 1}})), "limits.memroy_max");
        assert_eq!(refused_field(json!({"model": "m", "limits": {"memory_max": -1}})), "limits.memory_max");
        assert_eq!(refused_field(json!({"model": "m", "device": {"gpu": 0}})), "device");
        assert_eq!(refused_field(json!({"model": "m", "modle": 1})), "modle");
    }
}
