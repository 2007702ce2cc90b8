//! Processes of a namespace on the caller's own tokio runtime, which waits for their end and serves their pipes.

use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::process::{self, ExitStatus, Output};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixDatagram;
use tokio::process::Child;
use tokio::runtime::Handle;

use super::budget::with_budget;
use crate::call::command::Command;

impl Command {
    /// Sets whether a process that was started by [`Command::spawn_async`] is killed when its handle is dropped:
    /// [`tokio::process::Command::kill_on_drop`]. Dropping the future of [`Command::status_async`] or
    /// [`Command::output_async`] drops the handle.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Command {
        self.kill_on_drop = kill;
        self
    }

    /// Starts the process, and returns it as a process of the caller's tokio runtime:
    /// [`tokio::process::Command::spawn`].
    ///
    /// The executor's thread waits until the program is loaded, as with tokio's own.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled. No process was started then.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let ns = in_netns::NetNs::new()?;
    /// let mut child = ns.command("sleep").arg("1000").kill_on_drop(true).spawn_async()?;
    /// child.kill().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn_async(&mut self) -> io::Result<Child> {
        // It panics outside of a runtime, before a process is started.
        let _ = Handle::current();
        // tokio registers the process after it has started it, and gives it away where it cannot: without an I/O
        // driver it panics, and a runtime that has been shut down is an error. So a descriptor is registered first.
        UnixDatagram::unbound().map_err(|source| self.not_registered(source))?;
        let kill_on_drop = self.kill_on_drop;
        self.start(
            |std| {
                // tokio's command takes the value, which is taken back even if tokio panics.
                let taken = mem::replace(std, process::Command::new(""));
                let tokio = tokio::process::Command::from(taken);
                let mut tokio = scopeguard::guard(tokio, |mut tokio| mem::swap(tokio.as_std_mut(), std));
                tokio.kill_on_drop(kill_on_drop).spawn()
            },
            Child::id,
        )
    }

    /// Runs the process to its end, and returns its status: [`tokio::process::Command::status`].
    ///
    /// Pipes to the process are closed when it has started, because nothing here would serve them. The process goes on
    /// if the future is dropped, unless [`Command::kill_on_drop`] is set.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    ///
    /// # Panics
    ///
    /// As [`Command::spawn_async`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let ns = in_netns::NetNs::new()?;
    /// assert!(ns.command("true").status_async().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn status_async(&mut self) -> io::Result<ExitStatus> {
        let mut child = self.spawn_async()?;
        // The process would wait forever for a pipe that is open and not served.
        drop((child.stdin.take(), child.stdout.take(), child.stderr.take()));
        with_budget(child.wait()).await.map_err(|source| self.not_waited(source))
    }

    /// Runs the process to its end, and returns its status and output, with the streams of [`Command::output`]. The
    /// process goes on if the future is dropped, unless [`Command::kill_on_drop`] is set.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    ///
    /// # Panics
    ///
    /// As [`Command::spawn_async`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let ns = in_netns::NetNs::new()?;
    /// let output = ns.command("ls").arg("/proc/self/task").output_async().await?;
    /// assert!(output.status.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn output_async(&mut self) -> io::Result<Output> {
        let child = self.with_captured_streams(Command::spawn_async)?;
        wait_with_output(child).await.map_err(|source| self.not_waited(source))
    }
}

/// As [`Child::wait_with_output`], with a unit of the task's budget for each read: see [`with_budget`].
async fn wait_with_output(mut child: Child) -> io::Result<Output> {
    let mut stdout = pin!(read_to_end(child.stdout.take()));
    let mut stderr = pin!(read_to_end(child.stderr.take()));
    // It closes the pipe to the process first.
    let mut status = pin!(with_budget(child.wait()));
    let (mut ended, mut read) = (None, (None, None));
    poll_fn(|cx| {
        poll_once(status.as_mut(), &mut ended, cx)?;
        poll_once(stdout.as_mut(), &mut read.0, cx)?;
        poll_once(stderr.as_mut(), &mut read.1, cx)?;
        Poll::Ready(match (ended, &mut read) {
            (Some(status), (Some(stdout), Some(stderr))) => {
                Ok(Output { status, stdout: mem::take(stdout), stderr: mem::take(stderr) })
            }
            _ => return Poll::Pending,
        })
    })
    .await
}

/// Polls a future that has no output yet.
fn poll_once<T>(
    future: Pin<&mut impl Future<Output = io::Result<T>>>,
    output: &mut Option<T>,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    if output.is_none() {
        if let Poll::Ready(result) = future.poll(cx) {
            *output = Some(result?);
        }
    }
    Ok(())
}

async fn read_to_end(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    /// The capacity of a pipe.
    const MOST: usize = 1 << 16;

    let mut all = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(all) };
    let mut chunk = vec![0; MOST];
    loop {
        let read = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut chunk);
            Pin::new(&mut pipe).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
        });
        match with_budget(read).await? {
            0 => return Ok(all),
            length => all.extend_from_slice(&chunk[..length]),
        }
    }
}
