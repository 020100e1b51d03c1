//! Narration: what the hive tells about its work, as typed events, and the stream of lines each job leaves behind.
//!
//! Owns the line format, the redaction of secrets and the bounded per-job streams. It never knows what a worker is, and no
//! asynchronous runtime: a reader polls [`JobStreams::next`] and is woken by a listener.
//!
//! ```text
//! Narration ──human()──> Event ──Narrator::tell()──┬──> JobStreams (if the event has a job id) ──next()──> a reader
//!   fill, redact, escape                           └──> tracing, at info
//! ```

#![forbid(unsafe_code)]

mod event;
mod narration;
mod narrator;
mod one_line;
mod redaction;
mod streams;
mod template;

pub use event::Event;
pub use narration::Narration;
pub use narrator::Narrator;
pub use redaction::{REDACTED, redact};
pub use streams::{CUT_MARKER, JobEnd, JobStreams, Listener, MAX_JOB_BYTES, MAX_JOB_LINES, MAX_JOBS, MAX_LISTENERS, Next, Subscription};
