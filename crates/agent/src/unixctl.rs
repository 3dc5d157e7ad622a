//! The control socket of ovs-vswitchd, for what cannot be asked otherwise.
//!
//! ovs-appctl(8): "ovs-appctl connects to a daemon's control socket and sends a command". The wire is JSON-RPC 1.0
//! with string parameters and a string result (lib/unixctl.c, OVS 3.1).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// An answer longer than this is not one of the commands we send.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A command that did not come off.
#[derive(Debug, Error)]
pub enum UnixctlError {
    /// Nobody there, or gone.
    #[error("{path}: {reason}")]
    Io {
        /// Of the socket or pid file.
        path: PathBuf,
        /// The system's words.
        reason: std::io::Error,
    },
    /// The daemon refused it.
    #[error("{method}: {reason}")]
    Refused {
        /// The command.
        method: String,
        /// Its words.
        reason: String,
    },
    /// No answer in time.
    #[error("{method}: no answer within {seconds} s")]
    Timeout {
        /// The command.
        method: String,
        /// How long we waited.
        seconds: u64,
    },
}

/// The control socket of the ovs-vswitchd whose pid file is in `rundir` (`ovs-vswitchd.<pid>.ctl`).
pub async fn vswitchd_socket(rundir: &Path) -> Result<PathBuf, UnixctlError> {
    let path = rundir.join("ovs-vswitchd.pid");
    let text = tokio::fs::read_to_string(&path)
        .await
        .map_err(|reason| UnixctlError::Io { path: path.clone(), reason })?;
    let pid: u32 = text.trim().parse().map_err(|_| UnixctlError::Io {
        path: path.clone(),
        reason: std::io::Error::new(std::io::ErrorKind::InvalidData, "no pid in it"),
    })?;
    Ok(rundir.join(format!("ovs-vswitchd.{pid}.ctl")))
}

/// A connection to a control socket. It can be kept: the daemon reads the next command when it has answered the one before
/// (lib/unixctl.c: `run_connection`). After an error it is of no more use.
#[derive(Debug)]
pub struct Control {
    socket: PathBuf,
    stream: UnixStream,
    /// The command that was sent and not answered yet.
    method: &'static str,
}

impl Control {
    /// Connects to a control socket.
    pub async fn connect(socket: PathBuf) -> Result<Self, UnixctlError> {
        match UnixStream::connect(&socket).await {
            Ok(stream) => Ok(Control { socket, stream, method: "" }),
            Err(reason) => Err(UnixctlError::Io { path: socket, reason }),
        }
    }

    /// Sends a command without parameters and waits for its answer, at most `within`.
    pub async fn ask(&mut self, method: &'static str, within: Duration) -> Result<String, UnixctlError> {
        self.send(method).await?;
        self.answer(within).await
    }

    /// Sends a command with parameters and waits for its answer, at most `within`.
    pub async fn ask_about(
        &mut self,
        method: &'static str,
        parameters: &[&str],
        within: Duration,
    ) -> Result<String, UnixctlError> {
        self.send_with(method, parameters).await?;
        self.answer(within).await
    }

    /// Sends a command without parameters, which [`Control::answer`] is to follow.
    pub async fn send(&mut self, method: &'static str) -> Result<(), UnixctlError> {
        self.send_with(method, &[]).await
    }

    async fn send_with(&mut self, method: &'static str, parameters: &[&str]) -> Result<(), UnixctlError> {
        self.method = method;
        let request = json!({"id": 0, "method": method, "params": parameters}).to_string();
        self.stream.write_all(request.as_bytes()).await.map_err(|reason| self.io(reason))
    }

    /// Waits for the answer to the command that was sent, at most `within`.
    pub async fn answer(&mut self, within: Duration) -> Result<String, UnixctlError> {
        let method = self.method.to_owned();
        let answer = tokio::time::timeout(within, self.read()).await;
        answer.map_err(|_| UnixctlError::Timeout { method, seconds: within.as_secs() })?
    }

    async fn read(&mut self) -> Result<String, UnixctlError> {
        let method = self.method;
        let refused = |reason: String| UnixctlError::Refused { method: method.to_owned(), reason };
        let mut answer = Vec::new();
        loop {
            if self.stream.read_buf(&mut answer).await.map_err(|reason| self.io(reason))? == 0 {
                return Err(self.io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            // A long answer is not tried at each of its pieces.
            if answer.trim_ascii_end().last() != Some(&b'}') && answer.len() < MAX_ANSWER_BYTES {
                continue;
            }
            match serde_json::from_slice::<Value>(&answer) {
                Ok(reply) => {
                    return match (&reply["error"], &reply["result"]) {
                        (Value::Null, Value::String(result)) => Ok(result.clone()),
                        (Value::String(error), _) => Err(refused(error.trim().to_owned())),
                        _ => Err(refused(format!("answered {reply}"))),
                    };
                }
                Err(error) if error.is_eof() && answer.len() < MAX_ANSWER_BYTES => {}
                Err(error) => return Err(refused(format!("answer is no JSON: {error}"))),
            }
        }
    }

    fn io(&self, reason: std::io::Error) -> UnixctlError {
        UnixctlError::Io { path: self.socket.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// What `ask` makes of `pieces`, sent one after the other as the answer.
    async fn answered_with(pieces: &'static [&'static str]) -> Result<String, UnixctlError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctl");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 256];
            let length = stream.read(&mut request).await.unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            serde_json::from_slice::<Value>(&request[..length]).unwrap()
        });
        let mut control = Control::connect(path).await.unwrap();
        let result = control.ask("revalidator/wait", Duration::from_secs(10)).await;
        assert_eq!(server.await.unwrap(), json!({"id": 0, "method": "revalidator/wait", "params": []}));
        result
    }

    #[tokio::test]
    async fn an_answer_is_read_in_pieces() {
        let answer = answered_with(&[r#"{"id":0,"res"#, r#"ult":"","error":null}"#]).await;
        assert_eq!(answer.unwrap(), "");
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_daemons_words() {
        let answer = answered_with(&[
            r#"{"id":0,"result":null,"error":"\"revalidator/wait\" is not a valid command\n"}"#,
        ]);
        assert_eq!(
            answer.await.unwrap_err().to_string(),
            "revalidator/wait: \"revalidator/wait\" is not a valid command"
        );
    }

    #[tokio::test]
    async fn a_daemon_that_goes_is_an_error() {
        assert!(matches!(answered_with(&["{"]).await, Err(UnixctlError::Io { .. })));
        let nowhere = Control::connect("/nonexistent/ctl".into()).await;
        assert!(matches!(nowhere, Err(UnixctlError::Io { .. })));
    }

    #[tokio::test]
    async fn the_socket_is_named_by_the_pid_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(vswitchd_socket(dir.path()).await.is_err());
        std::fs::write(dir.path().join("ovs-vswitchd.pid"), "4711\n").unwrap();
        let socket = vswitchd_socket(dir.path()).await.unwrap();
        assert_eq!(socket, dir.path().join("ovs-vswitchd.4711.ctl"));
    }
}
