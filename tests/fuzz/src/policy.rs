//! Policies and seccomp profiles: what is accepted can be shown, compiled and read again.

use std::collections::BTreeMap;

use rbee_hive_policy::{Command, HostFacts, Policy, SeccompProfile, WorkerId, WorkerRequest, compile, embedded};

/// A policy's text, then that of every fragment which it includes.
pub(crate) fn policy(data: &[u8]) {
    let Some((text, fragment)) = crate::two_texts(data) else { return };
    let fragments = |name: &str| match fragment {
        "" => embedded::fragment(name).map(str::to_owned),
        given => Some(given.to_owned()),
    };
    match Policy::parse("fuzzed", "fuzzed.toml", text, &fragments) {
        Ok(policy) => {
            let shown = serde_json::to_value(&policy).expect("a policy can be shown");
            let again: Policy = serde_json::from_value(shown.clone()).expect("what is shown can be read");
            assert_eq!(serde_json::to_value(&again).ok(), Some(shown), "what is shown is what was read");
            let compiled = compile(&policy, &request(), &HostFacts::default());
            assert!(compiled.is_err() || compiled == compile(&policy, &request(), &HostFacts::default()), "the same gives the same");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

pub(crate) fn seccomp_profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(profile) = SeccompProfile::parse("fuzzed", "fuzzed.toml", text) else { return };
    for capabilities in [vec![], vec!["CAP_MKNOD".to_owned()]] {
        for refused in profile.refused(&capabilities) {
            assert!(refused.errno.number() > 0);
        }
    }
}

fn request() -> WorkerRequest {
    WorkerRequest {
        worker_id: WorkerId::parse("w").expect("a name"),
        policy: "fuzzed".into(),
        command: Command::Worker { model: "m".into(), args: vec![] },
        devices: vec!["CPU-0".into()],
        lease: None,
        mps: None,
        env: BTreeMap::new(),
        limits: BTreeMap::new(),
        port: Some(9100),
    }
}
