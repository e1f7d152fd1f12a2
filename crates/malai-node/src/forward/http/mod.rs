//! Services that speak HTTP/1.1: each request is told who sends it, and is passed on by itself. Nothing of a connection
//! reaches the service unread, except what follows a switch to WebSocket.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod exchange;
pub(crate) mod guarded;
mod headers;
pub(crate) mod serve;
pub(crate) mod service;
