//! Connections: accepted, bounded in number and in patience, and drained when the gateway goes down.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Opens the addresses to listen on.
///
/// # Errors
/// The address that cannot be had, and why.
pub async fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(TcpListener::bind(address).await.map_err(|error| (*address, error))?);
    }
    Ok(listeners)
}

/// Answers until `stop` is cancelled, then lets the requests finish that are under way.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let each = listeners
        .into_iter()
        .map(|listener| serve_one(listener, router.clone(), Arc::clone(&places), stop.clone()));
    futures_util::future::join_all(each).await;
}

async fn serve_one(
    listener: TcpListener,
    router: Router,
    places: Arc<Semaphore>,
    stop: CancellationToken,
) {
    let connections = GracefulShutdown::new();
    loop {
        // The semaphore is never closed. With all places taken, callers wait in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: trying again at once would only burn time.
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = connections.watch(connection(stream, router.clone()));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("a connection broke off: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, connections.shutdown()).await.is_err() {
        warn!("some requests did not end within {} s", DRAIN.as_secs());
    }
}

fn connection(
    stream: TcpStream,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = impl std::fmt::Display> + Send {
    // Small replies shall leave at once; a connection where that cannot be set works too.
    drop(stream.set_nodelay(true));
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_LIMIT);
    builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).into_owned()
}

/// More clients at once than any site has; each costs a few kilobytes.
const CONNECTIONS: usize = 4096;
/// How long a client may take for a request's head, and how long it may be idle between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A credential with many registry logins is the longest header.
const HEADER_LIMIT: usize = 256 << 10;
const DRAIN: Duration = Duration::from_secs(10);
