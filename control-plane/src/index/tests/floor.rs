//! What pods and namespaces ask for below the MeshConfig's floor, and pods that nobody vouches for.

use weft_model::egress::EgressMode;

use super::*;
use crate::kinds::PodWishes;

fn config(spec: &str) -> String {
    format!(
        "---\napiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{ name: default }}\nspec: {spec}\n"
    )
}

fn namespace(mesh: &str, annotations: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{ name: shop, labels: {{ {mesh} }}, annotations: {{ {annotations} }} }}\n"
    )
}

/// The only pod, in a mesh with that floor.
fn workload(floor: &str, of_namespace: &str, of_pod: &str) -> (Workload, Vec<String>) {
    let text = format!(
        "{}{}{}",
        config(floor),
        namespace(ENABLED, of_namespace),
        pod("a", "10.0.0.1", of_pod)
    );
    let bed = bed(&[("all.yaml", &text)]);
    (bed.workloads().remove(0), bed.conflicts())
}

#[test]
fn neither_a_pod_nor_its_namespace_is_more_permissive_than_the_floor() {
    let permissive = "weft.dev/mtls-mode: permissive";
    for (of_namespace, of_pod) in [("", permissive), (permissive, ""), (permissive, permissive)] {
        let (workload, conflicts) =
            workload("{ floor: { mtlsMode: strict } }", of_namespace, of_pod);
        assert_eq!(workload.mtls_mode, MtlsMode::Strict);
        let said = [("Namespace shop", of_namespace), ("Pod shop/a", of_pod)];
        let said = said.iter().filter(|(_, asked)| !asked.is_empty());
        for (object, _) in said {
            let of_it = |text: &&String| {
                text.contains(object) && text.contains("metadata.annotations[weft.dev/mtls-mode]")
            };
            assert_eq!(conflicts.iter().filter(of_it).count(), 1, "{conflicts:?}");
        }
    }
    // Stricter than the floor is what everybody may be, and without a floor the pod decides.
    let (strict, conflicts) = workload(
        "{ floor: { mtlsMode: permissive } }",
        "",
        "weft.dev/mtls-mode: strict",
    );
    assert_eq!((strict.mtls_mode, conflicts), (MtlsMode::Strict, vec![]));
    let (own, conflicts) = workload("{ mtls: { mode: strict } }", "", permissive);
    assert_eq!((own.mtls_mode, conflicts), (MtlsMode::Permissive, vec![]));
}

#[test]
fn no_port_is_more_permissive_than_the_floor() {
    let ports = "weft.dev/port-modes: '80=disabled,81=permissive,82=strict'";
    for (spec, modes, told) in [
        (
            "{ floor: { mtlsMode: strict } }",
            "80=strict,81=strict,82=strict",
            "`80=disabled,81=permissive`",
        ),
        (
            "{ floor: { mtlsMode: permissive } }",
            "80=permissive,81=permissive,82=strict",
            "`80=disabled`",
        ),
        (
            "{ mtls: { mode: strict } }",
            "80=disabled,81=permissive,82=strict",
            "",
        ),
    ] {
        let (workload, conflicts) = workload(spec, "", ports);
        assert_eq!(workload.port_modes.to_string(), modes, "{spec}");
        assert_eq!(conflicts.is_empty(), told.is_empty(), "{conflicts:?}");
        for conflict in &conflicts {
            assert!(
                conflict.contains("metadata.annotations[weft.dev/port-modes]"),
                "{conflict}"
            );
            assert!(conflict.contains(told), "{conflict}");
        }
    }
}

#[test]
fn modes_of_ports_that_can_not_be_read_leave_the_whole_pod_strict() {
    let annotations = [
        ("weft.dev/mtls-mode".to_owned(), "permissive".to_owned()),
        ("weft.dev/port-modes".to_owned(), "80=mutual".to_owned()),
    ];
    let (wishes, problems) = PodWishes::read(Some(&annotations.into_iter().collect()));
    assert_eq!(wishes.mtls_mode, Some(MtlsMode::Strict));
    assert!(wishes.port_modes.is_empty());
    assert!(problems[0].to_string().contains("port 80: `mutual`"));
}

#[test]
fn a_whole_pod_may_be_disabled_where_no_floor_says_otherwise() {
    let disabled = "weft.dev/mtls-mode: disabled";
    for (spec, mode) in [
        ("{}", MtlsMode::Disabled),
        ("{ floor: { mtlsMode: permissive } }", MtlsMode::Permissive),
    ] {
        let (workload, conflicts) = workload(spec, "", disabled);
        assert_eq!(workload.mtls_mode, mode);
        assert_eq!(conflicts.len(), usize::from(mode == MtlsMode::Permissive));
    }
}

