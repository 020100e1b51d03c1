//! What a method is: a name, its parameters, and a function over the hive.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::hive::HiveState;
use crate::params::{Fields, Param, Refusal};

/// A method's answer.
pub(crate) type Answer = Result<Value, Refusal>;

/// What becomes of a call whose client has gone away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenClientLeaves {
    /// It changes something, and is carried to its end.
    Finish,
    /// It only reads or waits, and ends: otherwise clients that come and go could pile up waits without bound.
    Abandon,
}

/// One entry of the table of methods.
#[derive(Clone, Copy)]
pub(crate) struct Method {
    /// Name on the wire.
    pub(crate) name: &'static str,
    /// One sentence for `rpc.discover`.
    pub(crate) summary: &'static str,
    /// Parameters in their positions.
    pub(crate) params: &'static [Param],
    /// What happens when the client leaves.
    pub(crate) when_client_leaves: WhenClientLeaves,
    /// Carries it out; the parameters' names are checked already.
    pub(crate) call: fn(Arc<HiveState>, Fields) -> BoxFuture<'static, Answer>,
}
