//! How much a peer may have in flight on a connection, sent but not yet read: what its sessions need at present.

use std::sync::Arc;

use iroh::endpoint::Connection;
use malai_cluster::MachineId;
use malai_wire::Refusal;
use parking_lot::Mutex;

use crate::net::endpoint::{SEND_WINDOW, STREAM_WINDOW, WINDOW};
use crate::node::limits::{CountGuard, Limiter};

/// A grown window is announced in steps of at least this size, because each is a frame to the peer.
const STEP: u64 = 64 * 1024;

/// What the input of a terminal may have on its way: it is typed, or pasted.
const TERMINAL_WINDOW: u64 = 64 * 1024;

/// What the input of a command may have on its way where its member has many: 10 Mbit/s at 100 ms for each.
const SHARED_INPUT_WINDOW: u64 = 128 * 1024;

/// The same for a connection to a service, of which a member may have a thousand.
const CONNECTION_WINDOW: u64 = 16 * 1024;

/// How many bytes of windows this side's own sessions get before its connections to services get only
/// [`CONNECTION_WINDOW`] more. Until then each has a stream's whole window, so that one whose reader has stopped does not
/// hold up the others.
const AMPLE: u64 = 32 * STREAM_WINDOW as u64;

/// What a session of the peer's reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing.
    None,
    /// What is typed.
    Terminal,
    /// Anything.
    Stream,
    /// Anything, for one of many connections to services.
    Connection,
}

impl Input {
    /// What it may have on its way, in bytes: a stream's whole window, or less where its member has many.
    fn window(self, is_ample: bool) -> u64 {
        match self {
            Self::None => 0,
            Self::Terminal => TERMINAL_WINDOW,
            Self::Stream if !is_ample => SHARED_INPUT_WINDOW,
            Self::Connection if !is_ample => CONNECTION_WINDOW,
            Self::Stream | Self::Connection => STREAM_WINDOW.into(),
        }
    }
}

/// The windows of one connection.
#[derive(Debug)]
pub(crate) struct Windows {
    connection: Connection,
    peer: MachineId,
    limiter: Arc<Limiter>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window: ReceiveWindow,
    /// What the sessions of this side need.
    outbound: u64,
    /// What the sessions of the peer need.
    inbound: u64,
    /// What is reserved for the peer's sessions. It is kept until what the peer was granted has been used up.
    reserved: CountGuard<MachineId>,
    /// What is reserved for output to the peer's sessions. It is kept as long as the connection: what the peer has not
    /// acknowledged stays in memory until then.
    sending: Option<CountGuard<MachineId>>,
}

/// A session's share of the window. Dropping it returns the share.
#[derive(Debug)]
pub(crate) struct WindowShare {
    windows: Arc<Windows>,
    outbound: u64,
    inbound: u64,
    is_shared: bool,
}

impl Windows {
    /// The window of a connection without sessions.
    pub(crate) fn new(connection: Connection, peer: MachineId, limiter: Arc<Limiter>) -> Arc<Self> {
        Arc::new(Self {
            connection,
            peer,
            state: Mutex::new(State {
                window: ReceiveWindow::new(WINDOW.into()),
                outbound: 0,
                inbound: 0,
                reserved: limiter.receive_buffer(peer),
                sending: None,
            }),
            limiter,
        })
    }

    /// The share of a session that this side opens: enough for both its output streams, so that one that is not read does
    /// not hold up the other.
    pub(crate) fn outbound(self: &Arc<Self>) -> WindowShare {
        let mut state = self.state.lock();
        self.share(&mut state, 2 * u64::from(STREAM_WINDOW), 0)
    }

    /// The share of a connection to a service of the peer.
    pub(crate) fn outbound_connection(self: &Arc<Self>) -> WindowShare {
        let mut state = self.state.lock();
        let bytes = Input::Connection.window(state.outbound < AMPLE);
        self.share(&mut state, bytes, 0)
    }

    /// The share of a session of the peer's: its input's, if it has one. The connection's first one also reserves what
    /// its output may have on its way.
    ///
    /// # Errors
    ///
    /// A limit of what members may have on their way is reached.
    pub(crate) fn inbound(self: &Arc<Self>, input: Input) -> Result<WindowShare, Refusal> {
        let mut state = self.state.lock();
        if state.sending.is_none() {
            state.sending = Some(self.limiter.send_buffer(self.peer, SEND_WINDOW)?);
        }
        let (inbound, reserved) = (state.inbound, state.reserved_bytes());
        let missing = |bytes: u64| (inbound + bytes).saturating_sub(reserved);
        let whole = missing(input.window(true));
        let is_ample = self.limiter.has_ample_receive_buffer(&self.peer, whole);
        let bytes = input.window(is_ample);
        let is_shared = input == Input::Stream && !is_ample;
        let missing = missing(bytes);
        if missing > 0 {
            self.limiter
                .grow_receive_buffer(&mut state.reserved, missing)?;
        }
        let mut share = self.share(&mut state, 0, bytes);
        share.is_shared = is_shared;
        Ok(share)
    }

