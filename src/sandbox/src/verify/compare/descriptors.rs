//! Descriptors: none that leads out of the sandbox.

use rbee_hive_policy::NetworkMode;

use crate::protocol::{Descriptor, Inside, Namespaces, Place};
use crate::verify::{Aspect, Drift, Expected};

use super::namespaces::apart;
use super::process_name;

pub(super) fn compare(expected: &Expected, hive: &Namespaces, inside: &Inside) -> Vec<Drift> {
    let mut drift = Vec::new();
    for process in &inside.processes {
        let name = format!("{} of the sandbox", process_name(process.pid, &process.name));
        for descriptor in process.descriptors.iter().flatten() {
            if let Some(where_to) = leads_out(expected, (hive, inside), descriptor) {
                let text = format!("descriptor {} of {name} ({}) leads to {where_to}", descriptor.number, descriptor.target);
                drift.push(Drift::new(Aspect::Descriptors, text));
            }
        }
    }
    drift
}

fn leads_out(expected: &Expected, (hive, inside): (&Namespaces, &Inside), descriptor: &Descriptor) -> Option<&'static str> {
    match &descriptor.place {
        Place::Mount { .. } => Some("a mount that is not the sandbox's"),
        Place::Socket if expected.plan.network == NetworkMode::Host => None,
        Place::Socket => Some("another network namespace"),
        Place::Namespace { kind, number } => {
            let own = std::iter::once(&inside.own).chain(&inside.namespaces).any(|n| n.get(kind) == Some(number));
            let hives = hive.get(kind) == Some(number) && apart(expected).contains(&kind.as_str());
            (hives || !own).then_some("a namespace that is not the sandbox's")
        }
    }
}
