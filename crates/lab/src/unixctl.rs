//! A client of the control socket of Open vSwitch's daemons.
//!
//! ovs-appctl(8): "ovs-appctl connects to a daemon's control socket and sends a command". The wire is JSON-RPC 1.0 with
//! string parameters and a string result (`lib/unixctl.c`, 3.1). Speaking it directly is some fifteen times as fast as
//! the program, which matters where thousands of frames or traces are sent.

use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Deserializer, Value, json};

use crate::Error;
use crate::error::Tried as _;

/// How long a command may take. `revalidator/wait` on a loaded machine is the slowest there is.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Commands that may wait for their answers at once. The daemon takes no more while it cannot get an answer rid, and a
/// request is at most some 6 kB here: so many fit in a socket's buffer either way, and neither side waits for the other.
const UNANSWERED: usize = 24;

/// One connection to a control socket.
#[derive(Debug)]
pub struct UnixCtl {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    next_id: u64,
}

impl UnixCtl {
    /// Connects to the socket at `path`, usually `<rundir>/ovs-vswitchd.<pid>.ctl`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let what = || format!("connect to {}", path.display());
        let writer = UnixStream::connect(path).tried(what)?;
        writer.set_read_timeout(Some(ANSWER_WITHIN)).tried(what)?;
        writer.set_write_timeout(Some(ANSWER_WITHIN)).tried(what)?;
        let reader = BufReader::new(writer.try_clone().tried(what)?);
        Ok(Self { writer, reader, next_id: 0 })
    }

    /// Sends one command and waits for its answer, the text that `ovs-appctl` would print.
    ///
    /// # Errors
    /// [`Error::Refused`] with the daemon's words; [`Error::Io`] when it has gone or does not answer. After the
    /// latter the connection is of no more use.
    pub fn call(&mut self, method: &str, arguments: &[&str]) -> Result<String, Error> {
        let id = self.send(method, arguments)?;
        self.answer(id, method)
    }

    /// Sends commands, each a method and its arguments, without waiting for one's answer before the next is sent, and
    /// gives their answers in the same order. The daemon takes them one after the other.
    ///
    /// # Errors
    /// As [`UnixCtl::call`], of the first command that fails; after that the connection is of no more use.
    pub fn call_all(&mut self, calls: &[(&str, Vec<&str>)]) -> Result<Vec<String>, Error> {
        let mut answers = Vec::with_capacity(calls.len());
        let first = self.next_id;
        let mut methods = (first..).zip(calls.iter().map(|(method, _)| *method));
        for (sent, (method, arguments)) in calls.iter().enumerate() {
            if sent - answers.len() == UNANSWERED {
                answers.extend(methods.next().map(|(id, method)| self.answer(id, method)).transpose()?);
            }
            self.send(method, arguments)?;
        }
        for (id, method) in methods {
            answers.push(self.answer(id, method)?);
        }
        Ok(answers)
    }

    fn send(&mut self, method: &str, arguments: &[&str]) -> Result<u64, Error> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"id": id, "method": method, "params": arguments}).to_string();
        self.writer.write_all(request.as_bytes()).tried(|| method.to_owned())?;
        Ok(id)
    }

    fn answer(&mut self, id: u64, method: &str) -> Result<String, Error> {
        let reply = Deserializer::from_reader(&mut self.reader)
            .into_iter::<Value>()
            .next()
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
            .and_then(|value| value.map_err(Into::into))
            .tried(|| method.to_owned())?;
        if reply["id"] != json!(id) {
            let reason = format!("answer to another request: {reply}");
            return Err(Error::Refused { method: method.to_owned(), message: reason });
        }
        match (&reply["error"], &reply["result"]) {
            (Value::Null, Value::String(result)) => Ok(result.clone()),
            (Value::Null, other) => {
                Err(Error::Refused { method: method.to_owned(), message: other.to_string() })
            }
            (Value::String(error), _) => {
                Err(Error::Refused { method: method.to_owned(), message: error.trim().to_owned() })
            }
            (error, _) => Err(Error::Refused { method: method.to_owned(), message: error.to_string() }),
        }
    }
}

