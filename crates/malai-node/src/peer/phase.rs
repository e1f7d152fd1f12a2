//! The phases of a connection, from the first packet to its end.

use std::time::{Duration, Instant};

use malai_wire::peer::hello::Hello;

use crate::os::clock::BoundedInstant;

/// The peer's hello, and when it arrived.
#[derive(Debug, Clone)]
pub(crate) struct RemoteHello {
    /// The hello itself.
    pub hello: Hello,
    /// When it arrived.
    pub at: BoundedInstant,
}

impl RemoteHello {
    /// Whether this hello belongs to a run of the peer that started after the run of `earlier` was last `heard`. If so,
    /// connections to that earlier run are dead.
    pub(crate) fn supersedes(&self, earlier: &Self, heard: Instant, now: Instant) -> bool {
        let (new, old) = (&self.hello, &earlier.hello);
        new.serves
            && old.serves
            && new.instance != old.instance
            && now
                .checked_sub(Duration::from_millis(new.age_ms))
                .is_some_and(|started_at| heard < started_at)
    }
}

/// The phase of a connection. A transition returns whether it happened; an impossible one changes nothing.
#[derive(Debug, Clone, Default)]
pub(crate) enum Phase {
    /// The peer's hello has not arrived.
    #[default]
    Connected,
    /// The peer's hello has arrived; whether the peer is a member is not decided.
    Greeted(RemoteHello),
    /// The peer is not a member. It will be told, unless a configuration arrives that makes it one.
    Rejected(RemoteHello),
    /// The peer is a member.
    Admitted(RemoteHello),
    /// The peer is no longer a member, and is being told of the end of its commands.
    Draining(Option<RemoteHello>),
    /// This side has closed the connection.
    Closed {
        /// The peer's hello, if it arrived.
        hello: Option<RemoteHello>,
        /// The reason.
        reason: String,
    },
}

impl Phase {
    /// The peer's hello has arrived. Only the first counts.
    pub(crate) fn greet(&mut self, hello: RemoteHello) -> bool {
        let Self::Connected = self else {
            return false;
        };
        *self = Self::Greeted(hello);
        true
    }

    /// The peer is not a member.
    pub(crate) fn reject(&mut self) -> bool {
        let Self::Greeted(hello) = self else {
            return false;
        };
        *self = Self::Rejected(hello.clone());
        true
    }

    /// The peer is a member, possibly after it was rejected first.
    pub(crate) fn admit(&mut self) -> bool {
        let (Self::Greeted(hello) | Self::Rejected(hello)) = self else {
            return false;
        };
        *self = Self::Admitted(hello.clone());
        true
    }

    /// The peer is no longer a member.
    pub(crate) fn drain(&mut self) -> bool {
        if let Self::Draining(_) | Self::Closed { .. } = self {
            return false;
        }
        *self = Self::Draining(self.hello().cloned());
        true
    }

    /// This side closes the connection. Only the first reason counts.
    pub(crate) fn close(&mut self, reason: &str) -> bool {
        if let Self::Closed { .. } = self {
            return false;
        }
        *self = Self::Closed {
            hello: self.hello().cloned(),
            reason: reason.to_owned(),
        };
        true
    }

    /// The peer's hello, if it has arrived.
    pub(crate) fn hello(&self) -> Option<&RemoteHello> {
        match self {
            Self::Connected => None,
            Self::Greeted(hello) | Self::Rejected(hello) | Self::Admitted(hello) => Some(hello),
            Self::Draining(hello) | Self::Closed { hello, .. } => hello.as_ref(),
        }
    }

