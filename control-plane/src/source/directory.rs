//! A directory of manifests, followed as it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use super::last_good::LastGood;
use super::manifest::{self, ManifestError};
use super::{Event, Origin, Unreadable};
use crate::kinds::{Object, ObjectKey};

/// Largest manifest file in bytes; the API server's own limit is smaller.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// A reason for which a file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It can't be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is too large to be a manifest.
    #[error("{0} bytes are more than a manifest may have (16 MiB)")]
    TooLarge(u64),
    /// It holds a mistake.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
}

/// The changes of the directory since the last look.
#[derive(Debug, Default)]
pub(crate) struct Update {
    /// Those of objects.
    pub(crate) events: Vec<Event>,
    /// Files that are broken; what they said before stays in force.
    pub(crate) broken: Vec<(String, FileError)>,
    /// Files that were broken and aren't any more, or are gone.
    pub(crate) mended: Vec<String>,
}

impl Update {
    /// Nothing happened.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.broken.is_empty() && self.mended.is_empty()
    }
}

/// A file's time, length and inode: another state of it has another.
type Stamp = (Option<SystemTime>, u64, u64);

/// The directory as it was last read.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    seen: BTreeMap<String, Seen>,
    last_good: LastGood,
}

#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    broken: bool,
    /// The objects of its last good content.
    objects: BTreeSet<(Origin, ObjectKey)>,
}

impl Directory {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            seen: BTreeMap::new(),
            last_good: LastGood::default(),
        }
    }

    /// The same directory, whose last good content is kept in a state directory.
    ///
    /// # Errors
    /// When it can't be kept there, or the directory can't be read.
    pub(crate) fn kept_in(mut self, state_directory: &Path) -> io::Result<Self> {
        let files = list(&self.path)?;
        let files = files.keys().map(String::as_str).collect();
        self.last_good = LastGood::open(state_directory, &files)?;
        Ok(self)
    }

    /// Reads what is new or different.
    ///
    /// # Errors
    /// When the directory itself can't be read; what is known stays.
    pub(crate) fn scan(&mut self) -> io::Result<Update> {
        let files = list(&self.path)?;
        let mut update = Update::default();
        let gone = self.seen.keys().filter(|name| !files.contains_key(*name));
        for name in gone.cloned().collect::<Vec<_>>() {
            let seen = self.seen.remove(&name);
            self.last_good.forget(&name);
            let objects = seen.into_iter().flat_map(|seen| seen.objects);
            let deleted = objects.map(|(origin, key)| Event::Deleted(origin, key));
            update.events.extend(deleted);
            update.mended.push(name);
        }
        for (name, (path, stamp)) in files {
            let before = self.seen.get(&name);
            if before.is_some_and(|seen| seen.stamp == stamp) {
                continue;
            }
            let seen = self.seen.entry(name.clone()).or_insert_with(|| Seen {
                stamp,
                broken: false,
                objects: BTreeSet::new(),
            });
            seen.stamp = stamp;
            match read(&path, stamp.1) {
                Ok((objects, text)) => {
                    if let Err(error) = self.last_good.keep(&name, &text) {
                        tracing::warn!(file = name, %error, "the last good content can't be kept for a restart");
                    }
                    if std::mem::take(&mut seen.broken) {
                        update.mended.push(name.clone());
                    }
                    update.events.extend(seen.replace(&name, objects));
                }
                Err(error) => {
                    seen.broken = true;
                    update
                        .events
                        .extend(seen.stand_in(&name, &path, &self.last_good));
                    update.broken.push((name, error));
                }
            }
        }
        Ok(update)
    }
}

impl Seen {
    /// What a file that was not good in this process's time says: what it did when it was, to one
    /// before this; else what stands in for that.
    fn stand_in(&mut self, file: &str, path: &Path, last_good: &LastGood) -> Vec<Event> {
        if !self.objects.is_empty() {
            return Vec::new();
        }
        let kept = last_good.text(file);
        if let Some(Ok(objects)) = kept.map(|text| manifest::parse(&text)) {
            return self.replace(file, objects);
        }
        let mut text = Vec::new();
        let opened = fs::File::open(path).map(|opened| opened.take(LARGEST_FILE));
        // As much of it as can be read.
        let _ = opened.and_then(|mut opened| opened.read_to_end(&mut text));
        let substitutes = manifest::substitutes(&String::from_utf8_lossy(&text)).into_iter();
        let events = substitutes.map(|substitute| {
            let key = substitute.key();
            self.objects.insert((file.to_owned(), key.clone()));
            let unreadable = Unreadable {
                key,
                uid: None,
                substitute: Some(substitute),
            };
            Event::Unreadable(file.to_owned(), unreadable)
        });
        events.collect()
    }

