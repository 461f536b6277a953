//! A client's connection that carries requests.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use weft_model::detect::protocol::DeclaredProtocol;
use weft_model::mesh::DialledService;

use super::answer::answer;
use super::connection::ClientConnection;
use crate::detect::PrefixedStream;
use crate::http::FieldNames;
use crate::http::recorded_stream::RecordedStream;
use crate::http::server::{
    Buffers, Http1Options, MOST_STREAMS, ServeError, serve_http1, serve_http2,
};
use crate::http::upgrade::Upgrades;
use crate::http::version::HttpVersion;
use crate::outbound::connection::OutboundConnection;
use crate::telemetry::{ConnectionRecord, ResponseFlag};

/// Serves a connection that carries requests to a service, to its end.
pub(in crate::outbound) async fn serve(
    connection: OutboundConnection,
    dialled: DialledService,
    version: HttpVersion,
    downstream: PrefixedStream,
    draining: CancellationToken,
) {
    let info = Arc::new(connection.info(None, Some(&dialled.service)));
    let (telemetry, began) = (&connection.pod.telemetry, connection.began);
    let mut record = ConnectionRecord::start(telemetry, info, began);
    record.opened_for_requests(None);
    let (stream, record) = RecordedStream::downstream(downstream, record);
    let DialledService { service, port } = &dialled;
    let idle = connection.idle_timeouts(Some((&service.key, *port)));
    let declared = service.port(*port);
    let declared = declared.map_or(DeclaredProtocol::Unknown, DeclaredProtocol::from_port);
    let names = match declared {
        DeclaredProtocol::Http2 => FieldNames::Lowercase,
        _ => FieldNames::AsSent,
    };
    let upgrades = Upgrades::new(idle);
    let connection = ClientConnection::new(connection, dialled, upgrades.tasks());
    let connection = Arc::new(connection);
    let settings = &connection.pod.node.settings;
    let (end, interim) = (connection.end.clone(), connection.interim.clone());
    let response_break = connection.response_break.clone();
    let options = Http1Options::new(settings, idle.open, names, end, interim, response_break);
    let handle = |request| {
        let connection = Arc::clone(&connection);
        async move { answer(&connection, request).await }
    };
    let memory = Arc::clone(&connection.pod.memory);
    let served = match version {
        HttpVersion::Http1 => serve_http1(stream, options, memory, draining, handle).await,
        HttpVersion::Http2 => {
            let (buffers, heads) = (Buffers::OWN_CLIENT, options.heads);
            serve_http2(
                stream,
                buffers,
                heads,
                MOST_STREAMS,
                memory,
                draining,
                handle,
            )
            .await
        }
    };
    upgrades.finished().await;
    match served {
        Ok(()) => {}
        Err(ServeError::Refused(refusal)) => {
            record.fail(ResponseFlag::from(refusal), &refusal);
        }
        Err(error @ ServeError::HeadTimeout) => record.fail(ResponseFlag::RequestTimeout, &error),
        Err(error @ ServeError::MemoryExceeded) => record.fail(ResponseFlag::MemoryLimit, &error),
        Err(error) => {
            tracing::debug!(%error, "a client's connection of HTTP ended");
        }
    }
}
