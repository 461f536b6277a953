//! Pods in the names of cgroups.

/// The UID of the pod that one of these cgroups belongs to, by the text of `/proc/PID/cgroup`
/// (cgroups(7)) of either version. kubelet calls it `pod<UID>` with its cgroupfs driver
/// and `kubepods[-<class>]-pod<UID>.slice`, with underscores for dashes, with systemd's.
pub(crate) fn pod_of_cgroups(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        // hierarchy:controllers:path, and a path may hold colons.
        let path = line.splitn(3, ':').nth(2)?;
        let mut below_pods = false;
        path.split('/').find_map(|part| {
            let name = part.strip_suffix(".slice").unwrap_or(part);
            let pods = name.starts_with("kubepods") || name.ends_with("-kubepods");
            below_pods |= pods || name.contains("-kubepods-");
            if !below_pods {
                return None;
            }
            let uid = match part.strip_suffix(".slice") {
                Some(slice) => slice.rsplit_once("-pod")?.1,
                None => part.strip_prefix("pod")?,
            };
            is_uid(uid).then(|| normalized_uid(uid))
        })
    })
}

/// A UUID, or the hash that kubelet makes for a static pod.
fn is_uid(text: &str) -> bool {
    text.len() >= 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'))
}

/// The UID with dashes, however a cgroup writes it.
pub(crate) fn normalized_uid(uid: &str) -> String {
    uid.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "6f1c7a52-8f5e-4c1b-9d7e-0a1b2c3d4e5f";
    const SLICE: &str = "6f1c7a52_8f5e_4c1b_9d7e_0a1b2c3d4e5f";

    #[test]
    fn a_pod_is_recognised_in_every_form_that_kubelet_and_runtimes_give() {
        let container = "1d8a".repeat(16);
        for path in [
            format!("0::/kubepods/besteffort/pod{UID}/{container}"),
            format!("0::/kubepods/pod{UID}/{container}"),
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE}.slice/cri-containerd-{container}.scope"
            ),
            format!("0::/kubepods.slice/kubepods-pod{SLICE}.slice/crio-{container}.scope"),
            format!("0::/../../kubepods/burstable/pod{UID}/{container}"),
            format!(
                "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{SLICE}.slice/x.scope"
            ),
            format!(
                "12:pids:/test/node-1/kubepods/besteffort/pod{UID}/{container}\n0::/containerd"
            ),
            format!("4:cpu,cpuacct:/kubepods/pod{UID}\n3:memory:/kubepods/pod{UID}"),
        ] {
            assert_eq!(pod_of_cgroups(&path).as_deref(), Some(UID), "{path}");
        }
        let hash = "0123456789abcdef0123456789abcdef";
        let path = format!("0::/kubepods/pod{hash}/x");
        assert_eq!(pod_of_cgroups(&path).as_deref(), Some(hash));
    }

    #[test]
    fn what_is_in_no_pod_is_not_taken_for_one() {
        for path in [
            "0::/".to_owned(),
            "0::/system.slice/kubelet.service".to_owned(),
            "0::/kubepods/besteffort".to_owned(),
            // Anybody may name a cgroup like a pod, elsewhere.
            format!("0::/user.slice/pod{UID}"),
            "0::/kubepods/podcast".to_owned(),
            String::new(),
        ] {
            assert_eq!(pod_of_cgroups(&path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC*") {
            let _ = pod_of_cgroups(&text);
        }
    }
}
