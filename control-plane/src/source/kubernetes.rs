//! A Kubernetes API server as the source: every kind is listed and then watched.
//!
//! A list counts as the whole of its kind, so whatever a broken watch missed is made
//! up for; the index compares contents, so a list of what is known already costs
//! agents nothing.

mod problems;
mod routes;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use weft_model::NamespacedName;
use weft_model::route::RouteKind;

use super::{Event, Origin};
use crate::api::{ExternalService, TrafficPolicy};
use crate::manifest::{
    ExternalServiceObject, FieldError, Kind, MeshConfigObject, NamespaceObject, NodeObject, Object,
    ObjectKey, PodObject, ServiceAccountObject, ServiceObject, SliceObject, TrafficPolicyObject,
};
pub(crate) use problems::Problems;
pub(crate) use routes::resources as route_resources;

/// Events that wait to be taken in. Watches pause when there are more.
const WAITING: usize = 4096;
/// How often to look whether a kind that the cluster doesn't know was installed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Objects of one page of a list.
const PAGE: u32 = 500;

/// The kinds that are watched.
const KINDS: [Kind; 13] = [
    Kind::Namespace,
    Kind::Node,
    Kind::ServiceAccount,
    Kind::MeshConfig,
    Kind::TrafficPolicy,
    Kind::ExternalService,
    Kind::Pod,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Route(RouteKind::Grpc),
    Kind::Route(RouteKind::Http),
    Kind::Route(RouteKind::Tls),
    Kind::Route(RouteKind::Tcp),
];

/// An object as the mesh reads it.
#[derive(Debug)]
pub(crate) struct Read {
    /// What it says; None when it isn't of interest (yet).
    pub(crate) object: Option<Object>,
    /// What of it can't be used.
    pub(crate) problems: Vec<FieldError>,
}

/// The watches of one API server. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    events: mpsc::Receiver<Event>,
    /// Kinds that were not listed yet.
    unlisted: BTreeSet<Kind>,
    watches: tokio::task::JoinSet<()>,
}

impl Kubernetes {
    /// Starts to watch. Needs a running tokio runtime.
    pub(crate) fn watch(client: &Client, problems: &Problems) -> Self {
        let (sender, events) = mpsc::channel(WAITING);
        let mut watches = tokio::task::JoinSet::new();
        let source = |kind| Source {
            kind,
            events: sender.clone(),
            problems: problems.clone(),
        };
        watches.spawn(source(Kind::Pod).follow(all::<Pod>(client), read_pod));
        watches.spawn(source(Kind::Service).follow(all::<Service>(client), read_service));
        let slices = all::<EndpointSlice>(client);
        watches.spawn(source(Kind::EndpointSlice).follow(slices, read_slice));
        watches.spawn(source(Kind::Namespace).follow(all::<Namespace>(client), read_namespace));
        watches.spawn(source(Kind::Node).follow(all::<Node>(client), read_node));
        let accounts = all::<ServiceAccount>(client);
        watches.spawn(source(Kind::ServiceAccount).follow(accounts, read_service_account));
        let mesh_config = GroupVersionKind::gvk("weft.dev", "v1alpha1", "MeshConfig");
        let mesh_config = ApiResource::from_gvk_with_plural(&mesh_config, "meshconfigs");
        let configs = vec![Api::<DynamicObject>::all_with(client.clone(), &mesh_config)];
        watches.spawn(source(Kind::MeshConfig).follow(configs, read_mesh_config));
        let externals = ApiResource::erase::<ExternalService>(&());
        let externals = vec![Api::<DynamicObject>::all_with(client.clone(), &externals)];
        watches.spawn(source(Kind::ExternalService).follow(externals, read_external_service));
        let policies = ApiResource::erase::<TrafficPolicy>(&());
        let policies = vec![Api::<DynamicObject>::all_with(client.clone(), &policies)];
        watches.spawn(source(Kind::TrafficPolicy).follow(policies, read_traffic_policy));
        for kind in RouteKind::ALL {
            let versions = routes::versions(client, kind);
            let source = source(Kind::Route(kind));
            watches.spawn(source.follow(versions, move |route| routes::read(kind, route)));
        }
        Self {
            events,
            unlisted: BTreeSet::from(KINDS),
            watches,
        }
    }

