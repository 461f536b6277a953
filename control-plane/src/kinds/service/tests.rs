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
