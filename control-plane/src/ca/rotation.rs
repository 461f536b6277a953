//! The replacement of one root by another while the mesh runs: first everybody trusts
//! both, then the new one signs, then the old one is forgotten. Between two steps every
//! leaf has to be renewed once, so none may be taken before a leaf's lifetime has passed.
//!
//! Decides only; [`super::directory`] and [`super::secret`] keep what it decided.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::material::{Material, MaterialError, Pem};

/// Under which name a rotation is kept beside certificate and key.
pub(super) const NAME: &str = "rotation.json";

/// Everything that is kept about the authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stored {
    pub(super) pem: Pem,
    /// The one that is under way.
    pub(super) rotation: Option<Rotation>,
}

/// A rotation that is under way. Has both keys, so that a step can be taken again after
/// a crash, and taken back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rotation {
    phase: Phase,
    /// Beginning of the phase.
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    old: Root,
    new: Root,
    /// Leaves of the new root may be about, although the old one signs (again).
    new_has_signed: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Phase {
    /// Both are trusted, the old one signs.
    Announced,
    /// Both are trusted, the new one signs.
    Switched,
}

/// A root with its key, PEM.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Root {
    certificate: String,
    key: String,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").finish_non_exhaustive()
    }
}

/// A step that an operator asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Make a new root, and let everybody trust both. The old one signs on.
    Start,
    /// Sign with the new root. Both are trusted.
    Switch,
    /// Trust the new root only.
    Finish,
    /// Go back: from the new root to the old one where that was switched already, else
    /// to the old root only.
    Abort,
}

/// The condition for a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub(crate) now: OffsetDateTime,
    /// Time after a step in which every certificate is renewed, and every agent gets the
    /// roots.
    pub(crate) wait: Duration,
    /// Don't wait.
    pub(crate) force: bool,
}

/// A reason not to take a step. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// One after the other.
    #[error(
        "a rotation is under way: see `rotate-root status`; end it with `rotate-root finish` or \
         `rotate-root abort` first"
    )]
    UnderWay,
    /// There is nothing to go on with.
    #[error("no rotation is under way: begin one with `rotate-root start`")]
    None,
    /// Asked for twice.
    #[error("the new root signs already: what is left is `rotate-root finish`, or `abort`")]
    Switched,
    /// Left out the middle.
    #[error("the old root still signs: `rotate-root switch` comes first")]
    NotSwitched,
    /// Too early.
    #[error(
        "too early: {consequence}. Wait until {until}, by when every certificate was renewed, or \
         give --force if the mesh may fail meanwhile"
    )]
    TooEarly {
        /// The consequence.
        consequence: &'static str,
        /// RFC 3339.
        until: String,
    },
    /// The root is somebody else's.
    #[error(
        "the authority is below a root that Weft has no key of: rotate it where it comes from. \
         Put the new root beside the old one in ca.crt first, replace tls.crt and tls.key when \
         every certificate was renewed, and take the old root out when they were renewed again"
    )]
    PluggedIn,
    /// A certificate can't be made or read.
    #[error("the authority can't be used: {0}")]
    Material(#[from] MaterialError),
}

impl Stored {
    /// The same after a step.
    ///
    /// # Errors
    /// When the step isn't due.
    pub(crate) fn step(&self, step: Step, guard: &Guard) -> Result<Self, RotationError> {
        match (step, &self.rotation) {
            (Step::Start, None) => self.start(guard),
            (Step::Start, Some(_)) => Err(RotationError::UnderWay),
            (_, None) => Err(RotationError::None),
            (Step::Switch, Some(rotation)) => self.switch(rotation, guard),
            (Step::Finish, Some(rotation)) => self.finish(rotation, guard),
            (Step::Abort, Some(rotation)) => self.abort(rotation, guard),
        }
    }

    fn start(&self, guard: &Guard) -> Result<Self, RotationError> {
        let old = Root {
            certificate: self.pem.certificate.clone(),
            key: self.pem.key.clone(),
        };
        if without(&self.pem.roots, &old.certificate) == certificates(&self.pem.roots) {
            return Err(RotationError::PluggedIn);
        }
        let new = Material::generate().map_err(MaterialError::from)?;
        let new = Root {
            certificate: new.certificate,
            key: new.key,
        };
        Ok(Self {
            pem: Pem {
                roots: format!("{}\n{}", self.pem.roots.trim(), new.certificate),
                ..self.pem.clone()
            },
            rotation: Some(Rotation {
                phase: Phase::Announced,
                since: guard.now,
                old,
                new,
                new_has_signed: false,
            }),
        })
    }

    fn switch(&self, rotation: &Rotation, guard: &Guard) -> Result<Self, RotationError> {
        if rotation.phase == Phase::Switched {
            return Err(RotationError::Switched);
        }
        guard.check(
            rotation,
            "proxies that have not renewed yet don't know the new root, and would refuse what \
             it signs",
        )?;
        Ok(self.signing_with(&rotation.new, rotation, Phase::Switched, guard))
    }

