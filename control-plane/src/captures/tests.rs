//! Reports through either store: what is kept, and whose reports are refused.

use std::collections::HashSet;
use std::path::Path;

use tempfile::TempDir;
use weft_model::mesh::Change;
use weft_model::workload::Enrolment;

use super::*;
use crate::source::manifest::parse;
use crate::source::{Event, Origin};

/// Enrolled pods of two nodes, and reports of them.
struct Bed {
    cluster: Arc<Cluster>,
    captures: Captures,
}

impl Bed {
    fn with(store: impl FnOnce(Arc<Cluster>) -> Captures) -> Self {
        let cluster = Arc::new(Cluster::of_directory());
        let captures = store(Arc::clone(&cluster));
        let pod = |name: &str, node: &str, address: &str| {
            format!(
                "---\napiVersion: v1\nkind: Pod\n\
                 metadata: {{ name: {name}, annotations: {{ weft.dev/mesh: enabled }} }}\n\
                 spec: {{ nodeName: {node}, containers: [] }}\nstatus: {{ podIP: {address} }}\n"
            )
        };
        let pods = [
            pod("web", "node-1", "10.0.0.1"),
            pod("api", "node-1", "10.0.0.2"),
            pod("db", "node-2", "10.0.0.3"),
        ];
        let objects = parse(&pods.concat()).unwrap().into_iter();
        let events = objects.map(|object| Event::Applied(Origin::new(), object));
        cluster.apply_events(events.collect());
        Self { cluster, captures }
    }

    fn with_file(directory: &Path) -> Self {
        Self::with(|cluster| {
            let file = CaptureFile::open(directory, Arc::clone(&cluster)).unwrap();
            Captures::new(file, cluster)
        })
    }

    fn report(&self, node: &str, pods: &[(&str, PodCaptureState)]) -> Recorded {
        let pods = pods.iter();
        let pods = pods.map(|(uid, state)| (WorkloadUid::from(*uid), state.clone()));
        self.captures.record(CaptureReport {
            node: node.into(),
            pods: pods.collect(),
            complete: None,
        })
    }

    fn complete(&self, node: &str, pods: &[&str]) {
        let all: HashSet<_> = pods.iter().map(|uid| WorkloadUid::from(*uid)).collect();
        self.captures.record(CaptureReport {
            node: node.into(),
            pods: Vec::new(),
            complete: Some(all),
        });
    }

    /// Pods that agents are told to be captured.
    fn captured(&self) -> Vec<String> {
        let resources = self.cluster.resources();
        let workloads = resources
            .after(None)
            .filter_map(|(_, one)| match &one.change {
                Change::Workload(workload) => Some(workload),
                _ => None,
            });
        let captured = workloads.filter(|one| one.enrolment == Enrolment::Captured);
        captured.map(|one| one.uid.to_string()).collect()
    }
}

const CAPTURED: PodCaptureState = PodCaptureState::Captured;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_report_is_published_and_remembered_over_a_restart() {
    let folder = folder();
    let bed = Bed::with_file(folder.path());
    bed.report("node-1", &[("default/web", CAPTURED)]);
    bed.report("node-2", &[("default/db", CAPTURED)]);
    assert_eq!(bed.captured(), ["default/db", "default/web"]);
    bed.report("node-2", &[("default/db", PodCaptureState::Released)]);
    let bed = Bed::with_file(folder.path());
    assert_eq!(bed.captured(), ["default/web"]);
}

#[test]
fn a_complete_report_releases_the_rest_of_that_node_only() {
    let folder = folder();
    let bed = Bed::with_file(folder.path());
    let both = [("default/web", CAPTURED), ("default/api", CAPTURED)];
    bed.report("node-1", &both);
    bed.report("node-2", &[("default/db", CAPTURED)]);
    bed.complete("node-1", &["default/api"]);
    assert_eq!(bed.captured(), ["default/api", "default/db"]);
}

#[test]
fn a_pod_that_failed_is_not_captured() {
    let folder = folder();
    let bed = Bed::with_file(folder.path());
    bed.report("node-1", &[("default/web", CAPTURED)]);
    let failed = PodCaptureState::Failed("its namespace is gone".into());
    bed.report("node-1", &[("default/web", failed)]);
    assert_eq!(bed.captured(), Vec::<String>::new());
}

#[test]
fn reports_of_foreign_pods_are_refused_before_any_store_sees_them() {
    #[derive(Debug, Default)]
    struct Seen(Arc<std::sync::Mutex<Vec<CaptureReport>>>);
    impl CaptureStore for Seen {
        fn stream_opened(&self, _: &str) {}
        fn record(&self, report: &CaptureReport) {
            self.0.lock().unwrap().push(report.clone());
        }
    }
    let seen = Seen::default();
    let stored = Arc::clone(&seen.0);
    let bed = Bed::with(|cluster| Captures::new(seen, cluster));
    let pods = [
        ("default/db", CAPTURED),
        ("default/web", CAPTURED),
        ("default/new", CAPTURED),
    ];
    let recorded = bed.report("node-1", &pods);
    assert_eq!(recorded.foreign, ["default/db".into()]);
    let own = recorded.report.pods.iter().map(|(uid, _)| uid.as_str());
    let own: Vec<_> = own.collect();
    assert_eq!(
        own,
        ["default/web", "default/new"],
        "one that isn't known may be its own"
    );
    assert_eq!(*stored.lock().unwrap(), [recorded.report]);
}

#[test]
fn what_was_reported_too_early_counts_for_the_node_that_has_the_pod_only() {
    let folder = folder();
    let cluster = Arc::new(Cluster::of_directory());
    let file = CaptureFile::open(folder.path(), Arc::clone(&cluster)).unwrap();
    let early = Captures::new(file, cluster);
    for node in ["node-1", "node-2", "node-3"] {
        early.record(CaptureReport {
            node: node.into(),
            pods: vec![("default/db".into(), CAPTURED)],
            complete: None,
        });
    }
    drop(early);
    let bed = Bed::with_file(folder.path());
    bed.complete("node-1", &[]);
    assert_eq!(bed.captured(), ["default/db"]);
}
