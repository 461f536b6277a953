//! Parts of the cluster's objects that can't be used: logged once, and told to whoever looks
//! at the object.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::kinds::{FieldError, ObjectKey};
use crate::notices::{Notice, Notices};

/// The problems that are known. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Problems {
    known: Arc<Mutex<BTreeMap<ObjectKey, Vec<FieldError>>>>,
    notices: Notices,
}

impl Problems {
    pub(crate) fn new(notices: Notices) -> Self {
        Self {
            known: Arc::default(),
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
                note: format!(
                    "{problem}; it counts as if it weren't there{}",
                    key.kind.fallback
                ),
            });
        }
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
        known
            .iter()
            .map(|(key, problems)| (key.to_string(), describe(problems)))
            .collect()
    }
}
