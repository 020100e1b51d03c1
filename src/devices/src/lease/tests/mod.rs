//! The table against rules, and against a naive model.

mod granting;
mod model;
mod releasing;
mod waiting;

use serde_json::Value;

use super::*;
use crate::{DeviceSpec, Inventory};

/// GPUs of so many GiB.
fn host(gib: &[u32]) -> Inventory {
    let gpu = |(n, gib): (usize, &u32)| {
        format!("[[gpu]]\nindex = {n}\nuuid = \"GPU-a{n:07x}\"\nvendor = \"nvidia\"\nname = \"Test {gib}\"\nmemory = \"{gib}GiB\"\n")
    };
    Inventory::from_simulation(&gib.iter().enumerate().map(gpu).collect::<String>(), "d.toml").unwrap()
}

fn spec(value: Value) -> DeviceSpec {
    DeviceSpec::parse(&value).unwrap()
}

fn by(holder: &str, value: Value, terms: Terms) -> LeaseRequest {
    LeaseRequest { holder: Holder::Worker(holder.into()), spec: spec(value), terms }
}

fn free(holder: &str, value: Value) -> LeaseRequest {
    by(holder, value, Terms::unbounded())
}

fn external(name: &str, value: Value) -> LeaseRequest {
    LeaseRequest { holder: Holder::External(name.into()), spec: spec(value), terms: Terms::unbounded() }
}

fn got(outcome: Result<Lease, LeaseError>) -> Vec<String> {
    outcome.unwrap().devices
}

fn release(table: &mut LeaseTable, holder: &str) {
    if let Some(Releasing { lease_id, gpus }) = table.begin_release(holder) {
        gpus.into_iter().for_each(|n| table.finish_release(&lease_id, n, Proof::Measured));
    }
}

fn queued(asked: Result<Asked, LeaseError>) -> Ticket {
    match asked.unwrap() {
        Asked::Queued { ticket, .. } => ticket,
        Asked::Granted(lease) => panic!("{lease:?} was free"),
    }
}
