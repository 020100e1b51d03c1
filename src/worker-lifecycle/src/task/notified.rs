//! What the worker says of itself by sd_notify, and what is done with it.

use tokio::time::Instant;

use super::Worker;
use crate::supervision::{Word, parse};

impl Worker {
    pub(super) fn hear_worker(&self, text: &str) {
        for word in parse(text) {
            match word {
                Word::Ready => self.notified.send_modify(|notified| notified.ready = true),
                Word::Ping => self.pings.send_modify(|pings| pings.count += 1),
                Word::Trigger => self.pings.send_modify(|pings| pings.triggers += 1),
                Word::PingWithin(time) => self.pings.send_modify(|pings| pings.within = Some(time)),
                Word::Extend(time) => {
                    let until = Some(Instant::now() + time);
                    self.notified.send_modify(|notified| notified.extended = notified.extended.max(until));
                    self.pings.send_modify(|pings| pings.extended = pings.extended.max(until));
                }
                Word::Status(text) => self.show_status(text),
                Word::Stopping => self.note("stopping", "says that it is stopping"),
                Word::Reloading => self.note("reloading", "says that it reads its configuration again"),
                Word::Errno(errno) => self.note("errno", &format!("says that it has failed with {}", nix::errno::Errno::from_raw(errno))),
            }
        }
    }

    fn show_status(&self, text: String) {
        // No change that others wait for: a worker would wake them as often as it likes.
        self.teller.change(&self.view, |view| {
            view.status_text = Some(text).filter(|text| !text.is_empty());
            false
        });
    }

    fn note(&self, action: &'static str, what: &str) {
        tracing::info!(worker = %self.id, "it {what}");
        self.story.tell(action, "{} {}", &[&self.id, &what]);
    }
}
