//! Standard input and output as one end of a connection.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

/// Standard input and output, copied to and from a socket by two threads: a terminal or a file cannot be awaited.
pub struct StandardStreams {
    written: tokio::sync::oneshot::Receiver<()>,
}

impl StandardStreams {
    /// Starts to copy.
    ///
    /// # Errors
    ///
    /// The socket cannot be used twice.
    pub fn start(socket: UnixStream) -> io::Result<Self> {
        let mut to = socket.try_clone()?;
        // Ends with the process: a blocked read cannot be cancelled.
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut stdin = io::stdin().lock();
            loop {
                match stdin.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        if to.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
        let (done, written) = tokio::sync::oneshot::channel();
        let mut from = socket;
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut stdout = io::stdout().lock();
            loop {
                match from.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        let written = stdout.write_all(&buffer[..count]);
                        if written.and_then(|()| stdout.flush()).is_err() {
                            // The reader has gone: the service is told.
                            let _ = from.shutdown(Shutdown::Both);
                            break;
                        }
                    }
                }
            }
            let _ = done.send(());
        });
        Ok(Self { written })
    }

    /// Waits until everything has been written.
    pub async fn rest(self) {
        let _ = self.written.await;
    }
}
