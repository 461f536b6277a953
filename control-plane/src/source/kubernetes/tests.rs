use futures_util::stream;
use serde_json::{Value, json};

use super::*;
use crate::kinds::{KindObject, MeshConfigObject};
use crate::notices::Notices;

type Document = <MeshConfigObject as KindObject>::Document;

fn document(spec: &Value) -> Document {
    serde_json::from_value(json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
        "metadata": { "name": "default", "uid": "u-1" }, "spec": spec,
    }))
    .unwrap()
}

/// The events that come of those of a watch.
async fn forwarded(watch: Vec<watcher::Event<Document>>) -> Vec<Event> {
    // Nobody is asked for anything.
    let address = "http://127.0.0.1:1".parse().unwrap();
    let client = Client::try_from(kube::Config::new(address)).unwrap();
    let (sender, mut events) = mpsc::channel(WAITING);
    let source = Source {
        client: client.clone(),
        kind: MeshConfigObject::KIND,
        events: sender,
        problems: Problems::new(Notices::publish(client)),
    };
    let version = source.kind.resources().next().unwrap();
    let watch = stream::iter(watch.into_iter().map(Ok));
    let forward = source.forward::<MeshConfigObject>(watch, &version);
    assert!(forward.await.unwrap());
    drop(source);
    let mut all = Vec::new();
    events.recv_many(&mut all, WAITING).await;
    all
}

#[tokio::test]
async fn an_object_that_can_not_be_read_is_not_one_that_is_deleted() {
    let good = document(&json!({ "mtls": { "mode": "strict" } }));
    let bad = document(&json!({ "mtls": { "mode": "mutual" } }));
    let events = forwarded(vec![
        watcher::Event::Init,
        watcher::Event::InitApply(good),
        watcher::Event::InitDone,
        watcher::Event::Apply(bad.clone()),
        watcher::Event::Init,
        watcher::Event::InitApply(bad),
        watcher::Event::InitDone,
    ])
    .await;
    let [
        Event::Replaced(_, listed, none),
        Event::Unreadable(_, what),
        Event::Replaced(_, nothing, unreadable),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((listed.len(), none.len()), (1, 0));
    assert_eq!(what.uid.as_deref(), Some("u-1"));
    assert_eq!((nothing.len(), unreadable.len()), (0, 1));
}

#[tokio::test]
async fn a_kind_that_can_not_be_followed_is_told_until_it_can() {
    let problems = Problems::new(Notices::publish(
        Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap(),
    ));
    let kind = MeshConfigObject::KIND;
    problems.watched(kind, Err("403 Forbidden".to_owned()));
    let said = problems.list();
    assert!(said["kind MeshConfig"].contains("403"), "{said:?}");
    problems.watched(kind, Ok(()));
    assert!(problems.list().is_empty());
}
