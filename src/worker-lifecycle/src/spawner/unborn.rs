//! A start before its task runs: what others see of it, and whether they want it to end.

use std::sync::Arc;

use rbee_hive_policy::WorkerId;
use tokio::sync::{mpsc, watch};

use super::leasing::show_stopped;
use super::{Attached, Result};
use crate::events::Teller;
use crate::task::{self, Command, Story, WorkerHandle, first_view};
use crate::{SpawnParams, WorkerView};

/// What its task will go on with.
pub(super) struct Unborn {
    pub(super) view: watch::Sender<WorkerView>,
    pub(super) teller: Teller,
    pub(super) commands: mpsc::Receiver<Command>,
    /// What others hold of it, once it is attached.
    pub(super) handle: WorkerHandle,
}

impl Unborn {
    pub(super) fn new(attached: &Attached, (id, params): (&WorkerId, &SpawnParams), story: &Story) -> Self {
        let view = watch::Sender::new(first_view(id, params, &attached.tools.launcher));
        let teller = Teller::new(Arc::clone(&attached.tools.events), id.clone(), story.job().map(str::to_owned));
        let (to, commands) = task::commands();
        let handle = WorkerHandle { id: id.clone(), commands: to, view: view.subscribe(), usage: Arc::default(), known: Arc::default() };
        Self { view, teller, commands, handle }
    }

    /// Whether nobody has stopped it by now; where somebody has, its view says so. Other commands have nothing to act on yet.
    ///
    /// Errors: the hive starts nothing any more.
    pub(super) fn goes_on(&mut self, attached: &Attached) -> Result<bool> {
        attached.may_start()?;
        let has_ended = self.view.borrow().has_ended();
        while let (false, Ok(command)) = (has_ended, self.commands.try_recv()) {
            if let Command::Stop { by, .. } = command {
                show_stopped((&self.view, &self.teller), by);
                return Ok(false);
            }
        }
        Ok(!has_ended)
    }
}
