//! One request of a client: what every phase of its walk needs to know of it.

use std::sync::Arc;

use http::{Request, Response};
use weft_model::Mesh;
use weft_model::route::table::CompiledRule;

use super::connection::ClientConnection;
use crate::http::body::ResponseBody;
use crate::http::broken_response::ResponseBreak;
use crate::http::half_close::ClientEnd;
use crate::http::interim::InterimResponses;
use crate::http::local_reply::LocalReply;
use crate::http::pool::BoundConnections;
use crate::http::request_info::RequestInfo;
use crate::telemetry::{RequestDescription, RequestRecord};

/// One request of a client: what every phase needs to know of it, and its record.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The connection that it came on.
    pub(super) connection: Arc<ClientConnection>,
    /// The one snapshot that everything about it is decided by.
    pub(super) mesh: Arc<Mesh>,
    pub(super) info: RequestInfo,
    /// Written when this, or the response's body that it moves to, is dropped.
    pub(super) record: RequestRecord,
    /// It is a copy, for whose response no client waits.
    pub(super) is_copy: bool,
}

impl Exchange {
    /// Begins the record of a request that the rule, where there is one, is for.
    pub(super) fn begin<B>(
        connection: &Arc<ClientConnection>,
        mesh: Arc<Mesh>,
        request: &Request<B>,
        info: RequestInfo,
        rule: Option<Arc<CompiledRule>>,
    ) -> Self {
        let description = RequestDescription {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            authority: info.authority.clone(),
            grpc: info.grpc,
            rule,
        };
        let about = connection.info(&mesh, None, &connection.service.key);
        Self {
            connection: Arc::clone(connection),
            mesh,
            info,
            record: RequestRecord::start(&connection.pod.telemetry, about, description),
            is_copy: false,
        }
    }

    /// The end of the client that waits for the response.
    pub(super) fn client_end(&self) -> Option<&ClientEnd> {
        Some(&self.connection.end).filter(|_| !self.is_copy)
    }

    /// The client's connection, where it ends with a response that breaks off.
    pub(super) fn response_break(&self) -> Option<&ResponseBreak> {
        let ends = !self.is_copy && !self.info.http2;
        ends.then_some(&self.connection.response_break)
    }

    /// Where the client takes interim responses, if it does.
    pub(super) fn interim(&self) -> Option<&InterimResponses> {
        let takes_interim = !self.is_copy && !self.info.http2 && !self.info.http10;
        takes_interim.then_some(&self.connection.interim)
    }

    /// The connections of the client that has logged in, if it has.
    pub(super) fn bound(&self) -> Option<&BoundConnections> {
        let bound = &self.connection.bound;
        (!self.is_copy && !self.info.http2 && bound.is_bound()).then_some(bound)
    }

    /// Replies without sending the request anywhere, or after nobody answered it.
    pub(super) fn reply(mut self, reply: LocalReply) -> Response<ResponseBody> {
        let (flag, grpc_status) = (reply.flag(), reply.carried_grpc_status(self.info.grpc));
        let response = reply.into_response(self.info.grpc);
        self.record
            .replied_locally(response.status(), grpc_status, flag);
        response
    }
}
