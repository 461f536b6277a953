//! Routes of the Gateway API, in whatever version a cluster has them.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use weft_model::route::RouteKind;

use super::Read;
use crate::manifest::{FieldError, Object, RouteObject, versions as versions_of};

/// How a kind of routes is asked for, in each version that is read, the newest first.
pub(crate) fn resources(kind: RouteKind) -> impl Iterator<Item = ApiResource> {
    let plural = match kind {
        RouteKind::Grpc => "grpcroutes",
        RouteKind::Http => "httproutes",
        RouteKind::Tls => "tlsroutes",
        RouteKind::Tcp => "tcproutes",
    };
    versions_of(kind).iter().map(move |version| {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", version, kind.as_str());
        ApiResource::from_gvk_with_plural(&kind, plural)
    })
}

/// A kind of routes, in each of its versions.
pub(super) fn versions(client: &Client, kind: RouteKind) -> Vec<Api<DynamicObject>> {
    let resources = resources(kind);
    let apis = resources.map(|resource| Api::all_with(client.clone(), &resource));
    apis.collect()
}

/// A route that can't be used is known all the same, to be spoken of.
pub(super) fn read(kind: RouteKind, route: DynamicObject) -> Read {
    let route = serde_json::to_value(route).map_err(|error| FieldError::new("", error));
    match route.and_then(|route| RouteObject::from_value(kind, route)) {
        Ok(route) => Read {
            problems: route
                .iter()
                .flat_map(|route| route.problems().to_vec())
                .collect(),
            object: route.map(Object::Route),
        },
        Err(problem) => Read {
            object: None,
            problems: vec![problem],
        },
    }
}