    /// Waits for what happened, and returns all of it that is there. None when the
    /// watches have ended, which they don't by themselves.
    pub(crate) async fn next(&mut self) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        self.events.recv_many(&mut events, WAITING).await;
        for event in &events {
            if let Event::Replaced(kind, _) = event {
                self.unlisted.remove(kind);
            }
        }
        (!events.is_empty()).then_some(events)
    }

    /// Kinds that were not listed yet.
    pub(crate) fn unlisted(&self) -> &BTreeSet<Kind> {
        &self.unlisted
    }
}

/// A kind that is watched in one version.
fn all<K: Resource<DynamicType = ()>>(client: &Client) -> Vec<Api<K>> {
    vec![Api::all(client.clone())]
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.watches.abort_all();
    }
}

/// One kind of objects, on its way into the index.
#[derive(Debug)]
struct Source {
    kind: Kind,
    events: mpsc::Sender<Event>,
    problems: Problems,
}

impl Source {
    /// Lists and watches until nobody takes the events any more. Of several versions of
    /// the kind, the first that the cluster has.
    async fn follow<K>(self, versions: Vec<Api<K>>, read: impl Fn(K) -> Read)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        K::DynamicType: Clone,
    {
        let mut said = false;
        loop {
            for api in &versions {
                let config = watcher::Config::default().page_size(PAGE);
                let watch = watcher(api.clone(), config);
                let watch = StreamBackoff::new(watch, DefaultBackoff::default());
                match self.forward(watch, &read).await {
                    Ok(was_there) => said &= !was_there,
                    // The end of the process is the only end that there is.
                    Err(_) => return,
                }
            }
            if !std::mem::replace(&mut said, true) {
                match self.kind {
                    kind @ (Kind::MeshConfig | Kind::TrafficPolicy | Kind::ExternalService) => {
                        tracing::warn!(
                            %kind,
                            "this cluster doesn't know the kind: install deploy/crds; until then defaults hold"
                        )
                    }
                    kind => tracing::info!(%kind, "this cluster doesn't have the kind (yet)"),
                }
            }
            let none = Event::Replaced(self.kind, Vec::new());
            if self.events.send(none).await.is_err() {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends when the cluster doesn't have a kind that it need not have, and says whether
    /// it had.
    async fn forward<K>(
        &self,
        watch: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
        read: &impl Fn(K) -> Read,
    ) -> Result<bool, mpsc::error::SendError<Event>>
    where
        K: Resource + Clone,
    {
        let mut watch = pin!(watch);
        let mut listed = Vec::new();
        let (mut failing, mut was_there) = (false, false);
        while let Some(event) = watch.next().await {
            // That a list begins doesn't mean that it succeeds.
            let is_good = matches!(&event, Ok(event) if !matches!(event, watcher::Event::Init));
            if is_good && std::mem::take(&mut failing) {
                tracing::info!(kind = %self.kind, "watching again");
            }
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => listed.extend(self.read(object, read)),
                Ok(watcher::Event::InitDone) => {
                    was_there = true;
                    let listed = std::mem::take(&mut listed);
                    tracing::debug!(kind = %self.kind, count = listed.len(), "listed");
                    self.events.send(Event::Replaced(self.kind, listed)).await?;
                }
                Ok(watcher::Event::Apply(object)) => {
                    let key = self.key(&object);
                    let event = match self.read(object, read) {
                        Some(object) => Event::Applied(Origin::new(), object),
                        None => Event::Deleted(Origin::new(), key),
                    };
                    self.events.send(event).await?;
                }
                Ok(watcher::Event::Delete(object)) => {
                    let key = self.key(&object);
                    self.problems.forget(&key);
                    self.events.send(Event::Deleted(Origin::new(), key)).await?;
                }
                Err(error) if is_optional(self.kind) && is_missing(&error) => return Ok(was_there),
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(kind = %self.kind, %error, "can't watch; what is known stays in force");
                    }
                }
            }
        }
        Ok(was_there)
    }

