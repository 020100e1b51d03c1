//! One HTTP probe.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;

use crate::reach::Dialer;

/// Most of an answer that is read, bytes.
const MAX_BODY: usize = 64 * 1024;

/// `GET path`: `Ok` for a 2xx answer, else what was seen.
pub(super) async fn get(dialer: &Dialer, path: &str) -> Result<(), String> {
    let stream = dialer.connect().await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let ask = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        if status.is_success() {
            // Not read any further: an answer whose body never ends is an answer.
            return Ok(());
        }
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let text: String = String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(200).collect();
        Err(format!("GET {path} gave {status}: {text}"))
    };
    tokio::pin!(ask);
    tokio::pin!(connection);
    tokio::select! {
        asked = &mut ask => asked,
        // The connection may end first, with the answer already on its way.
        _ = &mut connection => ask.await,
    }
}
