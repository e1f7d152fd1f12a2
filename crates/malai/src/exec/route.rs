//! The route of a command: through the daemon that holds the home, or direct if none does.

use malai_node::Home;
use malai_node::control::{self, Control, ControlError};

/// The route.
#[derive(Debug)]
pub enum Route {
    /// Through the daemon, over its socket, on its pooled connections.
    Daemon(Box<Control>),
    /// Direct, with its own connection.
    Direct,
}

impl Route {
    /// The route for a home. Only the lock decides: a daemon that holds it but does not respond is an error, not a reason to run
    /// the command without it.
    pub fn of(home: &Home) -> Result<Self, ControlError> {
        Ok(control::connect(home)?.map_or(Self::Direct, |control| Self::Daemon(Box::new(control))))
    }
}