    /// The file's content is now this.
    fn replace(&mut self, file: &str, objects: Vec<Object>) -> Vec<Event> {
        let mut now = BTreeSet::new();
        let mut events = Vec::new();
        for object in objects {
            let key = object.key();
            // A second object of one name must not hide the first.
            let mut origin = file.to_owned();
            while !now.insert((origin.clone(), key.clone())) {
                origin.push_str(" (again)");
            }
            events.push(Event::Applied(origin, object));
        }
        let gone = self.objects.difference(&now).cloned();
        let mut all: Vec<_> = gone
            .map(|(origin, key)| Event::Deleted(origin, key))
            .collect();
        all.append(&mut events);
        self.objects = now;
        all
    }
}

/// The manifest files, by their path below the directory. Hidden files are left out:
/// editors put theirs there, and Kubernetes its volumes' bookkeeping.
fn list(directory: &Path) -> io::Result<BTreeMap<String, (PathBuf, Stamp)>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![(directory.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // Follows links: mounted ConfigMaps consist of them.
            let Ok(metadata) = fs::metadata(entry.path()) else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{prefix}{name}");
            if metadata.is_dir() {
                folders.push((entry.path(), format!("{path}/")));
            } else if [".yaml", ".yml", ".json"]
                .iter()
                .any(|ending| name.ends_with(ending))
            {
                use std::os::unix::fs::MetadataExt;
                let stamp = (metadata.modified().ok(), metadata.len(), metadata.ino());
                files.insert(path, (entry.path(), stamp));
            }
        }
    }
    Ok(files)
}

/// The objects of a file, and its text.
fn read(path: &Path, length: u64) -> Result<(Vec<Object>, String), FileError> {
    if length > LARGEST_FILE {
        return Err(FileError::TooLarge(length));
    }
    let text = fs::read_to_string(path)?;
    Ok((manifest::parse(&text)?, text))
}

#[cfg(test)]
mod tests {
    use weft_model::authorization_policy::Action;
    use weft_model::mtls::MtlsMode;

    use super::*;
    use crate::kinds::NetworkPolicyObject;

    const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n";

    fn origins(events: &[Event]) -> Vec<&str> {
        let mut origins = Vec::new();
        for event in events {
            match event {
                Event::Applied(origin, _) | Event::Deleted(origin, _) => {
                    origins.push(origin.as_str());
                }
                Event::Unreadable(..) | Event::Replaced(..) => {}
            }
        }
        origins
    }

    #[test]
    fn only_what_is_different_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.yaml", NAMESPACE);
        write(".a.yaml.swp", "garbage: [");
        write("notes.txt", "garbage: [");
        fs::create_dir(folder.path().join("more")).unwrap();
        write("more/b.yml", NAMESPACE);
        let mut directory = Directory::new(folder.path());
        assert_eq!(
            origins(&directory.scan().unwrap().events),
            ["a.yaml", "more/b.yml"]
        );
        assert!(directory.scan().unwrap().is_empty());
        fs::remove_file(folder.path().join("a.yaml")).unwrap();
        let events = directory.scan().unwrap().events;
        assert!(
            matches!(&events[..], [Event::Deleted(origin, _)] if origin == "a.yaml"),
            "{events:?}"
        );
    }

    #[test]
    fn an_object_that_left_its_file_is_deleted_and_a_second_of_its_name_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let other = NAMESPACE.replace("shop", "bank");
        fs::write(&path, format!("{NAMESPACE}---\n{NAMESPACE}---\n{other}")).unwrap();
        let mut directory = Directory::new(folder.path());
        let events = directory.scan().unwrap().events;
        assert_eq!(origins(&events), ["a.yaml", "a.yaml (again)", "a.yaml"]);
        fs::write(&path, NAMESPACE).unwrap();
        let events = directory.scan().unwrap().events;
        let deleted = events
            .iter()
            .filter(|event| matches!(event, Event::Deleted(..)));
        assert_eq!(deleted.count(), 2, "{events:?}");
    }

    #[test]
    fn a_mesh_config_that_was_never_good_is_strict_until_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.yaml");
        let config = |spec: &str| {
            let text =
                "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: default }\n";
            fs::write(&path, format!("{text}spec: {spec}\n")).unwrap();
        };
        for broken in ["{ trustDomain: example.org, future: {} }", "{ ["] {
            config(broken);
            let mut directory = Directory::new(folder.path());
            let events = directory.scan().unwrap().events;
            let [Event::Unreadable(_, what)] = &events[..] else {
                panic!("{events:?}");
            };
            let Some(Object::MeshConfig(substitute)) = &what.substitute else {
                panic!("{what:?}");
            };
            assert_eq!(substitute.mtls_mode, Some(MtlsMode::Strict));
            config("{}");
            let update = directory.scan().unwrap();
            assert!(
                matches!(&update.events[..], [Event::Applied(..)]),
                "{update:?}"
            );
        }
    }

    #[test]
    fn an_authorization_policy_that_was_never_good_denies_what_it_selects() {
        let folder = tempfile::tempdir().unwrap();
        let text = "apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: { name: web, namespace: shop }
spec: { selector: { matchLabels: { app: web } }, rules: [{ from: [{ claims: [a] }] }] }
";
        fs::write(folder.path().join("policy.yaml"), text).unwrap();
        let events = Directory::new(folder.path()).scan().unwrap().events;
        let [Event::Unreadable(_, what)] = &events[..] else {
            panic!("{events:?}");
        };
        let Some(Object::AuthorizationPolicy(policy)) = &what.substitute else {
            panic!("{what:?}");
        };
        assert_eq!(policy.policy().action, Action::Deny);
    }

    const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, policyTypes: [Ingress] }
