//! What a node lets its agent do, on its way to the control plane.

use weft_proto::v1;

/// What a node lets its agent do, tried for real.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeTrial {
    /// Kernel programs, each with the kernel's reason where it is refused; none when it didn't come
    /// to that.
    pub programs: Vec<(String, Option<String>)>,
    /// Why pods of the node can't be captured, when they can't.
    pub failure: Option<String>,
}

impl NodeTrial {
    pub(crate) fn to_message(&self) -> v1::NodeCapture {
        let programs = self
            .programs
            .iter()
            .map(|(name, failure)| v1::ProgramTrial {
                name: name.clone(),
                failure: failure.clone().unwrap_or_default(),
            });
        v1::NodeCapture {
            capable: self.failure.is_none(),
            programs: programs.collect(),
            reason: self.failure.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_capable_unless_there_is_a_reason_that_it_is_not() {
        let programs = vec![
            ("connect4".to_owned(), None),
            ("lookup_strict".to_owned(), Some("invalid".to_owned())),
        ];
        let trial = NodeTrial {
            programs,
            failure: Some("no lookup".to_owned()),
        };
        let message = trial.to_message();
        assert!(!message.capable);
        assert_eq!(message.reason, "no lookup");
        assert_eq!(message.programs[0].failure, "");
        assert_eq!(message.programs[1].failure, "invalid");
        assert!(NodeTrial::default().to_message().capable);
    }
}