    fn finish(&self, rotation: &Rotation, guard: &Guard) -> Result<Self, RotationError> {
        if rotation.phase == Phase::Announced {
            return Err(RotationError::NotSwitched);
        }
        guard.check(
            rotation,
            "certificates that the old root has signed are in use, and would be refused",
        )?;
        Ok(self.only_without(&rotation.old))
    }

    fn abort(&self, rotation: &Rotation, guard: &Guard) -> Result<Self, RotationError> {
        if rotation.phase == Phase::Switched {
            return Ok(self.signing_with(&rotation.old, rotation, Phase::Announced, guard));
        }
        if rotation.new_has_signed {
            guard.check(
                rotation,
                "certificates that the new root has signed are in use, and would be refused",
            )?;
        }
        Ok(self.only_without(&rotation.new))
    }

    fn signing_with(&self, root: &Root, rotation: &Rotation, phase: Phase, guard: &Guard) -> Self {
        Self {
            pem: Pem {
                certificate: root.certificate.clone(),
                key: root.key.clone(),
                roots: self.pem.roots.clone(),
            },
            rotation: Some(Rotation {
                phase,
                since: guard.now,
                new_has_signed: true,
                ..rotation.clone()
            }),
        }
    }

    fn only_without(&self, root: &Root) -> Self {
        Self {
            pem: Pem {
                roots: without(&self.pem.roots, &root.certificate).concat(),
                ..self.pem.clone()
            },
            rotation: None,
        }
    }

    /// For an operator: what is, and what comes next.
    pub(crate) fn describe(&self, guard: &Guard) -> String {
        let roots = certificates(&self.pem.roots).len();
        let Some(rotation) = &self.rotation else {
            let roots = match roots {
                1 => "one root is trusted".to_owned(),
                _ => format!("{roots} roots are trusted"),
            };
            return format!("no rotation is under way; {roots}");
        };
        let (is, next) = match (rotation.phase, rotation.new_has_signed) {
            (Phase::Announced, false) => ("both roots are trusted, the old one signs", "switch"),
            (Phase::Announced, true) => (
                "both roots are trusted, the old one signs again",
                "abort or switch",
            ),
            (Phase::Switched, _) => ("both roots are trusted, the new one signs", "finish"),
        };
        let due = guard.due(rotation);
        let when = match guard.now >= due {
            true => "now".to_owned(),
            false => format!("from {}", text(due)),
        };
        format!(
            "{is}, since {}; next: `rotate-root {next}`, {when}",
            text(rotation.since)
        )
    }
}

impl Guard {
    /// From when on the next step may be taken.
    fn due(&self, rotation: &Rotation) -> OffsetDateTime {
        rotation.since.saturating_add(self.wait)
    }

    fn check(&self, rotation: &Rotation, consequence: &'static str) -> Result<(), RotationError> {
        let due = self.due(rotation);
        match self.force || self.now >= due {
            true => Ok(()),
            false => Err(RotationError::TooEarly {
                consequence,
                until: text(due),
            }),
        }
    }
}

/// To the second, which is what an operator reads.
fn text(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a PEM text, each as a text of its own.
fn certificates(pem: &str) -> Vec<String> {
    let certificate = |rest: &str| {
        let (body, _) = rest.split_once(END)?;
        Some(format!("{BEGIN}{body}{END}\n"))
    };
    pem.split(BEGIN).skip(1).filter_map(certificate).collect()
}

/// The certificates of `all` but the issuing one of `chain`, which is its first.
fn without(all: &str, chain: &str) -> Vec<String> {
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).ok();
    let issuing = der(chain);
    let mut all = certificates(all);
    all.retain(|one| der(one) != issuing);
    all
}

#[cfg(test)]
mod tests {
    use super::super::material::tests::intermediate;
    use super::*;

    const WAIT: Duration = Duration::hours(24);

    fn stored() -> Stored {
        Stored {
            pem: Material::generate().unwrap(),
            rotation: None,
        }
    }

    fn at(hours: i64) -> Guard {
        Guard {
            now: OffsetDateTime::UNIX_EPOCH + Duration::hours(hours),
            wait: WAIT,
            force: false,
        }
    }

    fn roots(stored: &Stored) -> usize {
        // It has to be one that can be used, whatever step was taken.
        Material::parse(&stored.pem).unwrap().roots().len()
    }