";

    fn substitutes(events: &[Event]) -> Vec<&NetworkPolicyObject> {
        let mut policies = Vec::new();
        for event in events {
            if let Event::Unreadable(_, what) = event
                && let Some(Object::NetworkPolicy(policy)) = &what.substitute
            {
                policies.push(policy);
            }
        }
        policies
    }

    #[test]
    fn a_network_policy_that_was_never_good_admits_nothing_to_the_pods_that_it_may_select() {
        let web = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let none = BTreeMap::new();
        let ingress = "spec: { podSelector: { matchLabels: { app: web } }, ingress: 5 }";
        let selector = "spec: { podSelector: { matchLabels: { app: web }, matchExpressions: 1 } }";
        let syntax = "spec: { podSelector: [";
        let header = POLICY.lines().take(3).collect::<Vec<_>>().join("\n");
        for (spec, selects_all) in [(ingress, false), (selector, false), (syntax, true)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("policy.yaml");
            fs::write(&path, format!("{NAMESPACE}---\n{header}\n{spec}\n")).unwrap();
            let mut directory = Directory::new(folder.path());
            let events = directory.scan().unwrap().events;
            let [policy] = substitutes(&events)[..] else {
                panic!("{spec}: {events:?}");
            };
            assert_eq!(policy.policy.key.to_string(), "shop/web", "{spec}");
            assert!(policy.isolates_ingress && policy.policy.ingress.is_empty());
            assert!(policy.isolates_egress && policy.policy.egress.is_empty());
            assert!(policy.pods.matches(&web));
            assert_eq!(policy.pods.matches(&none), selects_all, "{spec}");
            fs::write(&path, POLICY).unwrap();
            let events = directory.scan().unwrap().events;
            assert!(matches!(&events[..], [Event::Applied(..)]), "{events:?}");
        }
        // Somebody else's kind of that name.
        let other = POLICY.replace("networking.k8s.io", "crd.example");
        assert_eq!(manifest::substitutes(&format!("{other}---\n[")), []);
    }

    #[test]
    fn what_a_file_said_when_it_was_good_survives_a_restart_and_its_end_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        let path = folder.path().join("more/a.yaml");
        let scanned = || {
            let directory = Directory::new(folder.path()).kept_in(state.path());
            directory.unwrap().scan().unwrap()
        };
        let good = format!("{NAMESPACE}---\n{POLICY}");
        fs::write(&path, &good).unwrap();
        let first = scanned();
        assert_eq!(first.events.len(), 2);
        fs::write(&path, good.replace("app: web", "app: [")).unwrap();
        for _ in 0..2 {
            let restarted = scanned();
            assert_eq!(restarted.events, first.events);
            assert_eq!(restarted.broken.len(), 1);
        }
        fs::remove_file(&path).unwrap();
        assert!(scanned().is_empty());
        fs::write(&path, "[").unwrap();
        assert_eq!(scanned().events, []);
    }

    #[test]
    fn a_broken_file_is_reported_once_and_its_last_good_content_is_not_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, NAMESPACE).unwrap();
        let mut directory = Directory::new(folder.path());
        directory.scan().unwrap();
        fs::write(&path, "kind: Pod\napiVersion: v1\nspec: {}\n").unwrap();
        let update = directory.scan().unwrap();
        assert!(update.events.is_empty());
        let (name, error) = &update.broken[0];
        assert_eq!(name, "a.yaml");
        assert!(error.to_string().contains("document 1 (Pod )"), "{error}");
        assert!(directory.scan().unwrap().is_empty());
        fs::write(&path, format!("{NAMESPACE}# mended\n")).unwrap();
        assert_eq!(directory.scan().unwrap().mended, ["a.yaml"]);
    }
}
