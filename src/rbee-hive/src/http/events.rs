//! `GET /v1/events`: what happens to workers and devices, as server-sent events with their numbers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{Stream, unfold};
use rbee_hive_policy::WorkerId;
use rbee_hive_worker_lifecycle::{Feed, Filter, HiveEvent};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::answer;
use super::router::App;
use crate::params::Refusal;
use crate::rpc::event_kind;

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    filter: Filter,
    after: Option<u64>,
    end: End,
}

/// Where a stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// With the hive.
    #[default]
    Hive,
    /// With the last event that there is now.
    Now,
}

/// Tells events until the hive stops, or its reader leaves.
pub(super) async fn stream(State(app): State<App>, Query(query): Query<Vec<(String, String)>>, headers: HeaderMap) -> Response {
    let asked = match Asked::parse(query, &headers) {
        Ok(asked) => asked,
        Err(refusal) => return answer::refused(&refusal),
    };
    let Ok(slot) = Arc::clone(&app.streams).try_acquire_owned() else { return crowded() };
    let feed = Feed::new(Arc::clone(&app.state.events), asked.after, asked.filter);
    let reading = Reading { feed, end: asked.end, ready: VecDeque::new(), stopping: app.state.stopping.clone(), _slot: slot };
    Sse::new(events(reading)).keep_alive(KeepAlive::default()).into_response()
}

/// The answer to one reader too many.
pub(super) fn crowded() -> Response {
    let text = "as many streams of events are read as this hive serves: end one, or come again later";
    answer::error(StatusCode::SERVICE_UNAVAILABLE, "at_capacity", text)
}

impl Asked {
    fn parse(query: Vec<(String, String)>, headers: &HeaderMap) -> Result<Self, Refusal> {
        let number =
            |name: &str, text: &str| text.parse::<u64>().map_err(|e| Refusal::params(name, format!("is no number of an event: {e}")));
        let mut asked = Self::default();
        for (name, value) in query {
            match name.as_str() {
                "after" => asked.after = Some(number("after", &value)?),
                "worker_id" => {
                    let id = WorkerId::parse(&value).map_err(|e| Refusal::params("worker_id", e.to_string()))?;
                    asked.filter.worker_id = Some(id.to_string());
                }
                "kind" => asked.filter.kind = event_kind(Some(value))?,
                "follow" if value == "true" => asked.end = End::Hive,
                "follow" if value == "false" => asked.end = End::Now,
                "follow" => return Err(Refusal::params("follow", "must be true or false")),
                other => return Err(Refusal::params(other, "unknown, known are: after, worker_id, kind, follow")),
            }
        }
        // Of a reader that comes back: it has read on since it wrote the address.
        if let Some(last) = headers.get("last-event-id") {
            asked.after = Some(number("Last-Event-ID", last.to_str().unwrap_or_default())?);
        }
        Ok(asked)
    }
}

/// A reader at its place.
struct Reading {
    feed: Feed,
    end: End,
    ready: VecDeque<Arc<HiveEvent>>,
    stopping: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

fn events(reading: Reading) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(reading, |mut reading| async {
        loop {
            if let Some(event) = reading.ready.pop_front() {
                return Some((Ok(written(&event)), reading));
            }
            // What has been told is read to its end, also by those that the hive's end cuts off.
            if !reading.feed.is_behind() && (reading.end == End::Now || reading.stopping.is_cancelled()) {
                return None;
            }
            tokio::select! {
                read = reading.feed.next() => reading.ready.extend(read),
                () = reading.stopping.cancelled(), if !reading.feed.is_behind() => {}
            }
        }
    })
}

fn written(event: &HiveEvent) -> Event {
    // An event is a map of texts and numbers: there is nothing in it that JSON lacks.
    let data = serde_json::to_string(event).unwrap_or_default();
    Event::default().id(event.seq.to_string()).event(event.kind.name()).data(data)
}

#[cfg(test)]
mod tests {
    use rbee_hive_worker_lifecycle::EventKind;

    use super::*;

    fn parse(query: &[(&str, &str)], last: Option<&str>) -> Result<Asked, String> {
        let query = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut headers = HeaderMap::new();
        if let Some(last) = last {
            headers.insert("last-event-id", last.parse().unwrap());
        }
        Asked::parse(query, &headers).map_err(|e| e.to_string())
    }

    #[test]
    fn a_reader_says_what_it_wants_and_from_where() {
        assert_eq!(parse(&[], None), Ok(Asked::default()));
        let filter = Filter { worker_id: Some("w1".into()), kind: Some(EventKind::State) };
        let all = [("worker_id", "w1"), ("kind", "state"), ("after", "7"), ("follow", "false")];
        assert_eq!(parse(&all, None), Ok(Asked { filter: filter.clone(), after: Some(7), end: End::Now }));
        assert_eq!(parse(&all, Some("9")), Ok(Asked { filter, after: Some(9), end: End::Now }), "one that comes back");
        let wrong = [("after", "-1"), ("after", ""), ("worker_id", "a/b"), ("kind", "weather"), ("follow", "maybe"), ("colour", "red")];
        for (name, value) in wrong {
            assert!(parse(&[(name, value)], None).unwrap_err().starts_with(name), "{name}={value}");
        }
        assert!(parse(&[], Some("x")).is_err());
    }
}
