//! Runs a command on this computer: the same authorization and the same process, without the network.

use malai_wire::peer::exec::Exit;
use malai_wire::{Refusal, RefusalCode};
use tokio_util::sync::CancellationToken;

use crate::audit::Origin;
use crate::client::{Caller, ExecError};
use crate::cluster::authorize;
use crate::cluster::state::ClusterState;
use crate::exec::child::PendingCleanup;
use crate::exec::process::{self, Outcome};
use crate::exec::stdio::Stdio;

/// Runs a command here, if the policy allows this machine to command itself. Also returns what has to be ended once the caller has
/// been answered.
pub(crate) async fn run(
    cluster_state: &ClusterState,
    name: &str,
    caller: Caller,
    gone: CancellationToken,
    started: impl FnOnce(),
) -> (Result<Exit, ExecError>, Option<PendingCleanup>) {
    let stopped = |refusal: Refusal| ExecError::Stopped {
        machine: name.to_owned(),
        refusal,
    };
    let refused = |refusal: Refusal| ExecError::Refused {
        machine: name.to_owned(),
        refusal,
    };
    let granted = match authorize::exec(
        cluster_state,
        cluster_state.local_id,
        Origin::Here,
        &caller.request,
    ) {
        Ok(granted) => granted,
        Err(refusal) => return (Err(refused(refusal)), None),
    };
    started();
    let Caller {
        stdin,
        stdout,
        stderr,
        gate,
        events,
        terminal,
        ..
    } = caller;
    let outcome = process::run(
        cluster_state,
        granted,
        Stdio {
            stdin,
            stdout,
            stderr,
            gate,
            terminal,
        },
        events,
        gone,
    )
    .await;
    let ended = match outcome {
        Outcome::Exit(exit) => Ok(exit),
        Outcome::ReaderGone(_) => Err(ExecError::ReaderGone),
        Outcome::ClientGone => Err(ExecError::Ended {
            machine: name.to_owned(),
            why: "ended: the local daemon is stopping".into(),
        }),
        Outcome::Ended(reason, cleanup) => return (Err(stopped(reason)), Some(cleanup)),
        Outcome::Unwritable(why) => Err(ExecError::Output(why)),
        Outcome::Failed(why) => Err(stopped(Refusal::new(RefusalCode::Failed, why))),
    };
    (ended, None)
}
