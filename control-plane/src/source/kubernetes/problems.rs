//! Parts of the cluster's objects that can't be used: logged once, and told to whoever looks
//! at the object.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::kinds::{FieldError, Kind, ObjectKey};
use crate::notices::{Notice, Notices};

/// The problems that are known. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Problems {
    known: Arc<Mutex<BTreeMap<ObjectKey, Vec<FieldError>>>>,
    /// Kinds that can't be listed or watched for the moment.
    unwatched: Arc<Mutex<BTreeMap<Kind, String>>>,
    notices: Notices,
}

impl Problems {
    pub(crate) fn new(notices: Notices) -> Self {
        Self {
            known: Arc::default(),
            unwatched: Arc::default(),
            notices,
        }
    }

    /// An object has these problems now, and no others.
    pub(super) fn found(&self, key: &ObjectKey, uid: Option<String>, problems: Vec<FieldError>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.is_empty() {
            known.remove(key);
            return;
        }
        let before = known.insert(key.clone(), problems.clone());
        drop(known);
        let before = before.unwrap_or_default();
        for problem in problems.iter().filter(|problem| !before.contains(problem)) {
            tracing::error!(object = %key, %problem, "can't be used");
            self.notices.tell(Notice {
                object: key.clone(),
                uid: uid.clone(),
                is_warning: true,
                reason: "InvalidMeshConfiguration",
                note: format!("{problem}; {}", key.kind.fallback),
            });
        }
    }

    /// A kind is followed, or can't be for that reason.
    pub(super) fn watched(&self, kind: Kind, outcome: Result<(), String>) {
        let unwatched = self.unwatched.lock();
        let mut unwatched = unwatched.unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => unwatched.remove(&kind),
            Err(why) => unwatched.insert(kind, why),
        };
    }

    pub(super) fn forget(&self, key: &ObjectKey) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(key);
    }

    /// All of them, in words.
    pub(crate) fn list(&self) -> BTreeMap<String, String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let describe = |problems: &Vec<FieldError>| {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            problems.join("; ")
        };
        let unwatched = self.unwatched.lock();
        let unwatched = unwatched.unwrap_or_else(PoisonError::into_inner);
        let unwatched = unwatched.iter().map(|(kind, why)| {
            let what = format!("can't be followed, what is known stays in force: {why}");
            (format!("kind {kind}"), what)
        });
        let known = known.iter();
        let known = known.map(|(key, problems)| (key.to_string(), describe(problems)));
        known.chain(unwatched).collect()
    }
}
