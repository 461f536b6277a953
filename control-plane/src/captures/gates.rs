//! Pods with the readiness gate `weft.dev/Captured` of which no agent says anything: that of a pod
//! outside the mesh opens, and of one that waits its status says for what.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};

use super::pod_status::{CapturedCondition, LEFT};
use crate::cluster::Cluster;
use crate::index::{GatedPod, Place};
use crate::kinds::{CAPTURED_CONDITION, NOT_IN_MESH};

/// Interval of looks at all of them.
const INTERVAL: Duration = Duration::from_secs(5);
/// Time for an agent to say something, in seconds.
const PATIENCE: i64 = 10;

/// Looks at them for as long as this is the replica that writes statuses. Never ends.
pub(crate) async fn keep(client: Client, cluster: &Arc<Cluster>) {
    loop {
        let now = jiff::Timestamp::now().as_second();
        for pod in cluster.gated_pods() {
            if let Some(condition) = Due::of(&pod, now)
                && let Err(error) = condition.write(&client, &pod).await
            {
                tracing::warn!(pod = %pod.name, %error, "can't write why a pod isn't ready; trying again");
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// A condition that nobody else writes.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Due {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Due {
    /// The one of a pod at that time, in seconds since 1970.
    fn of(pod: &GatedPod, now: i64) -> Option<Self> {
        let (status, reason, message) = match (&pod.place, pod.condition) {
            (Place::Outside, Some(true)) => return None,
            (Place::Outside, _) => (true, NOT_IN_MESH, LEFT.to_owned()),
            (_, Some(_)) => return None,
            (Place::LeftOut(why), None) => (false, "LeftOut", why.clone()),
            (Place::InMesh, None) if now.saturating_sub(pod.created) < PATIENCE => return None,
            (Place::InMesh, None) => (false, "AwaitingCapture", awaiting(pod)),
        };
        Some(Self {
            status,
            reason,
            message,
        })
    }

    /// Nothing is written when an agent has come first.
    async fn write(&self, client: &Client, gated: &GatedPod) -> Result<(), kube::Error> {
        let pods = Api::<Pod>::namespaced(client.clone(), &gated.name.namespace);
        let Some(pod) = pods.get_opt(&gated.name.name).await? else {
            return Ok(());
        };
        let status = pod.status.as_ref();
        let mut conditions = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten();
        let condition = conditions.find(|condition| condition.type_ == CAPTURED_CONDITION);
        let is_true = condition.map(|condition| condition.status == "True");
        if pod.uid().as_deref() != Some(gated.uid.as_str()) || is_true != gated.condition {
            return Ok(());
        }
        let condition = CapturedCondition {
            status: self.status,
            reason: self.reason,
            message: &self.message,
        };
        let version = pod.resource_version();
        let patch = condition.patch(&gated.name, &gated.uid, version.as_deref());
        patch.write(client).await;
        Ok(())
    }
}

fn awaiting(pod: &GatedPod) -> String {
    let GatedPod { name, node, .. } = pod;
    if pod.is_sidecar {
        return format!(
            "its sidecar has not reported yet; kubectl logs --namespace {} {} \
             --container weft-proxy says why",
            name.namespace, name.name
        );
    }
    format!(
        "no agent has reported the pod yet: does one run on node {node} \
         (kubectl get pods --namespace weft-system --output wide), and reach the control plane?"
    )
}

#[cfg(test)]
mod tests {
    use weft_model::NamespacedName;

    use super::*;

    fn due(place: Place, condition: Option<bool>, age: i64) -> Option<(bool, &'static str)> {
        let pod = GatedPod {
            name: NamespacedName::new("shop", "web"),
            uid: "u-1".into(),
            node: "node-1".into(),
            created: 1000,
            condition,
            is_sidecar: false,
            place,
        };
        Due::of(&pod, 1000 + age).map(|due| (due.status, due.reason))
    }

    #[test]
    fn a_gate_of_a_pod_outside_the_mesh_opens() {
        for condition in [None, Some(false)] {
            assert_eq!(due(Place::Outside, condition, 0), Some((true, NOT_IN_MESH)));
        }
        assert_eq!(due(Place::Outside, Some(true), 0), None);
    }

    #[test]
    fn a_pod_that_no_agent_speaks_of_says_so_and_what_an_agent_said_stays() {
        assert_eq!(due(Place::InMesh, None, PATIENCE - 1), None);
        let said = due(Place::InMesh, None, PATIENCE);
        assert_eq!(said, Some((false, "AwaitingCapture")));
        for condition in [Some(false), Some(true)] {
            assert_eq!(due(Place::InMesh, condition, 1000), None);
        }
        let why = Place::LeftOut("its address is another's".into());
        assert_eq!(due(why, None, 0), Some((false, "LeftOut")));
    }
}
