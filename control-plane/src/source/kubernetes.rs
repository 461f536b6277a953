//! A Kubernetes API server as the source: every kind is listed and then watched.
//!
//! A list counts as the whole of its kind, so whatever a broken watch missed is made
//! up for; the index compares contents, so a list of what is known already costs
//! agents nothing. What can't be read stays what it was.
//!
//! * [`definition`]: whether the cluster has a kind that it doesn't answer for
//! * [`problems`]: what can't be read

mod definition;
mod problems;

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::api::ApiResource;
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Event, Origin, Unreadable};
use crate::kinds::{
    self, ApiType, Form, Kind, KindVisitor, ListedKind, Object, ObjectKey, Provider, Read,
};
pub(crate) use problems::Problems;

/// Events that wait to be taken in. Watches pause when there are more.
const WAITING: usize = 4096;
/// Interval of looks for a kind that the cluster doesn't know.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Objects of one page of a list.
const PAGE: u32 = 500;

/// The watches of one API server. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    events: mpsc::Receiver<Event>,
    /// Kinds that were not listed yet.
    unlisted: BTreeSet<Kind>,
    watches: JoinSet<()>,
}

impl Kubernetes {
    /// Starts to watch. Needs a running tokio runtime.
    pub(crate) fn watch(client: &Client, problems: &Problems) -> Self {
        let (sender, events) = mpsc::channel(WAITING);
        let mut watches = JoinSet::new();
        for kind in kinds::all() {
            let source = Source {
                client: client.clone(),
                kind,
                events: sender.clone(),
                problems: problems.clone(),
            };
            let watches = &mut watches;
            kinds::visit(kind, StartWatch { source, watches });
        }
        Self {
            events,
            unlisted: kinds::all().collect(),
            watches,
        }
    }

    /// Waits for what happened, and returns all of it that is there. None when the
    /// watches have ended, which they don't by themselves.
    pub(crate) async fn next(&mut self) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        self.events.recv_many(&mut events, WAITING).await;
        for event in &events {
            if let Event::Replaced(kind, ..) = event {
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

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.watches.abort_all();
    }
}

struct StartWatch<'a> {
    source: Source,
    watches: &'a mut JoinSet<()>,
}

impl KindVisitor for StartWatch<'_> {
    type Output = ();

    fn visit<T: ListedKind>(self, kind: Kind) {
        let versions = kind.resources().collect();
        self.watches.spawn(self.source.follow::<T>(versions));
    }
}

/// One kind of objects, on its way into the index.
struct Source {
    client: Client,
    kind: Kind,
    events: mpsc::Sender<Event>,
    problems: Problems,
}

