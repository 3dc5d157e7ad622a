//! The two tasks that move the bytes.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{ClientError, Shared, Target};

const READ_BUFFER: usize = 64 * 1024;

/// The tasks of a connection; they end with it.
#[derive(Debug)]
pub(super) struct Tasks {
    handles: [JoinHandle<()>; 2],
    shared: Arc<Shared>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.shared.lose(&ClientError::Closed);
        self.handles.iter().for_each(JoinHandle::abort);
    }
}

/// Opens the transport and starts the tasks.
pub(super) async fn start(target: &Target, shared: &Arc<Shared>) -> Result<Tasks, ClientError> {
    let name = target.to_string();
    let failed =
        |error: std::io::Error| ClientError::Io { target: target.to_string(), error: error.to_string() };
    match target {
        Target::Unix(path) => {
            let (reader, writer) = UnixStream::connect(path).await.map_err(failed)?.into_split();
            Ok(spawn(name, shared, reader, writer))
        }
        Target::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let (reader, writer) = stream.into_split();
            Ok(spawn(name, shared, reader, writer))
        }
    }
}

fn spawn(
    name: String,
    shared: &Arc<Shared>,
    reader: impl AsyncRead + Unpin + Send + 'static,
    writer: impl AsyncWrite + Unpin + Send + 'static,
) -> Tasks {
    let (reading, writing) = (Arc::clone(shared), Arc::clone(shared));
    let (name_of_reader, name_of_writer) = (name.clone(), name);
    let handles = [
        tokio::spawn(async move {
            let error = read(&name_of_reader, &reading, reader).await;
            reading.lose(&error);
        }),
        tokio::spawn(async move {
            let error = write(&name_of_writer, &writing, writer).await;
            writing.lose(&error);
        }),
    ];
    Tasks { handles, shared: Arc::clone(shared) }
}

/// Takes in bytes, and looks at the clock in silences; returns why it ended.
async fn read(target: &str, shared: &Shared, mut reader: impl AsyncRead + Unpin) -> ClientError {
    let origin = Instant::now();
    let mut buffer = vec![0; READ_BUFFER];
    // Nothing is read before.
    let mut rests_until = None;
    loop {
        let (deadline, is_awaited) = {
            let state = shared.lock();
            (origin + state.connection.next_tick(), state.waits_for_answers())
        };
        let read = match rests_until.filter(|_| !is_awaited) {
            Some(rest) => tokio::select! {
                () = tokio::time::sleep_until(deadline.min(rest)) => {
                    if rest <= deadline {
                        rests_until = None;
                        continue;
                    }
                    None
                }
                () = shared.asked.notified() => continue,
            },
            None => tokio::select! {
                read = reader.read(&mut buffer) => Some(read),
                () = tokio::time::sleep_until(deadline) => None,
            },
        };
        let mut state = shared.lock();
        if let Some(error) = &state.lost {
            return error.clone();
        }
        let has_more = matches!(read, Some(Ok(length)) if length == buffer.len());
        let result = match read {
            None => state.connection.tick(origin.elapsed()),
            Some(Ok(0)) => return ClientError::ClosedBySwitch { target: target.to_owned() },
            Some(Ok(length)) => state.connection.receive(&buffer[..length], origin.elapsed()),
            Some(Err(error)) => {
                return ClientError::Io { target: target.to_owned(), error: error.to_string() };
            }
        };
        // What came before an error happened all the same.
        if shared.deliver(&mut state) && !has_more && !shared.rest.is_zero() {
            rests_until = Some(Instant::now() + shared.rest);
        }
        if let Err(error) = result {
            return error.into();
        }
    }
}

/// Sends what there is to send; returns why it ended.
async fn write(target: &str, shared: &Shared, mut writer: impl AsyncWrite + Unpin) -> ClientError {
    loop {
        let output = {
            let mut state = shared.lock();
            if let Some(error) = &state.lost {
                return error.clone();
            }
            let output = state.connection.take_output();
            // A usize has at most 64 bits.
            state.written += output.len() as u64;
            output
        };
        if output.is_empty() {
            shared.output.notified().await;
            continue;
        }
        if let Err(error) = writer.write_all(&output).await {
            return ClientError::Io { target: target.to_owned(), error: error.to_string() };
        }
        shared.space.notify_waiters();
    }
}
