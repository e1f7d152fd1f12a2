//! Which way a command goes: through the daemon that holds the home, or by itself if none does.

use malai_node::Home;
use malai_node::control::{self, Control, ControlError};

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
        Ok(control::connect(home)?.map_or(Self::Direct, |control| Self::Daemon(Box::new(control))))
    }
}
