//! `malai stop`: no new sessions, and a grace period for running ones.

use malai_node::Home;
use malai_node::control::{self, ControlError};
use malai_wire::control::{Reply, Request};

use crate::output::Printer;
use crate::output::exit::Exit;

/// Stops the daemon and returns when it has exited.
pub fn run(home: &Home, printer: &Printer) -> anyhow::Result<Exit> {
    let Some(mut control) = control::connect(home)? else {
        printer.out("💤 No daemon is running here\n");
        return Ok(Exit::OK);
    };
    control.send(&Request::Stop, &[])?;
    loop {
        match control.answer() {
            Ok(Reply::Done) => {}
            Ok(_) => anyhow::bail!(
                "the daemon sent an unexpected answer; is it another version? See `malai status`"
            ),
            // The connection ends when the daemon exits.
            Err(ControlError::Gone) => {
                printer.out("✅ malai daemon stopped\n");
                return Ok(Exit::OK);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
