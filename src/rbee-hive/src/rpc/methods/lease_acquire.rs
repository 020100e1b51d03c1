//! `lease_acquire`

use std::time::Duration;

use rbee_hive_worker_lifecycle::LeaseLife;

use super::super::method::{Method, WhenClientLeaves};
use super::{NATURAL, answer};
use crate::hive::Caller;
use crate::params::{DEVICE, Fields, Param, Refusal, parse_device, parse_when_busy};

const NAME: &str = r#"{"type":"string","minLength":1,"maxLength":128}"#;
const FLAG: &str = r#"{"type":"boolean","default":false}"#;
const BUSY: &str = r#"{"enum":["refuse","queue"],"default":"refuse"}"#;

/// The method. A client that leaves while it waits in line leaves the line.
pub(super) const METHOD: Method = Method {
    name: "lease_acquire",
    summary: "Takes a lease on devices without starting a worker",
    params: &[
        Param::required("device", DEVICE),
        Param::required("holder", NAME),
        Param::optional("ttl_ms", NATURAL),
        Param::optional("bound_to_connection", FLAG),
        Param::optional("when_busy", BUSY),
        Param::optional("queue_timeout_ms", NATURAL),
    ],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let device = parse_device(&mut fields)?.when_busy(parse_when_busy(&mut fields)?);
            let holder: String = fields.need("holder")?;
            let life = life(&mut fields)?;
            answer(&state.workers.lease_acquire(&holder, device, life).await?)
        })
    },
};

fn life(fields: &mut Fields) -> Result<LeaseLife, Refusal> {
    let ttl = fields.take("ttl_ms")?.map(Duration::from_millis);
    let bound = fields.take("bound_to_connection")?.unwrap_or(false);
    let connection = match (bound, Caller::current().connection) {
        (false, _) => None,
        (true, Some(connection)) => Some(connection.end()),
        (true, None) => {
            let text = "this connection is closed when it is idle: use the Unix socket or a WebSocket, or ttl_ms";
            return Err(Refusal::params("bound_to_connection", text));
        }
    };
    Ok(LeaseLife { ttl, connection })
}
