//! `malai stop`: no new sessions, and a grace period for running ones.

use malai_node::Home;
use malai_node::control::{self, ControlError};
use malai_wire::control::{Reply, Request};

use crate::output::Printer;
use crate::output::exit::Exit;

/// Stops the daemon and returns when it has ended.
pub fn run(home: &Home, printer: &Printer) -> anyhow::Result<Exit> {
    let Some(mut control) = control::connect(home)? else {
        printer.out("💤 No daemon runs here\n");
        return Ok(Exit::OK);
    };
    control.send(&Request::Stop, &[])?;
    loop {
        match control.answer() {
            Ok(Reply::Done) => {}
            Ok(_) => anyhow::bail!(
                "the daemon answered with something else; is it another version? `malai status` says"
            ),
            // The end of the connection is the end of the daemon.
            Err(ControlError::Gone) => {
                printer.out("✅ malai daemon stopped\n");
                return Ok(Exit::OK);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
