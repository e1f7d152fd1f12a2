//! Serves HTTP for a service of this machine: who the client is is set by malai, whatever the client says.

use std::sync::Arc;

use hyper::StatusCode;
use malai_cluster::{MachineId, escape};

use super::answer::Answer;
use super::exchange::{Connecting, Exchange};
use super::guarded::Guarded;
use super::headers;
use super::serve::{self, Bounds};
use crate::cluster::state::ClusterState;
use crate::forward::upstream;
use crate::forward::wire::Wire;
use crate::node::sessions::Located;

/// A service that speaks HTTP, and the client that it is for.
#[derive(Debug)]
pub(crate) struct HttpService {
    exchange: Arc<Exchange>,
    bounds: Bounds,
    cluster_state: Arc<ClusterState>,
    from: MachineId,
}

impl HttpService {
    /// Serves this client. Connections to the service at `host` and `port` are made when they are needed.
    pub(crate) fn new(
        cluster_state: &Arc<ClusterState>,
        from: MachineId,
        host: &str,
        port: u16,
        located: Located,
    ) -> Self {
        let bounds = Bounds::from(&*cluster_state.node.limiter.limits());
        let host: Arc<str> = host.into();
        let connect = move || -> Connecting {
            let (host, located) = (host.clone(), located.clone());
            Box::pin(async move {
                match upstream::tcp(&host, port, &located).await {
                    Ok((stream, guard)) => Ok(Box::new(Guarded::new(stream, guard)) as _),
                    Err(why) => Err(Answer::new(StatusCode::BAD_GATEWAY, escape(&why))),
                }
            })
        };
        Self {
            exchange: Arc::new(Exchange::new(bounds, connect)),
            bounds,
            cluster_state: cluster_state.clone(),
            from,
        }
    }

    /// Serves a client to the end of its connection.
    ///
    /// # Errors
    ///
    /// Why it did not end by itself.
    pub(crate) async fn serve(self, client: Wire) -> Result<(), String> {
        let Self {
            exchange,
            bounds,
            cluster_state,
            from,
        } = self;
        let id52 = from.to_string();
        let passing = exchange.clone();
        let answer = move |mut request: hyper::Request<_>| {
            let exchange = passing.clone();
            // Asked each time: a new configuration may have renamed it.
            let machine = cluster_state.name_of(&from);
            let cluster = cluster_state.alias().as_str();
            headers::remove_ours(request.headers_mut());
            let ours = headers::ours(&id52, machine.as_deref(), cluster);
            async move { exchange.pass(request, ours).await }
        };
        serve::serve(client, bounds, || exchange.take_tunnel(), answer).await
    }
}