    #[test]
    fn a_rotation_ends_with_the_new_root_alone() {
        let before = stored();
        let announced = before.step(Step::Start, &at(0)).unwrap();
        assert_eq!(announced.pem.certificate, before.pem.certificate);
        assert_eq!(announced.pem.key, before.pem.key);
        assert_eq!(roots(&announced), 2);
        let switched = announced.step(Step::Switch, &at(24)).unwrap();
        assert_ne!(switched.pem.certificate, before.pem.certificate);
        assert_eq!(switched.pem.roots, announced.pem.roots);
        assert_eq!(roots(&switched), 2);
        let finished = switched.step(Step::Finish, &at(48)).unwrap();
        assert_eq!(finished.rotation, None);
        assert_eq!(roots(&finished), 1);
        assert_eq!(finished.pem.key, switched.pem.key);
        assert_eq!(finished.pem.roots, finished.pem.certificate);
        // And the next one may begin.
        assert_eq!(roots(&finished.step(Step::Start, &at(49)).unwrap()), 2);
    }

    #[test]
    fn no_step_is_taken_before_every_leaf_was_renewed_unless_forced() {
        let announced = stored().step(Step::Start, &at(0)).unwrap();
        let early = announced.step(Step::Switch, &at(23)).unwrap_err();
        let text = early.to_string();
        assert!(text.contains("1970-01-02T00:00:00Z"), "{text}");
        assert!(text.contains("--force"), "{text}");
        let forced = Guard {
            force: true,
            ..at(23)
        };
        let switched = announced.step(Step::Switch, &forced).unwrap();
        let early = switched.step(Step::Finish, &at(46));
        assert!(matches!(early, Err(RotationError::TooEarly { .. })));
        assert!(switched.step(Step::Finish, &at(47)).is_ok());
    }

    #[test]
    fn steps_have_an_order() {
        let none = stored();
        for step in [Step::Switch, Step::Finish, Step::Abort] {
            assert!(matches!(none.step(step, &at(0)), Err(RotationError::None)));
        }
        let announced = none.step(Step::Start, &at(0)).unwrap();
        let again = announced.step(Step::Start, &at(99));
        assert!(matches!(again, Err(RotationError::UnderWay)));
        let too_far = announced.step(Step::Finish, &at(99));
        assert!(matches!(too_far, Err(RotationError::NotSwitched)));
        let switched = announced.step(Step::Switch, &at(99)).unwrap();
        let again = switched.step(Step::Switch, &at(999));
        assert!(matches!(again, Err(RotationError::Switched)));
    }

    #[test]
    fn what_nobody_has_seen_is_aborted_at_once() {
        let before = stored();
        let announced = before.step(Step::Start, &at(0)).unwrap();
        let aborted = announced.step(Step::Abort, &at(1)).unwrap();
        assert_eq!(aborted.rotation, None);
        assert_eq!(aborted.pem.key, before.pem.key);
        assert_eq!(aborted.pem.roots, before.pem.roots);
    }

    #[test]
    fn a_switch_is_taken_back_at_once_and_its_root_forgotten_when_no_leaf_of_it_is_left() {
        let before = stored();
        let announced = before.step(Step::Start, &at(0)).unwrap();
        let switched = announced.step(Step::Switch, &at(24)).unwrap();
        let back = switched.step(Step::Abort, &at(25)).unwrap();
        assert_eq!(back.pem.key, before.pem.key);
        assert_eq!(roots(&back), 2);
        let early = back.step(Step::Abort, &at(48));
        assert!(matches!(early, Err(RotationError::TooEarly { .. })));
        let aborted = back.step(Step::Abort, &at(49)).unwrap();
        assert_eq!(roots(&aborted), 1);
        assert_eq!(aborted.pem.key, before.pem.key);
    }

    #[test]
    fn an_authority_below_anothers_root_is_not_rotated_here() {
        let root = Material::generate().unwrap();
        let alone = intermediate(&root, Duration::DAY, true);
        let with_its_root = Pem {
            certificate: format!("{}{}", alone.certificate, root.certificate),
            ..alone.clone()
        };
        for pem in [alone, with_its_root] {
            let plugged_in = Stored {
                pem,
                rotation: None,
            };
            let refused = plugged_in.step(Step::Start, &at(0));
            assert!(matches!(refused, Err(RotationError::PluggedIn)));
        }
    }

    #[test]
    fn a_status_says_what_is_next_and_when() {
        let before = stored();
        let says = |stored: &Stored, hours| stored.describe(&at(hours));
        assert_eq!(
            says(&before, 0),
            "no rotation is under way; one root is trusted"
        );
        let announced = before.step(Step::Start, &at(0)).unwrap();
        assert_eq!(
            says(&announced, 1),
            "both roots are trusted, the old one signs, since 1970-01-01T00:00:00Z; next: \
             `rotate-root switch`, from 1970-01-02T00:00:00Z"
        );
        let switched = announced.step(Step::Switch, &at(24)).unwrap();
        assert!(says(&switched, 48).ends_with("next: `rotate-root finish`, now"));
    }

    #[test]
    fn keys_are_not_logged() {
        let announced = stored().step(Step::Start, &at(0)).unwrap();
        let text = format!("{announced:?}");
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
}