    fn share(self: &Arc<Self>, state: &mut State, outbound: u64, inbound: u64) -> WindowShare {
        state.outbound += outbound;
        state.inbound += inbound;
        self.update(state, 0);
        WindowShare {
            windows: self.clone(),
            outbound,
            inbound,
            is_shared: false,
        }
    }

    /// Records that this many bytes of a raw stream were read.
    pub(crate) fn read(&self, bytes: u64) {
        let mut state = self.state.lock();
        if !state.window.is_settled() {
            self.update(&mut state, bytes);
        }
    }

    fn update(&self, state: &mut State, read: u64) {
        let target = u64::from(WINDOW) + state.outbound + state.inbound;
        if let Some(window) = state.window.update(target, read) {
            let window = u32::try_from(window).unwrap_or(u32::MAX);
            self.connection.set_receive_window(window.into());
        }
        // A grant cannot be taken back, so it stays reserved until the peer has used it.
        let granted = state.window.allowance - u64::from(WINDOW);
        let needed = granted.saturating_sub(state.outbound).max(state.inbound);
        state.reserved.shrink_to(needed as usize);
    }
}

impl State {
    fn reserved_bytes(&self) -> u64 {
        self.reserved.count() as u64
    }
}

impl WindowShare {
    /// How many bytes of its input the client may have on their way, if it has to be told: the window of the stream is
    /// larger, and all streams of a connection share the connection's, so inputs that are not read would hold up the others.
    pub(crate) fn input_window(&self) -> Option<u64> {
        self.is_shared.then_some(self.inbound)
    }
}

impl Drop for WindowShare {
    fn drop(&mut self) {
        let mut state = self.windows.state.lock();
        state.outbound -= self.outbound;
        state.inbound -= self.inbound;
        self.windows.update(&mut state, 0);
    }
}

/// What QUIC has granted. A smaller window takes nothing back; instead, bytes read do not earn the peer new credit until
/// the difference is paid. A window that grows again before that must not grant the same credit twice, so it grows as
/// the difference is paid.
#[derive(Debug)]
struct ReceiveWindow {
    /// The window that QUIC has.
    window: u64,
    /// The most that the peer may have unread now. Above the window by what is not paid yet.
    allowance: u64,
    target: u64,
}

impl ReceiveWindow {
    fn new(window: u64) -> Self {
        Self {
            window,
            allowance: window,
            target: window,
        }
    }

    /// Whether the window has its target size and nothing remains to be paid.
    fn is_settled(&self) -> bool {
        self.window == self.target && self.allowance == self.window
    }

    /// Sets a target and records bytes read. Returns the new window for QUIC, if it changes.
    fn update(&mut self, target: u64, read: u64) -> Option<u64> {
        self.target = target;
        self.allowance -= read.min(self.allowance - self.window);
        if target < self.window {
            self.window = target;
            return Some(target);
        }
        let missing = target - self.window;
        let growth = missing.min(target.saturating_sub(self.allowance));
        if growth < STEP.min(missing) || growth == 0 {
            return None;
        }
        self.window += growth;
        self.allowance += growth;
        Some(self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::ReceiveWindow;

    /// Flow control as noq does it.
    #[derive(Debug)]
    struct Quic {
        window: u64,
        /// What the peer may have sent in all, and what was read of it.
        granted: u64,
        read: u64,
        debt: u64,
    }

    impl Quic {
        fn set_window(&mut self, window: u64) {
            if window > self.window {
                self.granted += window - self.window;
            } else {
                self.debt += self.window - window;
            }
            self.window = window;
        }

        fn read(&mut self, bytes: u64) {
            self.read += bytes;
            self.granted += bytes - bytes.min(self.debt);
            self.debt -= bytes.min(self.debt);
        }
    }

    const MIB: u64 = 1 << 20;

    /// Numbers that look random, the same in each run.
    fn numbers() -> impl FnMut(u64) -> u64 {
        let mut state = 7_u64;
        move |below| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        }
    }

    #[test]
    fn the_peer_never_gets_more_than_the_largest_target_and_in_the_end_what_is_needed() {
        let mut number = numbers();
        for _ in 0..1_000 {
            let mut ours = ReceiveWindow::new(MIB);
            let mut quic = Quic {
                window: MIB,
                granted: MIB,
                read: 0,
                debt: 0,
            };
            let (mut most, mut last) = (MIB, MIB);
            let step = |quic: &mut Quic, ours: &mut ReceiveWindow, target, read| {
                quic.read(read);
                if let Some(window) = ours.update(target, read) {
                    quic.set_window(window);
                }
                assert_eq!(ours.allowance, quic.granted - quic.read);
            };
            for _ in 0..=number(40) {
                last = (1 + number(20)) * MIB;
                most = most.max(last);
                let read = number(8 * MIB).min(quic.granted - quic.read);
                step(&mut quic, &mut ours, last, read);
                assert!(quic.granted - quic.read <= most);
            }
            // What flows pays for the changes.
            for _ in 0..200 {
                let read = quic.granted - quic.read;
                step(&mut quic, &mut ours, last, read);
            }
            assert_eq!((quic.window, quic.granted - quic.read), (last, last));
            assert!(ours.is_settled());
        }
    }
}
