//! An answer's body that counts as a use of its connection until it is handed over.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::hive::Use;

/// A body with its use.
pub(super) struct Used {
    body: Body,
    _use: Use,
}

impl Used {
    pub(super) fn new(body: Body, using: Use) -> Self {
        Self { body, _use: using }
    }
}

impl HttpBody for Used {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
