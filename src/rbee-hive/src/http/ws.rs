//! `GET /rpc` with an upgrade: JSON-RPC over a WebSocket, with subscriptions.
//!
//! One task a connection. It writes before it reads on, so that a reader that is slow makes nothing pile up here; its calls run beside it,
//! a bounded number of them, and their answers come in the order in which they are ready.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::DropGuard;

use super::body::MAX_BODY;
use super::events::crowded;
use super::router::{App, wrong_method};
use crate::hive::{Caller, Connection};
use crate::rpc::Subscriptions;

/// Most calls of one connection at a time: with so many under way nothing more is read.
const MAX_CALLS: usize = 32;
/// How long a peer may take to read one message before it counts as gone.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// Between two signs of life.
const PING: Duration = Duration::from_secs(30);

/// Makes a WebSocket of the connection. Without an upgrade `GET` is no method of this path.
pub(super) async fn upgrade(State(app): State<App>, asked: Result<WebSocketUpgrade, WebSocketUpgradeRejection>) -> Response {
    let Ok(upgrade) = asked else { return wrong_method().await };
    let Ok(slot) = Arc::clone(&app.streams).try_acquire_owned() else { return crowded() };
    upgrade.max_message_size(MAX_BODY).max_frame_size(MAX_BODY).on_upgrade(move |socket| Session::new(app, slot).run(socket))
}

/// One connection.
struct Session {
    app: App,
    subscriptions: Subscriptions,
    /// Ended with the connection; what a call has begun goes on as its method says.
    calls: JoinSet<Option<Value>>,
    /// Can be the life of a lease.
    connection: Connection,
    _until_its_end: DropGuard,
    _slot: OwnedSemaphorePermit,
}

/// What happened last.
enum Turn {
    /// These are to be written.
    Say(Vec<Value>),
    /// A sign of life is due.
    Ping,
    /// The hive stops.
    Stop,
    /// The peer has left, or speaks no WebSocket.
    Gone,
}

impl Session {
    fn new(app: App, slot: OwnedSemaphorePermit) -> Self {
        let subscriptions = Subscriptions::new(Arc::clone(&app.state.events));
        let (_until_its_end, connection) = Connection::open();
        Self { app, subscriptions, calls: JoinSet::new(), connection, _until_its_end, _slot: slot }
    }

    async fn run(mut self, mut socket: WebSocket) {
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopping = self.app.state.stopping.clone();
        loop {
            let turn = tokio::select! {
                () = stopping.cancelled() => Turn::Stop,
                _ = pings.tick() => Turn::Ping,
                Some(done) = self.calls.join_next() => Turn::Say(done.ok().flatten().into_iter().collect()),
                told = self.subscriptions.next() => Turn::Say(told),
                heard = socket.recv(), if self.calls.len() < MAX_CALLS => self.hear(heard),
            };
            let said = match turn {
                Turn::Say(values) => say(&mut socket, values.into_iter().map(|v| Message::text(v.to_string()))).await,
                Turn::Ping => say(&mut socket, [Message::Ping(Default::default())]).await,
                Turn::Stop => {
                    let frame = CloseFrame { code: close_code::AWAY, reason: "the hive stops".into() };
                    let _ = say(&mut socket, [Message::Close(Some(frame))]).await;
                    return;
                }
                Turn::Gone => return,
            };
            if said.is_err() {
                return;
            }
        }
    }

    fn hear(&mut self, heard: Option<Result<Message, axum::Error>>) -> Turn {
        let bytes = match heard {
            Some(Ok(Message::Text(text))) => text.as_bytes().to_vec(),
            Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
            // Pings are answered by the protocol itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Turn::Say(vec![]),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Turn::Gone,
        };
        if let Some(answer) = self.subscriptions.answer(&bytes) {
            return Turn::Say(answer.into_iter().collect());
        }
        let rpc = self.app.rpc.clone();
        let caller = Caller { connection: Some(self.connection.clone()), gone: None };
        self.calls.spawn(caller.runs(async move { rpc.handle(&bytes).await }));
        Turn::Say(vec![])
    }
}

/// Errors: the peer has left, or does not read.
async fn say(socket: &mut WebSocket, messages: impl IntoIterator<Item = Message>) -> Result<(), ()> {
    for message in messages {
        match timeout(READ_WITHIN, socket.send(message)).await {
            Ok(Ok(())) => {}
            _ => return Err(()),
        }
    }
    Ok(())
}