    fn read<K: Resource>(&self, object: K, read: &impl Fn(K) -> Read) -> Option<Object> {
        let key = self.key(&object);
        let uid = object.meta().uid.clone();
        let Read { object, problems } = read(object);
        self.problems.found(&key, uid, problems);
        object
    }

    fn key<K: Resource>(&self, object: &K) -> ObjectKey {
        let namespace = object.namespace().unwrap_or_default();
        let name = match self.kind {
            // There is one, whatever its name.
            Kind::MeshConfig => NamespacedName::new("", "default"),
            _ => NamespacedName::new(&namespace, &object.name_any()),
        };
        ObjectKey {
            kind: self.kind,
            name,
        }
    }
}

/// Whether a cluster need not have the kind.
fn is_optional(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::MeshConfig | Kind::TrafficPolicy | Kind::ExternalService | Kind::Route(_)
    )
}

/// Whether the API server doesn't know the kind at all.
pub(crate) fn is_missing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

fn read_pod(pod: Pod) -> Read {
    let (pod, problems) = PodObject::live(pod);
    Read {
        object: pod.map(Object::Pod),
        problems,
    }
}

fn read_service(service: Service) -> Read {
    Read::of(ServiceObject::parse(service).map(Object::Service))
}

fn read_slice(slice: EndpointSlice) -> Read {
    // Slices without a Service are somebody else's business.
    match SliceObject::parse(slice) {
        Err(error) if error.is_missing() => Read {
            object: None,
            problems: Vec::new(),
        },
        slice => Read::of(slice.map(Object::EndpointSlice)),
    }
}

fn read_namespace(namespace: Namespace) -> Read {
    let (namespace, problems) = NamespaceObject::live(namespace);
    Read {
        object: namespace.map(Object::Namespace),
        problems,
    }
}

fn read_node(node: Node) -> Read {
    Read::of(NodeObject::parse(node).map(Object::Node))
}

fn read_service_account(account: ServiceAccount) -> Read {
    Read::of(ServiceAccountObject::parse(account).map(Object::ServiceAccount))
}

fn read_mesh_config(config: DynamicObject) -> Read {
    let value = serde_json::json!({ "metadata": { "name": config.name_any() }, "spec": config.data.get("spec") });
    Read::of(MeshConfigObject::from_value(value).map(Object::MeshConfig))
}

fn read_external_service(service: DynamicObject) -> Read {
    let spec = service.data.get("spec");
    let value = serde_json::json!({ "metadata": service.metadata, "spec": spec });
    Read::of(ExternalServiceObject::from_value(value).map(Object::ExternalService))
}

fn read_traffic_policy(policy: DynamicObject) -> Read {
    let value = serde_json::to_value(&policy).unwrap_or_default();
    match TrafficPolicyObject::from_value(&value) {
        // What is wrong with it is in it: its status will say so.
        Ok(policy) => {
            let problems = policy.content.as_ref().err().cloned();
            Read {
                object: Some(Object::TrafficPolicy(policy)),
                problems: problems.into_iter().collect(),
            }
        }
        Err(error) => Read::of(Err(error)),
    }
}

impl Read {
    /// An object that counts as a whole or not at all.
    fn of(object: Result<Object, FieldError>) -> Self {
        match object {
            Ok(object) => Self {
                object: Some(object),
                problems: Vec::new(),
            },
            Err(error) => Self {
                object: None,
                problems: vec![error],
            },
        }
    }
}
