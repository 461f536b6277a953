//! Routes of the Gateway API, as far as they are attached to Services (GEP-1294): those
//! of Gateways are somebody else's.
//!
//! Everything that a route says is checked, also what the schema of its kind says, which
//! nobody checks in a directory.

mod content;
mod cors;
mod filter;
mod matching;
mod object;
mod reader;
mod rule;
mod schema;
mod targets;

use kube::api::DynamicObject;
use weft_model::NamespacedName;
use weft_model::route::{Parent, RouteKey, RouteKind};

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, LAST_GOOD, Provider};
use super::kind_object::{Form, KindObject, Read};
pub(crate) use object::{InvalidReference, ReferenceProblem, RouteContent, RouteObject};
use reader::port;
use schema::{ParentReference, Parents};
pub(crate) use targets::targets_mut;

const GRPC: KindInfo = info("GRPCRoute", "grpcroutes", &["v1", "v1alpha2"]);
const HTTP: KindInfo = info("HTTPRoute", "httproutes", &["v1", "v1beta1", "v1alpha2"]);
const TLS: KindInfo = info("TLSRoute", "tlsroutes", &["v1", "v1alpha3", "v1alpha2"]);
const TCP: KindInfo = info("TCPRoute", "tcproutes", &["v1", "v1alpha2"]);

const fn info(
    name: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
) -> KindInfo {
    KindInfo {
        name,
        group: "gateway.networking.k8s.io",
        versions,
        plural,
        provider: Provider::GatewayApi,
        fallback: LAST_GOOD,
    }
}

impl KindObject for RouteObject {
    const KINDS: &'static [Kind] = &[
        Kind::new(&GRPC),
        Kind::new(&HTTP),
        Kind::new(&TLS),
        Kind::new(&TCP),
    ];

    type Document = DynamicObject;

    fn kind(&self) -> Kind {
        Kind::from(self.key.kind)
    }

    fn name(&self) -> NamespacedName {
        self.key.name.clone()
    }

    fn keep_last_good(&mut self, before: &Self) {
        if self.content.is_err() {
            self.last_good = before.in_force().cloned().map(Box::new);
        }
    }

    /// Nothing when the route has no Service among its parents. One that can't be used is
    /// known all the same, to be spoken of.
    fn read(kind: Kind, route: DynamicObject, _: Form) -> Read<Self> {
        let mut kinds = RouteKind::ALL.into_iter();
        let kind = kinds.find(|known| Kind::from(*known) == kind);
        match kind.map(|kind| parse(kind, &route)).transpose() {
            Ok(route) => match route.flatten() {
                Some(route) => {
                    let problems = route.problems().to_vec();
                    Read::with_problems(route, problems)
                }
                None => Read::nothing(),
            },
            Err(problem) => Err(problem).into(),
        }
    }
}

impl From<RouteKind> for Kind {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Grpc => Self::new(&GRPC),
            RouteKind::Http => Self::new(&HTTP),
            RouteKind::Tls => Self::new(&TLS),
            RouteKind::Tcp => Self::new(&TCP),
        }
    }
}

/// A route as it is written; none when it has no Service among its parents.
///
/// # Errors
/// When it isn't even known whom it is about.
fn parse(kind: RouteKind, route: &DynamicObject) -> Result<Option<RouteObject>, FieldError> {
    let metadata = &route.metadata;
    let namespace = document::namespace(metadata);
    // Whoever is to admit a route that is to be named by the API server has no name.
    let name = match (document::name(metadata), &metadata.generate_name) {
        (Err(_), Some(beginning)) => beginning,
        (name, _) => name?,
    };
    let spec: Option<Parents> = document::spec(route)?;
    let parents = spec.and_then(|spec| spec.parent_refs).unwrap_or_default();
    let parents = parents.into_iter().enumerate();
    let services = parents.filter(|(_, parent)| parent.is_service());
    let parents = services.map(|(index, parent)| parent.read(index, namespace));
    let parents: Vec<Parent> = parents.collect::<Result<_, _>>()?;
    if parents.is_empty() {
        return Ok(None);
    }
    let key = RouteKey {
        kind,
        name: NamespacedName::new(namespace, name),
    };
    Ok(Some(RouteObject {
        content: content::content(&key, route),
        key,
        created: document::created(metadata),
        generation: metadata.generation,
        parents,
        last_good: None,
    }))
}

impl ParentReference {
    /// GEP-1294: a route of a mesh has Services as parents, whose group is empty.
    fn is_service(&self) -> bool {
        self.kind.as_deref() == Some("Service") && self.group.as_deref() == Some("")
    }

    fn read(self, index: usize, namespace: &str) -> Result<Parent, FieldError> {
        let of = |name: &str| format!("spec.parentRefs[{index}].{name}");
        if self.name.is_empty() {
            return Err(FieldError::missing(&of("name"), "it names a Service"));
        }
        let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let own = named(&self.namespace);
        let port = self.port.map(|number| port(of("port"), number));
        Ok(Parent {
            service: NamespacedName::new(own.as_deref().unwrap_or(namespace), &self.name),
            port: port.transpose()?,
            section: named(&self.section_name).map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests;