impl Source {
    /// Lists and watches until nobody takes the events any more. Of several versions of
    /// the kind, the first that the cluster has.
    async fn follow<T: ListedKind>(self, versions: Vec<ApiResource>) {
        let mut said = false;
        loop {
            for version in &versions {
                let client = self.client.clone();
                let api = Api::<T::Document>::all_with(client, &ApiType::of(version));
                let config = watcher::Config::default().page_size(PAGE);
                let watch = watcher(api, config);
                let watch = StreamBackoff::new(watch, DefaultBackoff::default());
                match self.forward::<T>(watch, version).await {
                    Ok(was_there) => said &= !was_there,
                    // The end of the process is the only end that there is.
                    Err(_) => return,
                }
            }
            if !std::mem::replace(&mut said, true) {
                let kind = self.kind;
                match kind.provider {
                    Provider::Weft => tracing::warn!(
                        %kind,
                        "this cluster doesn't know the kind: install deploy/crds; until then defaults hold"
                    ),
                    Provider::Kubernetes | Provider::GatewayApi => {
                        tracing::info!(%kind, "this cluster doesn't have the kind (yet)");
                    }
                }
            }
            let none = Event::Replaced(self.kind, Vec::new(), Vec::new());
            if self.events.send(none).await.is_err() {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends when the cluster doesn't have a kind that it need not have, and says whether
    /// it had.
    async fn forward<T: ListedKind>(
        &self,
        watch: impl Stream<Item = watcher::Result<watcher::Event<T::Document>>>,
        version: &ApiResource,
    ) -> Result<bool, mpsc::error::SendError<Event>> {
        let mut watch = pin!(watch);
        let mut listed = List::default();
        let (mut failing, mut was_there) = (false, false);
        while let Some(event) = watch.next().await {
            // That a list begins doesn't mean that it succeeds.
            let is_good = matches!(&event, Ok(event) if !matches!(event, watcher::Event::Init));
            if is_good && std::mem::take(&mut failing) {
                tracing::info!(kind = %self.kind, "watching again");
                self.problems.watched(self.kind, Ok(()));
            }
            match event {
                Ok(watcher::Event::Init) => listed = List::default(),
                Ok(watcher::Event::InitApply(object)) => listed.add(self.read::<T>(object)),
                Ok(watcher::Event::InitDone) => {
                    was_there = true;
                    let List {
                        objects,
                        unreadable,
                    } = std::mem::take(&mut listed);
                    tracing::debug!(kind = %self.kind, count = objects.len(), "listed");
                    let event = Event::Replaced(self.kind, objects, unreadable);
                    self.events.send(event).await?;
                }
                Ok(watcher::Event::Apply(object)) => {
                    let key = self.key::<T>(&object);
                    let event = match self.read::<T>(object) {
                        Found::Object(object) => Event::Applied(Origin::new(), object),
                        Found::Unreadable(what) => Event::Unreadable(Origin::new(), what),
                        Found::Nothing => Event::Deleted(Origin::new(), key),
                    };
                    self.events.send(event).await?;
                }
                Ok(watcher::Event::Delete(object)) => {
                    let key = self.key::<T>(&object);
                    self.problems.forget(&key);
                    self.events.send(Event::Deleted(Origin::new(), key)).await?;
                }
                Err(error) if is_missing(&error) && !self.is_served(version).await => {
                    return Ok(was_there);
                }
                Err(error) => {
                    self.problems.watched(self.kind, Err(error.to_string()));
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(kind = %self.kind, %error, "can't watch; what is known stays in force");
                    }
                }
            }
        }
        Ok(was_there)
    }

    /// An API server that has just started may not know yet what it serves. Those that the
    /// cluster need not have are served by what defines them.
    async fn is_served(&self, version: &ApiResource) -> bool {
        !self.kind.is_optional() || definition::is_served(&self.client, version).await
    }

    fn read<T: ListedKind>(&self, document: T::Document) -> Found {
        let key = self.key::<T>(&document);
        let uid = document.meta().uid.clone();
        let Read {
            object,
            problems,
            substitute,
        } = T::read(self.kind, document, Form::Live);
        let is_unreadable = object.is_none() && !problems.is_empty();
        self.problems.found(&key, uid.clone(), problems);
        match object {
            Some(object) => Found::Object(object.into()),
            None if is_unreadable => Found::Unreadable(Unreadable {
                key,
                uid,
                substitute: substitute.map(Into::into),
            }),
            None => Found::Nothing,
        }
    }

    fn key<T: ListedKind>(&self, document: &T::Document) -> ObjectKey {
        ObjectKey {
            kind: self.kind,
            name: T::name_of(document.meta()),
        }
    }
}

/// A document of the API server, as it was read.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are of the large variant"
)]
enum Found {
    Object(Object),
    /// It is there, whatever it says.
    Unreadable(Unreadable),
    /// The mesh has no use for it.
    Nothing,
}

/// The objects of a list, as far as it has come.
#[derive(Debug, Default)]
struct List {
    objects: Vec<Object>,
    unreadable: Vec<Unreadable>,
}

impl List {
    fn add(&mut self, found: Found) {
        match found {
            Found::Object(object) => self.objects.push(object),
            Found::Unreadable(what) => self.unreadable.push(what),
            Found::Nothing => {}
        }
    }
}

/// The API server doesn't know the kind at all.
pub(crate) fn is_missing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
