//! The command line's end of the control API.
//!
//! Not in here: TCP and tokens (curl and scripts use those), and what is shown to people.

use core::{future::Future, time::Duration};
use std::{
    io,
    path::{Path, PathBuf},
};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header::HOST};
use serde::de::DeserializeOwned;
use smol::{Timer, future::FutureExt as _, net::unix::UnixStream};
use smol_hyper::rt::FuturesIo;

use super::{
    api::SIGNATURE_HEADER,
    model::{Ask, Done, Installed, Problem, Survey},
};
use crate::limits::CONTROL_ANSWER_MAX_BYTES;

/// A change writes flash, which on a slow part takes seconds; longer means that nobody answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Talks to the gateway behind one Unix socket, one connection for each question.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the gateway at `path`. Nothing is connected yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the gateway is expected.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `GET`, JSON.
    ///
    /// # Errors
    /// One line with the remedy.
    pub fn read<T: DeserializeOwned>(&self, place: &str) -> Result<T, String> {
        let body = self.ask(Method::GET, place, Bytes::new(), None)?;
        serde_json::from_slice(&body).map_err(|wrong| {
            format!("the gateway answers {place} in a form that this program does not know ({wrong}); are both of one version?")
        })
    }

    /// `GET`, text.
    ///
    /// # Errors
    /// One line with the remedy.
    pub fn read_text(&self, place: &str) -> Result<String, String> {
        let body = self.ask(Method::GET, place, Bytes::new(), None)?;
        String::from_utf8(body.into()).map_err(|_| format!("the answer to {place} is no text"))
    }

    /// A change: what changed, in one line.
    ///
    /// # Errors
    /// What the gateway said against it, in one line.
    pub fn change(&self, method: Method, place: &str, body: String) -> Result<String, String> {
        self.done(method, place, body).map(|done| done.changed)
    }

    /// A change: what changed, and what is left to do.
    ///
    /// # Errors
    /// What the gateway said against it, in one line.
    pub fn done(&self, method: Method, place: &str, body: String) -> Result<Done, String> {
        let body = self.ask(method, place, body.into(), None)?;
        serde_json::from_slice(&body)
            .map_err(|wrong| format!("the gateway answers {place} oddly ({wrong})"))
    }

    /// Has the gateway look at an origin or a URL.
    ///
    /// # Errors
    /// What the gateway said against it, in one line.
    pub fn probe(&self, ask: &Ask) -> Result<Survey, String> {
        let body = serde_json::to_vec(ask).map_err(|wrong| wrong.to_string())?;
        let body = self.ask(Method::POST, "/v1/probe", body.into(), None)?;
        serde_json::from_slice(&body)
            .map_err(|wrong| format!("the gateway answers /v1/probe oddly ({wrong})"))
    }

    /// Puts a component into a slot; `options` is the query, `signature` the text of its file.
    ///
    /// # Errors
    /// What the gateway said against it, in one line.
    pub fn install(
        &self,
        slot: &str,
        options: &str,
        component: Vec<u8>,
        signature: Option<&str>,
    ) -> Result<Installed, String> {
        let place = format!("/v1/plugins/{slot}{options}");
        let body = self.ask(Method::PUT, &place, component.into(), signature)?;
        serde_json::from_slice(&body)
            .map_err(|wrong| format!("the gateway answers {place} oddly ({wrong})"))
    }

    fn ask(
        &self,
        method: Method,
        place: &str,
        body: Bytes,
        signature: Option<&str>,
    ) -> Result<Bytes, String> {
        let asked = async {
            let stream =
                UnixStream::connect(&self.path).await.map_err(|wrong| self.unreachable(&wrong))?;
            exchange(stream, method, place, body, signature).await
        };
        let late = async {
            Timer::after(PATIENCE).await;
            Err(format!("the gateway has not answered for {} s", PATIENCE.as_secs()))
        };
        smol::block_on(asked.or(late))
    }

    fn unreachable(&self, wrong: &io::Error) -> String {
        let place = self.path.display();
        match wrong.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
                "no gateway answers at {place}: is `edgeweir run` running? \
                 (another place: --control PATH or EDGEWEIR_CONTROL)"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "this user may not talk to the gateway at {place}: become a member of the socket's \
                 group, or root"
            ),
            _ => format!("cannot reach the gateway at {place}: {wrong}"),
        }
    }
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    place: &str,
    body: Bytes,
    signature: Option<&str>,
) -> Result<Bytes, String> {
    let broke = |wrong: hyper::Error| format!("the gateway broke off its answer: {wrong}");
    let (mut sender, connection) = http1::handshake(FuturesIo::new(stream)).await.map_err(broke)?;
    let mut request = Request::builder().method(method).uri(place).header(HOST, "edgeweir");
    if let Some(signature) = signature {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        request = request.header(SIGNATURE_HEADER, STANDARD.encode(signature));
    }
    let request = request
        .body(Full::new(body))
        .map_err(|wrong| format!("this cannot be asked of the gateway: {wrong}"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broke)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), CONTROL_ANSWER_MAX_BYTES)
            .collect()
            .await
            .map_err(|wrong| format!("the gateway broke off its answer: {wrong}"))?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => problem.detail,
            Err(_) => format!("the gateway answers {status}"),
        })
    };
    alongside(answer, async {
        // What went wrong here comes out of the answer as well.
        let _ = connection.await;
    })
    .await
}

/// The result of `first`, with `second` driven as long as that takes.
async fn alongside<T>(first: impl Future<Output = T>, second: impl Future<Output = ()>) -> T {
    let second = async {
        second.await;
        smol::future::pending().await
    };
    first.or(second).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_there_is_said_with_the_remedy() {
        let client = Client::new("/nonexistent/edgeweir.sock");
        let wrong = client.read::<Vec<u8>>("/v1/status").unwrap_err();
        assert_eq!(
            wrong,
            "no gateway answers at /nonexistent/edgeweir.sock: is `edgeweir run` running? \
             (another place: --control PATH or EDGEWEIR_CONTROL)"
        );
    }
}