/// The control socket of one lab's ovs-vswitchd, which moves whenever the daemon starts again.
#[derive(Debug, Default)]
pub(crate) struct SwitchCtl(Mutex<SwitchCtlState>);

#[derive(Debug, Default)]
struct SwitchCtlState {
    socket: Option<PathBuf>,
    connection: Option<UnixCtl>,
}

impl SwitchCtl {
    pub(crate) fn switch_started(&self, socket: PathBuf) {
        *self.state() = SwitchCtlState { socket: Some(socket), connection: None };
    }

    pub(crate) fn switch_ended(&self) {
        *self.state() = SwitchCtlState::default();
    }

    pub(crate) fn connect(&self) -> Result<UnixCtl, Error> {
        let socket = self.state().socket.clone().ok_or(Error::NotRunning("ovs-vswitchd"))?;
        UnixCtl::connect(&socket)
    }

    pub(crate) fn call(&self, method: &str, arguments: &[&str]) -> Result<String, Error> {
        let mut state = self.state();
        let mut connection = match state.connection.take() {
            Some(connection) => connection,
            None => UnixCtl::connect(state.socket.as_deref().ok_or(Error::NotRunning("ovs-vswitchd"))?)?,
        };
        let result = connection.call(method, arguments);
        // After an I/O error the next call starts with a connection of its own.
        if !matches!(result, Err(Error::Io { .. })) {
            state.connection = Some(connection);
        }
        result
    }

    fn state(&self) -> MutexGuard<'_, SwitchCtlState> {
        // A panic elsewhere leaves nothing half done here: the state is replaced whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Answers one connection with `answer`, whatever is asked.
    fn answered_with(answer: &'static str) -> Result<String, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctl");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 256];
            let read = stream.read(&mut buffer).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            serde_json::from_slice::<Value>(&buffer[..read]).unwrap()
        });
        let result = UnixCtl::connect(&path).unwrap().call("version", &["a b"]);
        assert_eq!(server.join().unwrap(), json!({"id": 0, "method": "version", "params": ["a b"]}));
        result
    }

    #[test]
    fn many_answers_come_in_the_order_of_the_commands() {
        const COMMANDS: usize = 3 * UNANSWERED + 1;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctl");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let requests = Deserializer::from_reader(stream.try_clone().unwrap()).into_iter::<Value>();
            let mut writer = stream;
            for request in requests.take(COMMANDS) {
                let request = request.unwrap();
                let answer = json!({"id": request["id"], "result": request["params"][0], "error": null});
                writer.write_all(answer.to_string().as_bytes()).unwrap();
            }
        });
        let words: Vec<String> = (0..COMMANDS).map(|number| number.to_string()).collect();
        let calls: Vec<_> = words.iter().map(|word| ("echo", vec![word.as_str()])).collect();
        let mut ctl = UnixCtl::connect(&path).unwrap();
        assert_eq!(ctl.call("echo", &["first"]).unwrap(), "first");
        assert_eq!(ctl.call_all(&calls[1..]).unwrap(), words[1..]);
        server.join().unwrap();
    }

    #[test]
    fn a_result_is_the_text() {
        assert_eq!(answered_with(r#"{"id":0,"result":"one\ntwo","error":null}"#).unwrap(), "one\ntwo");
    }

    #[test]
    fn an_error_is_the_daemons_words() {
        let error = answered_with(r#"{"id":0,"result":null,"error":"no such bridge\n"}"#).unwrap_err();
        assert_eq!(error.to_string(), "version: no such bridge");
    }

    #[test]
    fn an_answer_to_another_request_is_an_error() {
        assert!(answered_with(r#"{"id":7,"result":"x","error":null}"#).is_err());
    }

    #[test]
    fn a_daemon_that_goes_is_an_error() {
        assert!(matches!(answered_with(""), Err(Error::Io { .. })));
        assert!(matches!(answered_with(r#"{"id":0,"resu"#), Err(Error::Io { .. })));
    }
}
