//! A command on this very computer: the same gate, the same process, no network.

use malai_wire::peer::exec::Exit;
use malai_wire::{Refusal, RefusalCode};
use tokio_util::sync::CancellationToken;

use crate::audit::Origin;
use crate::inbound::gate;
use crate::member::Membership;
use crate::outbound::exec::{Caller, ExecError};
use crate::process::{self, Outcome, Remains, Streams};

/// Runs a command here, if the policy allows this machine to command itself. Returns what is left to
/// end once the caller has been answered, too.
pub async fn run(
    membership: &Membership,
    name: &str,
    caller: Caller,
    gone: CancellationToken,
    started: impl FnOnce(),
) -> (Result<Exit, ExecError>, Option<Remains>) {
    let refused = |refusal: Refusal| ExecError::Refused {
        machine: name.to_owned(),
        refusal,
    };
    let granted = match gate::exec(membership, membership.me, Origin::Here, &caller.action) {
        Ok(granted) => granted,
        Err(refusal) => return (Err(refused(refusal)), None),
    };
    started();
    let Caller {
        stdin,
        stdout,
        stderr,
        gate,
        nudges,
        terminal,
        ..
    } = caller;
    let outcome = process::run(
        membership,
        granted,
        Streams {
            stdin,
            stdout,
            stderr,
            gate,
            terminal,
        },
        nudges,
        gone,
    )
    .await;
    let ended = match outcome {
        Outcome::Exit(exit) => Ok(exit),
        Outcome::ReaderGone(_) => Err(ExecError::ReaderGone),
        Outcome::ClientGone => Err(ExecError::Lost {
            machine: name.to_owned(),
            why: "the daemon of this computer is stopping; the command was ended".into(),
        }),
        Outcome::Ended(reason, remains) => return (Err(refused(reason)), Some(remains)),
        Outcome::Failed(why) => Err(refused(Refusal::new(RefusalCode::Failed, why))),
    };
    (ended, None)
}
