//! What may be told of a worker's end, by what is known to have been done to it.
//!
//! Must never know: how it was found out.

use serde_json::Value;

use crate::fault::{Action, Fault};
use crate::points::{Process, Scene};

/// Why this verdict can't be true, if it can't.
pub fn untrue(fault: &Fault, verdict: &Value) -> Option<String> {
    let kind = verdict["kind"].as_str().unwrap_or_default();
    let scene = fault.scene;
    let asked = matches!(scene, Scene::Stop | Scene::Kill | Scene::Delete | Scene::Stopping) || fault.kills() == Some(Process::Launcher);
    let fits = match kind {
        "stopped" => match verdict["by"].as_str() {
            Some("request") => asked || is_half_made(fault),
            Some("shutdown") => true,
            Some("hive_exit") => fault.policy == "dies" && (fault.kills() == Some(Process::Hive) || scene == Scene::LoseHive),
            _ => false,
        },
        "exited" => scene == Scene::Exit && verdict["code"] == 3,
        "signaled" => fault.is_from_outside() && fault.kills() == Some(Process::Worker) && verdict["signal"] == 9,
        "setup_failed" => setup_failed(fault, verdict),
        "lost" => matches!(fault.kills(), Some(Process::Init | Process::Hive | Process::Launcher)) || scene == Scene::LoseHive,
        _ => false,
    };
    (!fits).then(|| format!("verdict {verdict} is told, and that is not what was done"))
}

/// A spawn that nobody could answer any more is taken back by a stop.
fn is_half_made(fault: &Fault) -> bool {
    fault.scene == Scene::Spawn && matches!(fault.kills(), Some(Process::Launcher | Process::Hive))
}

fn setup_failed(fault: &Fault, verdict: &Value) -> bool {
    match fault.action {
        Action::Fail(errno) => verdict["errno"].as_i64() == Some(number(errno)),
        // Its init saw it end on the way, by nobody's word.
        Action::Kill => fault.point.process == Process::Worker && verdict["errno"] == libc_eintr(),
        Action::Delay(_) => false,
    }
}

/// Why the answer to the request for a worker can't be true, if it can't.
pub fn untrue_refusal(fault: &Fault, error: &Value) -> Option<String> {
    let kind = error["kind"].as_str().unwrap_or_default();
    let fits = match kind {
        "launcher_gone" => fault.kills() == Some(Process::Launcher),
        "setup_failed" | "start_failed" if !error["verdict"].is_null() => return untrue(fault, &error["verdict"]),
        "setup_failed" => matches!(fault.action, Action::Fail(errno) if error["errno"].as_i64() == Some(number(errno))),
        _ => false,
    };
    (!fits).then(|| format!("the request for the worker got {error}, and that is not what was done"))
}

fn number(errno: &str) -> i64 {
    use nix::errno::Errno;
    let known = [Errno::EPERM, Errno::ENOMEM, Errno::EIO, Errno::ENOSPC, Errno::EROFS, Errno::EDQUOT, Errno::EBUSY];
    known.into_iter().find(|known| format!("{known:?}") == errno).map_or(0, |known| i64::from(known as i32))
}

fn libc_eintr() -> i32 {
    nix::errno::Errno::EINTR as i32
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::points::POINTS;

    fn fault(name: &str, scene: Scene, action: Action) -> Fault {
        let point = POINTS.iter().find(|p| p.name == name).unwrap();
        Fault { point, scene, action, policy: "keeps", nth: 1, busy: false }
    }

    #[test]
    fn what_nobody_did_is_told_from_what_was_done() {
        let killed = fault("ending.empty", Scene::Exit, Action::Kill);
        assert_eq!(untrue(&killed, &json!({"kind": "lost"})), None);
        assert_eq!(untrue(&killed, &json!({"kind": "exited", "code": 3})), None);
        for false_one in [
            json!({"kind": "exited", "code": 0}),
            json!({"kind": "signaled", "signal": 9}),
            json!({"kind": "oom_killed"}),
            json!({"kind": "stopped", "by": "request"}),
            json!({"kind": "stopped", "by": "hive_exit"}),
            json!(null),
        ] {
            assert!(untrue(&killed, &false_one).is_some(), "{false_one}");
        }
        let failed = fault("step.mount proc", Scene::Spawn, Action::Fail("EPERM"));
        assert_eq!(untrue(&failed, &json!({"kind": "setup_failed", "errno": 1})), None);
        assert!(untrue(&failed, &json!({"kind": "setup_failed", "errno": 5})).is_some());
        assert!(untrue_refusal(&failed, &json!({"kind": "launcher_gone"})).is_some());
        assert!(untrue(&fault("step.mount proc", Scene::Spawn, Action::Delay(9)), &json!({"kind": "lost"})).is_some());
    }
}
