//! One job: its stream of lines, its end, and the wish to cancel it.

use std::sync::Arc;

use rbee_hive_narration::{JobEnd, JobStreams, Narration, Narrator, Next};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A job, running or ended. Its lines are in the hive's job streams, where everybody's narration of it goes.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
    narrator: Narrator,
    cancel: CancellationToken,
}

/// What a reader gets next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The line at the asked position.
    Line(String),
    /// There are no more lines: the job has ended so.
    End(JobEnd),
}

impl Job {
    /// A job that has not said anything yet.
    pub(super) fn new(id: String, narrator: Narrator) -> Self {
        narrator.streams().create(id.as_str());
        Self { id, narrator, cancel: CancellationToken::new() }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Narrates one of the router's own events.
    pub(crate) fn narrate(&self, action: &'static str, text: &str) {
        self.narrator.tell(Narration::new("router", action).job(Some(&self.id)).context(text).human("{}"));
    }

    /// Ends the job; only the first end counts.
    pub(crate) fn finish(&self, end: JobEnd) {
        self.streams().finish(&self.id, end);
    }

    /// Asks the job to end; whether it was still running.
    pub(crate) fn cancel(&self) -> bool {
        self.cancel.cancel();
        // Past any number of lines there is either the end or nothing yet.
        matches!(self.streams().next(&self.id, usize::MAX), Next::Pending)
    }

    /// Returns when the job has been asked to end.
    pub(crate) async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Line number `at` (from 0), or the end; waits for whichever comes. A stream that was evicted has ended as cancelled.
    pub(crate) async fn next(&self, at: usize) -> Progress {
        let changed = Arc::new(Notify::new());
        let wake = Arc::clone(&changed);
        // Before the first look, so that no change falls between the two.
        let _subscription = self.streams().subscribe(&self.id, Arc::new(move || wake.notify_one()));
        loop {
            match self.streams().next(&self.id, at) {
                Next::Line(line) => return Progress::Line(line),
                Next::End(end) => return Progress::End(end),
                Next::Unknown => return Progress::End(JobEnd::Cancelled),
                Next::Pending => changed.notified().await,
            }
        }
    }

    fn streams(&self) -> &JobStreams {
        self.narrator.streams()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job::new("j".into(), Narrator::new(Arc::new(JobStreams::new())))
    }

    #[tokio::test]
    async fn a_late_reader_gets_every_line_and_then_the_end() {
        let job = job();
        job.narrate("one", "first");
        job.finish(JobEnd::Done);
        job.narrate("two", "after the end");
        job.finish(JobEnd::Cancelled);
        assert_eq!(job.next(0).await, Progress::Line("[router    ] one            : first".into()));
        assert_eq!(job.next(1).await, Progress::End(JobEnd::Done));
        assert!(!job.cancel());
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_the_next_line() {
        let job = Arc::new(job());
        let reader = tokio::spawn({
            let job = Arc::clone(&job);
            async move { job.next(0).await }
        });
        tokio::task::yield_now().await;
        assert!(job.cancel(), "it runs");
        job.narrate("now", "x");
        assert!(matches!(reader.await.unwrap(), Progress::Line(_)));
    }
}
