use super::*;
use crate::kinds::Object;
use crate::source::manifest::parse;

fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec:
  clusterIPs: [10.96.0.1, 'fd00:10:96::1']
  selector: { app: web }
  ports:
    - { name: http, port: 80, targetPort: http, appProtocol: http }
    - { name: dns, port: 53, protocol: UDP }
    - { name: admin, port: 9000 }
";

#[test]
fn a_service_keeps_its_tcp_ports_and_addresses() {
    let Object::Service(object) = parse(SERVICE).unwrap().remove(0) else {
        panic!()
    };
    let ServiceKind::ClusterIp(addresses) = &object.service.kind else {
        panic!()
    };
    assert_eq!(addresses.len(), 2);
    let targets = [
        (80, TargetPort::Name("http".into())),
        (9000, TargetPort::Number(9000)),
    ];
    assert_eq!(object.targets, targets);
    assert!(!object.service.is_node_local);
    let local = SERVICE.replace("spec:", "spec:\n  internalTrafficPolicy: Local");
    let Object::Service(local) = parse(&local).unwrap().remove(0) else {
        panic!()
    };
    assert!(local.service.is_node_local);
    assert_eq!(&*object.service.hostname, "web.shop.svc.cluster.local");
}

#[test]
fn a_service_keeps_clients_with_an_endpoint_for_as_long_as_it_says() {
    let affinity = |fields: &str| {
        let text = SERVICE.replace("spec:", &format!("spec:\n{fields}"));
        match parse(&text).map(|mut objects| objects.remove(0)) {
            Ok(Object::Service(object)) => Ok(object.service.session_affinity),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    let of = |seconds: u32| {
        let config =
            format!("sessionAffinityConfig: {{ clientIP: {{ timeoutSeconds: {seconds} }} }}");
        affinity(&format!("  sessionAffinity: ClientIP\n  {config}"))
    };
    assert_eq!(affinity("  sessionAffinity: None"), Ok(None));
    let default = affinity("  sessionAffinity: ClientIP");
    assert_eq!(default, Ok(Some(Duration::from_secs(3 * 3600))));
    assert_eq!(of(5), Ok(Some(Duration::from_secs(5))));
    assert_eq!(of(86_400), Ok(Some(Duration::from_secs(86_400))));
    for wrong in [0, 86_401] {
        let error = of(wrong).unwrap_err();
        assert!(
            error.contains("timeoutSeconds: not between 1 and 86400"),
            "{error}"
        );
    }
}

#[test]
fn a_service_prefers_the_endpoints_that_it_says() {
    let distribution = |value: &str| {
        let text = SERVICE.replace("spec:", &format!("spec:\n  trafficDistribution: {value}"));
        let Object::Service(object) = parse(&text).unwrap().remove(0) else {
            panic!()
        };
        object.service.traffic_distribution
    };
    let (zone, node) = (
        Some(TrafficDistribution::PreferSameZone),
        Some(TrafficDistribution::PreferSameNode),
    );
    assert_eq!(distribution("PreferClose"), zone);
    assert_eq!(distribution("PreferSameZone"), zone);
    assert_eq!(distribution("PreferSameNode"), node);
    assert_eq!(distribution("OfTheFuture"), None);
    assert_eq!(distribution("null"), None);
}

#[test]
fn a_service_has_ports_of_nodes_where_they_lead_to_all_endpoints() {
    let ports = |fields: &str| {
        let text = SERVICE
            .replace("spec:", &format!("spec:\n  type: NodePort\n{fields}"))
            .replace("targetPort: http,", "targetPort: http, nodePort: 30080,");
        let Object::Service(object) = parse(&text).unwrap().remove(0) else {
            panic!()
        };
        let ports = object.service.ports.iter();
        ports.map(|port| port.node_port).collect::<Vec<_>>()
    };
    assert_eq!(ports(""), [Some(30_080), None]);
    assert_eq!(ports("  externalTrafficPolicy: Local"), [None, None]);
}

#[test]
fn a_service_without_an_address_is_told_what_to_do() {
    let error = complaint(&SERVICE.replace("clusterIPs: [10.96.0.1, 'fd00:10:96::1']", ""));
    assert!(
        error.contains("spec.clusterIP: missing; a directory allocates none"),
        "{error}"
    );
    let headless = SERVICE.replace(
        "clusterIPs: [10.96.0.1, 'fd00:10:96::1']",
        "clusterIP: None",
    );
    let Object::Service(object) = parse(&headless).unwrap().remove(0) else {
        panic!()
    };
    assert_eq!(object.service.kind, ServiceKind::Headless);
}
