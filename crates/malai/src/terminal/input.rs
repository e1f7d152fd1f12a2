//! Waits for typed input, without being stopped by job control.

use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::is_foreground;

/// How often a process in the background checks whether it is in the foreground, because there is no event for that.
const BACKGROUND: Duration = Duration::from_millis(100);

/// Waits until something is typed on standard input, a terminal; false once it `is_over`. Calls `in_foreground` when this
/// process has moved there from the background.
///
/// A process that reads from a terminal in the background is stopped by the system (SIGTTIN), and then ignores requests to end:
/// `timeout` puts its command in the background, and would wait for it forever.
pub fn wait(is_over: impl Fn() -> bool, in_foreground: impl Fn()) -> bool {
    let input = io::stdin();
    let mut in_background = false;
    loop {
        if is_over() {
            return false;
        }
        if is_foreground(input.as_fd()) {
            if std::mem::take(&mut in_background) {
                in_foreground();
            }
            let mut typed = [PollFd::new(&input, PollFlags::IN)];
            // Checked again then: the process may have moved to the background meanwhile.
            if rustix::event::poll(&mut typed, None).is_ok() && is_foreground(input.as_fd()) {
                return true;
            }
        } else {
            in_background = true;
            thread::sleep(BACKGROUND);
        }
    }
}
