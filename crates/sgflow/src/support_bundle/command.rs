//! Programs of this system whose words are a part of the bundle: fixed commands, nothing of which comes from elsewhere.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::archive::PART_BYTES;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of what one complains about, so much is told.
const COMPLAINT_BYTES: u64 = 4096;

/// What a program prints.
pub(super) async fn output(command: &[&str]) -> anyhow::Result<String> {
    let [program, arguments @ ..] = command else { bail!("no program") };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| (*program).to_owned())?;
    let (printed, complained) = (child.stdout.take(), child.stderr.take());
    // One byte more than is kept, so that it is seen that there is more.
    let both =
        async { tokio::join!(read(printed, PART_BYTES as u64 + 1), read(complained, COMPLAINT_BYTES)) };
    let late = || format!("{program}: not done within {} s", PATIENCE.as_secs());
    let (printed, complaint) = timeout(PATIENCE, both).await.with_context(late)?;
    let printed = printed?;
    // It may wait for ever for somebody to read the rest.
    if printed.len() > PART_BYTES {
        return Ok(printed);
    }
    let status = timeout(PATIENCE, child.wait()).await.with_context(late)??;
    if !status.success() {
        bail!("{program}: {status}: {}", complaint.unwrap_or_default().trim());
    }
    Ok(printed)
}

async fn read(stream: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(most).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_printed_is_had_and_a_failure_told_with_its_words() {
        assert_eq!(output(&["echo", "a", "b"]).await.unwrap(), "a b\n");
        let failed = output(&["sh", "-c", "echo why >&2; exit 3"]).await.unwrap_err();
        assert_eq!(failed.to_string(), "sh: exit status: 3: why");
        assert!(output(&["/nonexistent/program"]).await.unwrap_err().to_string().starts_with("/nonexistent"));
    }

    #[tokio::test]
    async fn what_never_ends_is_cut() {
        assert_eq!(output(&["yes"]).await.unwrap().len(), PART_BYTES + 1);
    }
}