    /// Whether the peer is known to be a member.
    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self, Self::Admitted(_))
    }

    /// Whether requests may be sent: this side has not rejected the peer, and the peer serves as far as is known.
    pub(crate) fn is_usable(&self) -> bool {
        match self {
            Self::Connected => true,
            Self::Greeted(hello) | Self::Admitted(hello) => hello.hello.serves,
            Self::Rejected(_) | Self::Draining(_) | Self::Closed { .. } => false,
        }
    }

    /// Why this side closed the connection, if it did.
    pub(crate) fn close_reason(&self) -> Option<&str> {
        match self {
            Self::Closed { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use malai_wire::peer::hello::Hello;
    use malai_wire::version::Versions;

    use super::{Phase, RemoteHello};
    use crate::os::clock::BoundedInstant;

    fn hello(instance: u8, age: Duration, serves: bool) -> RemoteHello {
        RemoteHello {
            hello: Hello {
                versions: Versions::OURS,
                instance: [instance; 16],
                age_ms: u64::try_from(age.as_millis()).unwrap(),
                serves,
                header: None,
                claim: None,
            },
            at: BoundedInstant::now(),
        }
    }

    fn serving() -> RemoteHello {
        hello(1, Duration::ZERO, true)
    }

    fn name(phase: &Phase) -> &'static str {
        match phase {
            Phase::Connected => "connected",
            Phase::Greeted(_) => "greeted",
            Phase::Rejected(_) => "rejected",
            Phase::Admitted(_) => "admitted",
            Phase::Draining(_) => "draining",
            Phase::Closed { .. } => "closed",
        }
    }

    #[test]
    fn transitions() {
        type Transition = fn(&mut Phase) -> bool;
        let transitions: [(&str, Transition); 5] = [
            ("greet", |phase| phase.greet(serving())),
            ("reject", Phase::reject),
            ("admit", Phase::admit),
            ("drain", Phase::drain),
            ("close", |phase| phase.close("again")),
        ];
        let closed = Phase::Closed {
            hello: Some(serving()),
            reason: "first".into(),
        };
        // What each phase becomes, by transition; where there is none, it stays as it is.
        let rows = [
            (Phase::Connected, ["greeted", "", "", "draining", "closed"]),
            (
                Phase::Greeted(serving()),
                ["", "rejected", "admitted", "draining", "closed"],
            ),
            (
                Phase::Rejected(serving()),
                ["", "", "admitted", "draining", "closed"],
            ),
            (
                Phase::Admitted(serving()),
                ["", "", "", "draining", "closed"],
            ),
            (Phase::Draining(Some(serving())), ["", "", "", "", "closed"]),
            (closed, ["", "", "", "", ""]),
        ];
        for (phase, expected) in rows {
            let before = name(&phase);
            for ((transition, apply), expected) in transitions.iter().zip(expected) {
                let mut after = phase.clone();
                let changed = apply(&mut after);
                let expected = if expected.is_empty() {
                    before
                } else {
                    expected
                };
                assert_eq!(name(&after), expected, "{transition} when {before}");
                assert_eq!(changed, expected != before, "{transition} when {before}");
                // A hello is never forgotten.
                if phase.hello().is_some() {
                    assert!(after.hello().is_some(), "{transition} when {before}");
                }
            }
        }
    }

    #[test]
    fn the_first_reason_counts() {
        let mut phase = Phase::default();
        assert_eq!(phase.close_reason(), None);
        phase.close("first");
        phase.close("second");
        assert_eq!(phase.close_reason(), Some("first"));
    }

    #[test]
    fn a_connection_is_usable_until_its_peer_is_rejected_or_says_that_it_only_dials() {
        let mut phase = Phase::default();
        assert!(phase.is_usable() && !phase.is_admitted());
        phase.greet(serving());
        assert!(phase.is_usable());
        phase.reject();
        assert!(!phase.is_usable());
        phase.admit();
        assert!(phase.is_usable() && phase.is_admitted());
        phase.drain();
        assert!(!phase.is_usable() && !phase.is_admitted());

        let mut only_dials = Phase::default();
        only_dials.greet(hello(1, Duration::ZERO, false));
        assert!(!only_dials.is_usable());
    }

    #[test]
    fn a_run_that_began_after_the_other_was_last_heard_supersedes_it() {
        let now = Instant::now() + Duration::from_secs(1_000);
        let heard = now - Duration::from_secs(10);
        let (before, since) = (Duration::from_secs(11), Duration::from_secs(9));
        let old = serving();
        assert!(hello(2, since, true).supersedes(&old, heard, now));
        // It ran beside the other: both may be alive.
        assert!(!hello(2, before, true).supersedes(&old, heard, now));
        // The same run.
        assert!(!hello(1, since, true).supersedes(&old, heard, now));
        // A command without a daemon runs beside everything.
        assert!(!hello(2, since, false).supersedes(&old, heard, now));
        let only_dialed = hello(1, Duration::ZERO, false);
        assert!(!hello(2, since, true).supersedes(&only_dialed, heard, now));
    }
}