#[test]
fn a_namespace_can_not_choose_an_egress_mode_below_the_floor() {
    let any = "weft.dev/egress-mode: AllowAny";
    let (workload, conflicts) = workload("{ floor: { egressMode: RegisteredOnly } }", any, "");
    assert_eq!(workload.egress_mode, EgressMode::RegisteredOnly);
    assert!(
        conflicts[0].contains("weft.dev/egress-mode"),
        "{conflicts:?}"
    );
}

#[test]
fn no_annotation_opens_a_pod_to_its_node_where_the_floor_is_strict() {
    let all = "weft.dev/node-access: all";
    let configs = [
        ("{ floor: { mtlsMode: strict } }", "no probes", 1),
        (
            "{ floor: { mtlsMode: strict }, mtls: { nodeAccess: all } }",
            "all",
            1,
        ),
        ("{ floor: { mtlsMode: permissive } }", "all", 0),
    ];
    for (spec, mode, told) in configs {
        for (of_namespace, of_pod) in [(all, ""), ("", all)] {
            let (workload, conflicts) = workload(spec, of_namespace, of_pod);
            assert_eq!(workload.node_access.to_string(), mode, "{spec}");
            assert_eq!(conflicts.len(), told, "{conflicts:?}");
        }
    }
}

#[test]
fn no_pod_keeps_to_agents_where_none_may_leave_the_mesh() {
    let node = "weft.dev/mode: node";
    let (_, conflicts) = workload("{ floor: { optOut: Forbidden } }", "", node);
    assert!(conflicts[0].contains("weft.dev/mode"), "{conflicts:?}");
    let (_, conflicts) = workload("{ floor: { mtlsMode: permissive } }", "", node);
    assert_eq!(conflicts, Vec::<String>::new());
}

#[test]
fn who_excludes_too_much_is_told_what_forbids_it() {
    let asked = "weft.dev/exclude-outbound-ports: '3306,5432'";
    let why = |spec: &str| workload(spec, "", asked).1;
    let registered = why("{ egress: { mode: RegisteredOnly } }");
    assert!(
        registered[0].ends_with(
            "3306, 5432: egress mode RegisteredOnly holds, and the MeshConfig's \
             spec.floor.exclusions allows none: no effect"
        ),
        "{registered:?}"
    );
    let some = why("{ floor: { exclusions: { ports: ['3306'] } } }");
    assert!(
        some[0].ends_with(
            "5432: not among those that the MeshConfig's spec.floor.exclusions allows: no effect"
        ),
        "{some:?}"
    );
}

#[test]
fn an_exception_is_for_the_namespaces_that_it_selects() {
    let permissive = "weft.dev/mtls-mode: permissive";
    for (namespaces, is_excepted) in [
        ("{ names: [shop] }", true),
        ("{ names: [bank] }", false),
        (
            "{ selector: { matchLabels: { weft.dev/mesh: enabled } } }",
            true,
        ),
        ("{ selector: { matchLabels: { tier: legacy } } }", false),
    ] {
        let floor = format!(
            "{{ floor: {{ mtlsMode: strict, optOut: Forbidden, exceptions: [{{ namespaces: {namespaces}, mtlsMode: permissive }}] }} }}"
        );
        let (workload, _) = workload(&floor, permissive, "");
        let mode = if is_excepted {
            MtlsMode::Permissive
        } else {
            MtlsMode::Strict
        };
        assert_eq!(workload.mtls_mode, mode, "{namespaces}");
        // What an exception leaves out is as everywhere.
        let (left, _) = self::workload(&floor, "", "weft.dev/mesh: disabled");
        assert!(left.enrolment.is_enrolled(), "{namespaces}");
    }
}

#[test]
fn exclusions_do_not_lead_around_registered_only_unless_the_floor_allows_them() {
    let asked = "weft.dev/exclude-outbound-ports: '3306,5432', \
                 weft.dev/exclude-outbound-cidrs: '10.1.0.0/16,192.168.0.0/16'";
    let followed = |spec: &str| {
        let (workload, conflicts) = workload(spec, "", asked);
        let blocks = workload.exclusions.blocks.iter().map(ToString::to_string);
        let blocks: Vec<_> = blocks.collect();
        (workload.exclusions.ports, blocks.join(","), conflicts.len())
    };
    let all = "10.1.0.0/16,192.168.0.0/16".to_owned();
    assert_eq!(followed("{}"), (vec![3306, 5432], all.clone(), 0));
    let registered = "egress: { mode: RegisteredOnly }";
    let none = followed(&format!("{{ {registered} }}"));
    assert_eq!(none, (vec![], String::new(), 2));
    let some = "floor: { exclusions: { ports: ['3000-4000'], cidrs: [10.0.0.0/8] } }";
    for spec in [
        format!("{{ {some} }}"),
        format!("{{ {registered}, {some} }}"),
    ] {
        assert_eq!(followed(&spec), (vec![3306], "10.1.0.0/16".to_owned(), 2));
    }
    let any = "floor: { exclusions: { ports: ['1-65535'], cidrs: [0.0.0.0/0, '::/0'] } }";
    let spec = format!("{{ {registered}, {any} }}");
    assert_eq!(followed(&spec), (vec![3306, 5432], all, 0));
}

