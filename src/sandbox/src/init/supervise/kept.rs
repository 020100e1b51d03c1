//! What happens while there is no hive: kept for the next one, as far as it is news and as far as there is room.

use std::collections::VecDeque;

use crate::protocol::{FromInit, MAX_VICTIMS, OomKills};

/// Most messages that are kept; the oldest goes first.
const MOST: usize = 32;

/// News that nobody was told.
#[derive(Default)]
pub(super) struct Kept {
    messages: VecDeque<FromInit>,
    oom_kills: Option<OomKills>,
    unsaid: u64,
    /// Said to one hive, and to every later one again: it is what the others have to know, too.
    ended: Option<FromInit>,
}

/// What the next hive is told.
pub(super) struct News {
    pub(super) messages: Vec<FromInit>,
    pub(super) oom_kills: Option<OomKills>,
    pub(super) unsaid: u64,
}

impl Kept {
    /// Keeps a message that could not be said, if it is news: an answer is nobody's any more.
    pub(super) fn keep(&mut self, message: FromInit) {
        match message {
            FromInit::OomKills { kills } => self.count(kills),
            FromInit::Ended { .. } => self.ended = Some(message),
            FromInit::Notify { .. } | FromInit::Pressure { .. } => {
                if self.messages.len() == MOST {
                    self.messages.pop_front();
                    self.unsaid += 1;
                }
                self.messages.push_back(message);
            }
            _ => {}
        }
    }

    /// Notes a message that is said now, but is to be said to later hives as well.
    pub(super) fn note(&mut self, message: &FromInit) {
        if let FromInit::Ended { .. } = message {
            self.ended = Some(message.clone());
        }
    }

    /// Everything, for a hive that has come.
    pub(super) fn take(&mut self) -> News {
        let messages = self.messages.drain(..).chain(self.ended.clone()).collect();
        News { messages, oom_kills: self.oom_kills.take(), unsaid: std::mem::take(&mut self.unsaid) }
    }

    fn count(&mut self, kills: OomKills) {
        let known = self.oom_kills.get_or_insert_default();
        known.oom_kills = known.oom_kills.max(kills.oom_kills);
        known.victims.extend(kills.victims);
        let surplus = known.victims.len().saturating_sub(MAX_VICTIMS);
        known.victims.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Verdict, Victim};

    fn notify(text: &str) -> FromInit {
        FromInit::Notify { text: text.into() }
    }

    fn texts(news: &News) -> Vec<&str> {
        news.messages.iter().filter_map(|m| if let FromInit::Notify { text } = m { Some(text.as_str()) } else { None }).collect()
    }

    #[test]
    fn news_are_told_once_in_their_order_and_answers_never() {
        let mut kept = Kept::default();
        kept.keep(notify("a"));
        kept.keep(FromInit::Settled { seq: 7 });
        kept.keep(FromInit::Sockets { seq: 8 });
        kept.keep(notify("b"));
        let news = kept.take();
        assert_eq!((texts(&news), news.messages.len(), news.unsaid), (vec!["a", "b"], 2, 0));
        assert!(kept.take().messages.is_empty(), "once");
    }

    #[test]
    fn of_too_many_news_the_last_are_kept_and_the_others_counted() {
        let mut kept = Kept::default();
        for n in 0..MOST + 5 {
            kept.keep(notify(&n.to_string()));
        }
        let news = kept.take();
        assert_eq!((texts(&news)[0], news.messages.len(), news.unsaid), ("5", MOST, 5));
        assert_eq!(kept.take().unsaid, 0);
    }

    #[test]
    fn kills_are_one_sum_with_the_last_victims() {
        let mut kept = Kept::default();
        let victim = |pid| Victim { pid, ..victim() };
        for n in 1..=MAX_VICTIMS as u64 + 2 {
            kept.keep(FromInit::OomKills { kills: OomKills { oom_kills: n, victims: vec![victim(n as i32)] } });
        }
        let kills = kept.take().oom_kills.unwrap();
        assert_eq!((kills.oom_kills, kills.victims.len(), kills.victims[0].pid), (MAX_VICTIMS as u64 + 2, MAX_VICTIMS, 3));
        assert_eq!(kept.take().oom_kills, None);
    }

    fn victim() -> Victim {
        serde_json::from_value(serde_json::json!({"pid": 1, "name": "x", "memory": 4096, "bound": null})).unwrap()
    }

    #[test]
    fn the_end_is_told_to_every_hive_that_comes() {
        let mut kept = Kept::default();
        kept.note(&FromInit::Ended { verdict: Verdict::Unkillable { pids: vec![3], processes: vec![] }, resources: Box::default() });
        for _ in 0..2 {
            assert!(matches!(kept.take().messages.as_slice(), [FromInit::Ended { verdict: Verdict::Unkillable { .. }, .. }]));
        }
        kept.keep(FromInit::Ended { verdict: Verdict::Exited { code: 1 }, resources: Box::default() });
        assert!(matches!(kept.take().messages.as_slice(), [FromInit::Ended { verdict: Verdict::Exited { code: 1 }, .. }]), "the last one");
    }
}
