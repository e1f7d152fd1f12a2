//! A request on the control socket, with the descriptors that come with it.

use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;

use malai_wire::control::{self, PREAMBLE, Request};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::control::take_message;
use crate::os::fd;

/// What has arrived before the request was complete.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// How many descriptors a command has: its standard streams.
const DESCRIPTORS: usize = 3;

impl Received {
    /// Receives the preamble, the request and its descriptors; `None` if the client sends nothing, or speaks another version,
    /// which the daemon's own preamble has told it.
    pub(super) async fn request(&mut self, stream: &UnixStream) -> io::Result<Option<Request>> {
        let mut greeted = false;
        loop {
            if !greeted && let Some(preamble) = self.bytes.first_chunk::<PREAMBLE>() {
                if control::parse_preamble(*preamble) != Some(control::VERSION) {
                    return Ok(None);
                }
                self.bytes.drain(..PREAMBLE);
                greeted = true;
            }
            if greeted && let Some(request) = take_message(&mut self.bytes)? {
                return Ok(request);
            }
            if stream
                .async_io(Interest::READABLE, || self.receive(stream))
                .await?
                == 0
            {
                return Ok(None);
            }
        }
    }

    fn receive(&mut self, stream: &UnixStream) -> io::Result<usize> {
        let mut buffer = [0; 4 * 1024];
        let mut space =
            [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = rustix::net::recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for node in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = node {
                self.descriptors.extend(descriptors);
            }
        }
        // Many connections that were accepted together can send theirs together.
        if let Some(newest) = self.descriptors.last() {
            fd::make_room(newest);
        }
        let is_cut = message.flags.contains(ReturnFlags::CTRUNC);
        if is_cut && self.descriptors.len() < DESCRIPTORS {
            // The system passes on as many as this process may have.
            return Err(io::Error::other(fd::out_of_descriptors()));
        }
        if is_cut || self.descriptors.len() > DESCRIPTORS {
            return Err(io::Error::other("more descriptors than a command has"));
        }
        self.bytes.extend_from_slice(&buffer[..message.bytes]);
        Ok(message.bytes)
    }
}