#[test]
fn nobody_leaves_where_the_floor_forbids_it() {
    let floor = "{ floor: { optOut: Forbidden, enrolledNamespaces: { names: [shop] } } }";
    let is_in = |floor: &str, label: &str, of_pod: &str| {
        let text = format!(
            "{}{}{}",
            config(floor),
            namespace(label, ""),
            pod("a", "10.0.0.1", of_pod)
        );
        let bed = bed(&[("all.yaml", &text)]);
        let workload = bed.workloads().remove(0);
        (workload.enrolment.is_enrolled(), bed.conflicts().len())
    };
    let out = "weft.dev/mesh: disabled";
    assert_eq!(is_in("{}", ENABLED, out), (false, 0));
    assert_eq!(is_in(floor, ENABLED, out), (true, 1));
    assert_eq!(is_in(floor, "", ""), (true, 0));
    assert_eq!(
        is_in(floor, out, ""),
        (true, 1),
        "the label is the tenant's word"
    );
    assert_eq!(is_in(floor, out, out), (true, 2));
    let only_pods = "{ floor: { optOut: Forbidden } }";
    assert_eq!(is_in(only_pods, "", out), (false, 0), "it is in no mesh");
}

#[test]
fn a_change_of_the_floor_holds_for_pods_that_are_there() {
    let mut bed = bed(&[
        ("ns.yaml", &namespace(ENABLED, "")),
        (
            "pod.yaml",
            &pod("a", "10.0.0.1", "weft.dev/mtls-mode: permissive"),
        ),
    ]);
    let modes = |bed: &Bed| (bed.workloads()[0].mtls_mode, bed.conflicts().len());
    assert_eq!(modes(&bed), (MtlsMode::Permissive, 0));
    let strict = config("{ floor: { mtlsMode: strict } }");
    bed.apply("mesh.yaml", &strict);
    assert_eq!(modes(&bed), (MtlsMode::Strict, 1));
    bed.delete("mesh.yaml", &strict);
    assert_eq!(modes(&bed), (MtlsMode::Permissive, 0));
}

#[test]
fn a_pod_of_the_mesh_that_has_others_probed_is_told_so_where_it_is_already() {
    let probing = |host: &str| {
        let probe = format!("livenessProbe: {{ httpGet: {{ port: 80, host: {host} }} }}");
        let of_container = format!("name: c, {probe},");
        pod("a", "10.0.0.1", "note: a").replace("name: c,", &of_container)
    };
    let mut bed = bed(&[("pod.yaml", &probing("10.0.0.8"))]);
    assert_eq!(bed.conflicts(), [] as [&str; 0], "none of the mesh's");
    bed.apply("ns.yaml", &namespace(ENABLED, ""));
    let conflicts = bed.conflicts();
    let field = "Pod shop/a: field spec.containers[0].livenessProbe.httpGet.host: `10.0.0.8`";
    assert!(conflicts[0].contains(field), "{conflicts:?}");
    let notices: Vec<_> = bed.index.conflicts().map(Conflict::notice).collect();
    let [Some(notice)] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert_eq!(notice.reason, "ForeignProbe");
    bed.apply("pod.yaml", &probing("10.0.0.1"));
    assert_eq!(bed.conflicts(), [] as [&str; 0], "its own address");
}

#[test]
fn a_mirror_pod_and_a_pod_without_a_service_account_are_nobody() {
    let mirror = format!("{ENABLED}, kubernetes.io/config.mirror: abc");
    let bed = bed(&[("pod.yaml", &pod("a", "10.0.0.1", &mirror))]);
    let workload = bed.workloads().remove(0);
    assert_eq!(workload.enrolment, Enrolment::Outside);
    let certificate = bed
        .index
        .authorize_certificate(&workload.identity, "node-1");
    assert_eq!(certificate, Err(CertificateDenied::NoPod));
    assert!(bed.conflicts()[0].contains("Pod shop/a is not taken in"));

    let mut bed = Bed::default();
    let document = serde_json::json!({
        "metadata": { "name": "a", "namespace": "shop", "uid": "u", "annotations": { "weft.dev/mesh": "enabled" } },
        "spec": { "nodeName": "node-1", "containers": [] },
        "status": { "podIPs": [{ "ip": "10.0.0.1" }] },
    });
    let read = crate::kinds::tests::read_live::<PodObject>(PodObject::KIND, document);
    let applied = Event::Applied(Origin::new(), read.object.unwrap().into());
    bed.index.handle_event(applied);
    bed.settle();
    assert_eq!(bed.workloads()[0].enrolment, Enrolment::Outside);
    assert_eq!(bed.conflicts().len(), 1);
}
