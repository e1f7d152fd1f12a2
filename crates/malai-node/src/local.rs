//! A command on this very computer: the same gate, the same process, no network.

use malai_wire::peer::exec::Exit;
use malai_wire::{Refusal, RefusalCode};
use tokio_util::sync::CancellationToken;

use crate::audit::Origin;
use crate::flow::FlowError;
use crate::inbound::gate;
use crate::member::Membership;
use crate::outbound::exec::{Caller, ExecError};
use crate::process::{self, Outcome, Streams};

/// Runs a command here, if the policy allows this machine to command itself.
///
/// # Errors
///
/// As a command on another machine.
pub async fn run(
    membership: &Membership,
    name: &str,
    caller: Caller,
    gone: CancellationToken,
    started: impl FnOnce(),
) -> Result<Exit, ExecError> {
    let refused = |refusal: Refusal| ExecError::Refused {
        machine: name.to_owned(),
        refusal,
    };
    let granted =
        gate::exec(membership, membership.me, Origin::Here, &caller.argv).map_err(refused)?;
    started();
    let Caller {
        stdin,
        stdout,
        stderr,
        gate,
        signals,
        ..
    } = caller;
    match process::run(
        membership,
        granted,
        Streams {
            stdin,
            stdout,
            stderr,
            gate,
        },
        signals,
        gone,
    )
    .await
    {
        Outcome::Exit(exit) => Ok(exit),
        Outcome::ReaderGone(_) => Err(ExecError::ReaderGone),
        Outcome::ClientGone => Err(ExecError::Lost {
            machine: name.to_owned(),
            why: "the daemon of this computer is stopping; the command was ended".into(),
        }),
        Outcome::Ended(reason, remains) => {
            remains.end().await;
            Err(refused(Refusal::new(RefusalCode::NotAllowed, reason)))
        }
        Outcome::Failed(why) => Err(ExecError::Local(FlowError::Broken(why))),
    }
}
