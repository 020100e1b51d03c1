//! What is kept of workers for those who ask later: numbers of events, and why the last ones ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Attached, WorkerSpawner};
use crate::channel::lock;
use crate::death::Beside;
use crate::events::{NumberFile, Numbering};
use crate::task::WorkerHandle;
use crate::{About, EventHub, EventKind, Explanation, LogLine, WorkerView};

/// Last lines of a log that are kept with a story, and how long one may be, characters.
const LINES: usize = 20;
const LINE: usize = 512;

/// The hive's events, numbered on from an earlier hive's where there are records.
pub(super) fn events(records: Option<Arc<OwnedFd>>) -> (Arc<EventHub>, Option<Arc<NumberFile>>) {
    let opened = records.map(NumberFile::open);
    let numbering = opened.as_ref().map_or_else(Numbering::default, |(_, numbering)| *numbering);
    let events = Arc::new(EventHub::numbered(numbering));
    let numbers = opened.map(|(file, _)| Arc::new(file));
    if let Some(numbers) = &numbers {
        tokio::spawn(Arc::clone(numbers).keep(Arc::clone(&events)));
    }
    (events, numbers)
}

impl WorkerSpawner {
    /// Keeps a worker's story once it has ended.
    pub(super) fn keep_story_at_its_end(&self, handle: &WorkerHandle) {
        let (spawner, handle) = (self.clone(), handle.clone());
        tokio::spawn(async move {
            // Refused after all, there is none.
            if handle.until(WorkerView::has_ended).await.is_some() {
                spawner.keep_story(&handle).await;
            }
        });
    }

    /// Keeps a worker's story as it is now.
    pub(super) async fn keep_story(&self, handle: &WorkerHandle) {
        if let (Ok(attached), Ok(explanation)) = (self.attached(), self.explain_listed(handle).await) {
            attached.stories.keep(explanation);
        }
    }

    /// What is known of it beside its view.
    pub(super) async fn beside(&self, handle: &WorkerHandle) -> Beside {
        let last_probe = lock(&handle.known.last_probe).clone();
        let timeline = lock(&handle.known.timeline).clone().into_moments();
        let page = self.log_lines(&handle.id, LINES, None).await.unwrap_or_default();
        let short = |line: LogLine| LogLine { text: line.text.chars().take(LINE).collect(), ..line };
        Beside { last_probe, timeline, log_tail: page.lines.into_iter().map(short).collect() }
    }

    /// What was kept of this worker, and not of another one that had its name.
    pub(super) fn story_of(&self, worker: &WorkerView) -> Option<Explanation> {
        self.explained_before(&worker.worker_id).filter(|kept| kept.story.created_at == worker.created_at)
    }

    /// The explanation of one that is off the list, or that an earlier hive has had.
    pub(super) fn explained_before(&self, id: &str) -> Option<Explanation> {
        self.attached.as_ref()?.stories.find(id).map(|kept| (*kept).clone())
    }

    /// The last thing that a hive does with its events: nothing is told any more, and the next hive goes on behind the last number. Blocks.
    pub fn end_events(&self) {
        if let Some(attached) = &self.attached {
            let last = attached.tools.events.close();
            if let Some(numbers) = &attached.numbers {
                numbers.end(last);
            }
        }
    }
}

impl Attached {
    /// Tells that a worker is off the list.
    pub(super) fn tell_deleted(&self, handle: &WorkerHandle) {
        let about = About::worker(&handle.id, handle.view.borrow().generation);
        self.tools.events.tell(EventKind::Deleted, about, serde_json::json!({}));
    }
}
