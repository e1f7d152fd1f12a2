//! Which way a command goes: through the daemon that holds the home, or by itself if none does.

use malai_node::control::client::{self, Control, ControlError};
use malai_node::home::Home;

/// The way.
#[derive(Debug)]
pub enum Route {
    /// Through the daemon, over its socket, on its pooled connections.
    Daemon(Box<Control>),
    /// By itself, with a connection of its own.
    Direct,
}

impl Route {
    /// The way for a home. The lock alone decides: a daemon that holds it and does not answer is an
    /// error, not a reason to go around it.
    pub fn of(home: &Home) -> Result<Self, ControlError> {
        Ok(client::connect(home)?.map_or(Self::Direct, |control| Self::Daemon(Box::new(control))))
    }
}
