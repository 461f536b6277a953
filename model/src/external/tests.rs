use super::*;

fn service(name: &str, hosts: &[&str], addresses: &[&str]) -> ExternalService {
    let (namespace, name) = name.split_once('/').unwrap();
    let port = |number, protocol, target_port| ExternalPort {
        name: "".into(),
        number,
        protocol,
        target_port,
    };
    ExternalService {
        key: NamespacedName::new(namespace, name),
        is_mesh_wide: namespace == "weft-system",
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        addresses: addresses
            .iter()
            .map(|block| block.parse().unwrap())
            .collect(),
        ports: vec![
            port(80, ExternalProtocol::Http, 8080),
            port(443, ExternalProtocol::Tls, 443),
            port(5432, ExternalProtocol::Tcp, 5432),
        ],
        endpoints: Vec::new(),
        tls: None,
    }
}

fn all(services: Vec<ExternalService>) -> Vec<Arc<ExternalService>> {
    services.into_iter().map(Arc::new).collect()
}

fn lookup(destination: &str) -> ExternalLookup<'static> {
    ExternalLookup {
        client_namespace: "shop",
        destination: destination.parse().unwrap(),
    }
}

fn requested(source: HostSource, name: &str) -> RequestedHost {
    RequestedHost {
        source,
        name: name.into(),
    }
}

fn by_address(services: &[Arc<ExternalService>], address: &str) -> Option<String> {
    let found = lookup(address).by_address(services.iter())?;
    Some(found.service.key.name.to_string())
}

fn by_host(
    services: &[Arc<ExternalService>],
    port: u16,
    source: HostSource,
    name: &str,
) -> Option<String> {
    let requested = requested(source, name);
    let found = lookup(&format!("192.0.2.9:{port}")).by_host(services.iter(), &requested)?;
    Some(found.service.key.name.to_string())
}

#[test]
fn the_closest_block_counts_on_declared_ports_only() {
    let services = all(vec![
        service("shop/wide", &["wide.example"], &["192.0.2.0/24"]),
        service("shop/one", &["one.example"], &["192.0.2.7"]),
    ]);
    assert_eq!(by_address(&services, "192.0.2.7:443").unwrap(), "one");
    assert_eq!(by_address(&services, "192.0.2.8:5432").unwrap(), "wide");
    assert_eq!(by_address(&services, "192.0.2.8:22"), None);
    assert_eq!(by_address(&services, "198.51.100.1:443"), None);
}

#[test]
fn the_closest_name_counts_where_no_addresses_are_given() {
    use HostSource::{HttpAuthority, ServerName};
    let services = all(vec![
        service("shop/any", &["*.example.org"], &[]),
        service("shop/one", &["a.example.org"], &[]),
        service("shop/elsewhere", &["b.example.org"], &["192.0.2.7"]),
    ]);
    assert_eq!(
        by_host(&services, 443, ServerName, "a.example.org").unwrap(),
        "one"
    );
    assert_eq!(
        by_host(&services, 80, HttpAuthority, "b.example.org").unwrap(),
        "any"
    );
    for (port, source, name) in [
        (443, ServerName, "example.org"),
        (443, HttpAuthority, "a.example.org"),
        (80, ServerName, "a.example.org"),
        (5432, ServerName, "a.example.org"),
        (22, ServerName, "a.example.org"),
    ] {
        assert_eq!(
            by_host(&services, port, source, name),
            None,
            "{name}:{port}"
        );
    }
    assert!(lookup("192.0.2.9:443").any_by_host(services.iter()));
    for address in ["192.0.2.9:22", "192.0.2.9:5432"] {
        assert!(
            !lookup(address).any_by_host(services.iter()),
            "nothing to wait for"
        );
    }
}

#[test]
fn nobody_leads_other_namespaces_astray() {
    let hosts = &["a.example.org"];
    let foreign = service("other/foreign", hosts, &["192.0.2.7"]);
    let foreign_name = service("other/foreign", hosts, &[]);
    let wide = service("weft-system/wide", hosts, &["192.0.2.7"]);
    let own = service("shop/own", hosts, &["192.0.2.0/24"]);
    let services = all(vec![foreign.clone(), foreign_name]);
    assert_eq!(by_address(&services, "192.0.2.7:443"), None);
    assert_eq!(
        by_host(&services, 443, HostSource::ServerName, hosts[0]),
        None
    );
    assert!(!lookup("192.0.2.9:443").any_by_host(services.iter()));
    let services = all(vec![foreign.clone(), wide.clone()]);
    assert_eq!(by_address(&services, "192.0.2.7:443").unwrap(), "wide");
    // One's own counts first, however close.
    let services = all(vec![foreign, own, wide]);
    assert_eq!(by_address(&services, "192.0.2.7:443").unwrap(), "own");
}

#[test]
fn its_address_is_an_endpoint_else_the_original_destination_or_what_its_host_has_in_dns() {
    let mut named = service("shop/a", &["*.example.org"], &[]);
    let address = |service: &ExternalService| {
        let services = all(vec![service.clone()]);
        let found = lookup("192.0.2.9:80").by_host(
            services.iter(),
            &requested(HostSource::HttpAuthority, "a.example.org"),
        );
        found.unwrap().address()
    };
    assert_eq!(
        address(&named),
        ExternalAddress::DnsName {
            name: "a.example.org".into(),
            port: 8080
        }
    );
    named.endpoints = vec!["fd00::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
    let wanted = vec!["192.0.2.1:8080".parse().unwrap()];
    assert_eq!(address(&named), ExternalAddress::Addresses(wanted));
    named.endpoints.truncate(1);
    let wanted = vec!["[fd00::1]:8080".parse().unwrap()];
    assert_eq!(
        address(&named),
        ExternalAddress::Addresses(wanted),
        "of the other family where there is none"
    );
    let services = all(vec![service("shop/b", &["b.example"], &["192.0.2.0/24"])]);
    let found = lookup("192.0.2.9:80").by_address(services.iter()).unwrap();
    let wanted = vec!["192.0.2.9:8080".parse().unwrap()];
    assert_eq!(found.address(), ExternalAddress::Addresses(wanted));
}

#[test]
fn tls_asks_for_the_name_that_is_given_else_the_one_that_was_asked_for() {
    let mut wildcard = service("shop/a", &["*.example.org", "example.net"], &[]);
    let server_name = |service: &ExternalService| {
        let services = all(vec![service.clone()]);
        let lookup = lookup("192.0.2.9:80");
        let found = match service.addresses.is_empty() {
            true => lookup.by_host(
                services.iter(),
                &requested(HostSource::HttpAuthority, "x.example.org"),
            ),
            false => lookup.by_address(services.iter()),
        };
        found
            .unwrap()
            .tls_origination()
            .map(|(_, name)| name.to_string())
    };
    assert_eq!(server_name(&wildcard), None);
    wildcard.tls = Some(Arc::default());
    assert_eq!(server_name(&wildcard).unwrap(), "x.example.org");
    wildcard.addresses = vec!["192.0.2.9".parse().unwrap()];
    assert_eq!(server_name(&wildcard).unwrap(), "example.net");
    wildcard.tls = Some(Arc::new(TlsOrigination {
        server_name: Some("tls.example".into()),
        ..Default::default()
    }));
    assert_eq!(server_name(&wildcard).unwrap(), "tls.example");
}
