//! Sockets that were born in a worker's network namespace, ready to be connected.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rbee_hive_sandbox::protocol::ToInit;

use crate::channel::lock;
use crate::init_link::InitLink;

/// Sockets that are asked for at a time.
const BATCH: usize = 16;
/// With fewer than this ready, more are asked for before somebody has to wait for them.
const LOW: usize = 8;

/// A small stock of sockets. They keep the namespace alive: it goes with its worker.
#[derive(Debug)]
pub(super) struct Sockets {
    link: Arc<InitLink>,
    ready: Mutex<VecDeque<OwnedFd>>,
    /// One refill at a time: otherwise a burst of connections would ask for a batch each.
    refilling: Arc<tokio::sync::Mutex<()>>,
}

impl Sockets {
    pub(super) fn new(link: Arc<InitLink>) -> Arc<Self> {
        Arc::new(Self { link, ready: Mutex::default(), refilling: Arc::default() })
    }

    /// One socket, unconnected.
    pub(super) async fn take(self: &Arc<Self>) -> io::Result<OwnedFd> {
        loop {
            let (socket, left) = {
                let mut ready = lock(&self.ready);
                (ready.pop_front(), ready.len())
            };
            if let Some(socket) = socket {
                if left < LOW {
                    self.refill_ahead();
                }
                return Ok(socket);
            }
            let _one_at_a_time = self.refilling.lock().await;
            if lock(&self.ready).is_empty() {
                self.refill().await?;
            }
        }
    }

    fn refill_ahead(self: &Arc<Self>) {
        if let Ok(one_at_a_time) = Arc::clone(&self.refilling).try_lock_owned() {
            let sockets = Arc::clone(self);
            tokio::spawn(async move {
                let _one_at_a_time = one_at_a_time;
                // Whoever needs one and finds none asks again, and is told.
                let _ = sockets.refill().await;
            });
        }
    }

    async fn refill(&self) -> io::Result<()> {
        let made = self.link.ask(|seq| ToInit::Sockets { seq, count: BATCH }).await?;
        if made.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        lock(&self.ready).extend(made);
        Ok(())
    }
}
