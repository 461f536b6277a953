//! ExternalServices: what is outside the cluster.

mod schema;

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::api::DynamicObject;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use weft_model::NamespacedName;
use weft_model::address::canonical_ip;
use weft_model::external::{ExternalPort, ExternalProtocol, ExternalService, TlsOrigination};
use weft_model::host::HostPattern;

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, LAST_GOOD, Provider};
use super::kind_object::{Form, KindObject, Read};
use schema::{ExternalPortSpec, ExternalServiceSpec, ExternalTlsSpec, TlsModeSpec};

/// An external service. Whether it is there for all namespaces is for the index to say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExternalServiceObject {
    pub(crate) service: ExternalService,
}

impl KindObject for ExternalServiceObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "ExternalService",
        group: "weft.dev",
        versions: &["v1alpha1"],
        plural: "externalservices",
        provider: Provider::Weft,
        fallback: LAST_GOOD,
    })];

    type Document = DynamicObject;

    fn name(&self) -> NamespacedName {
        self.service.key.clone()
    }

    fn read(_: Kind, object: DynamicObject, form: Form) -> Read<Self> {
        let key = match form {
            // One that gets its name from the API server has none yet.
            Form::Admission => Ok(NamespacedName::new("", "new")),
            Form::Manifest | Form::Live => document::namespaced_name(&object.metadata),
        };
        key.and_then(|key| Self::parse(key, &document::required_spec(&object)?))
            .into()
    }

    fn definition() -> Option<CustomResourceDefinition> {
        Some(schema::ExternalService::crd())
    }
}

impl ExternalServiceObject {
    fn parse(key: NamespacedName, spec: &ExternalServiceSpec) -> Result<Self, FieldError> {
        let hosts: Vec<HostPattern> = each("spec.hosts", &spec.hosts, |host| host.parse())?;
        if hosts.is_empty() {
            let why = "an external service has a name";
            return Err(FieldError::missing("spec.hosts", why));
        }
        let service = ExternalService {
            key,
            is_mesh_wide: false,
            addresses: each("spec.addresses", &spec.addresses, |block| block.parse())?,
            ports: ports(spec)?,
            endpoints: each("spec.endpoints", &spec.endpoints, |text| endpoint(text))?,
            tls: origination(spec, &hosts)?.map(Arc::new),
            hosts,
        };
        Ok(Self { service })
    }
}

/// All of a list, or the first complaint with the place of what it is about.
fn each<T, E: ToString>(
    field: &str,
    texts: &[String],
    parse: impl Fn(&String) -> Result<T, E>,
) -> Result<Vec<T>, FieldError> {
    let parsed = texts.iter().enumerate().map(|(index, text)| {
        parse(text).map_err(|error| FieldError::new(format!("{field}[{index}]"), error.to_string()))
    });
    parsed.collect()
}

fn endpoint(text: &str) -> Result<IpAddr, String> {
    let address = text.parse().map(canonical_ip);
    let address = address.map_err(|_| format!("`{text}` is not an IP address"))?;
    // Each workload would find another server there: itself.
    match address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        true => Err(format!(
            "`{text}` is no address that a server outside can have"
        )),
        false => Ok(address),
    }
}

fn ports(spec: &ExternalServiceSpec) -> Result<Vec<ExternalPort>, FieldError> {
    let mut ports = Vec::<ExternalPort>::new();
    for (index, port) in spec.ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{index}].{name}");
        let read = read_port(port, field)?;
        if ports.iter().any(|other| other.number == read.number) {
            let message = format!("{} is there twice", read.number);
            return Err(FieldError::new(field("number"), message));
        }
        if read.protocol == ExternalProtocol::Tcp && spec.addresses.is_empty() {
            let message = "clients of protocol TCP don't say whom they want: give spec.addresses";
            return Err(FieldError::new(field("protocol"), message));
        }
        let originates = spec
            .tls
            .as_ref()
            .is_some_and(|tls| tls.mode == TlsModeSpec::Originate);
        if originates
            && matches!(
                read.protocol,
                ExternalProtocol::Https | ExternalProtocol::Tls
            )
        {
            let message = "the application speaks TLS itself there: spec.tls.mode Originate is for ports of protocol HTTP or TCP";
            return Err(FieldError::new(field("protocol"), message));
        }
        ports.push(read);
    }
    match ports.is_empty() {
        true => Err(FieldError::missing("spec.ports", "a service has one")),
        false => Ok(ports),
    }
}

fn read_port(
    port: &ExternalPortSpec,
    field: impl Fn(&str) -> String,
) -> Result<ExternalPort, FieldError> {
    let number = |name: &str, number: i32| {
        let checked = u16::try_from(number).ok().filter(|port| *port != 0);
        checked.ok_or_else(|| {
            FieldError::new(
                field(name),
                format!("{number} is not a port between 1 and 65535"),
            )
        })
    };
    Ok(ExternalPort {
        name: port.name.as_str().into(),
        number: number("number", port.number)?,
        protocol: port.protocol.into(),
        target_port: number("targetPort", port.target_port.unwrap_or(port.number))?,
    })
}

fn origination(
    spec: &ExternalServiceSpec,
    hosts: &[HostPattern],
) -> Result<Option<TlsOrigination>, FieldError> {
    let Some(tls) = &spec.tls else {
        return Ok(None);
    };
    if tls.mode == TlsModeSpec::None {
        let nothing = ExternalTlsSpec::default();
        if *tls != nothing {
            let message = "what else spec.tls says has no effect without mode Originate";
            return Err(FieldError::new("spec.tls.mode", message));
        }
        return Ok(None);
    }
    let is_name = |name: &String| match ServerName::try_from(name.as_str()) {
        Ok(_) => Ok(Arc::from(name.as_str())),
        Err(_) => Err(format!("`{name}` is neither a DNS name nor an address")),
    };
    let server_name = tls.server_name.as_ref().map(is_name).transpose();
    let server_name =
        server_name.map_err(|message| FieldError::new("spec.tls.serverName", message))?;
    let any_exact = hosts.iter().any(|host| host.exact_name().is_some());
    if server_name.is_none() && !any_exact && !spec.addresses.is_empty() {
        let why = "whom to ask for can't be told from spec.hosts, which are wildcards, nor from the client, which is recognized by spec.addresses";
        return Err(FieldError::missing("spec.tls.serverName", why));
    }
    Ok(Some(TlsOrigination {
        server_name,
        subject_alt_names: each("spec.tls.subjectAltNames", &tls.subject_alt_names, is_name)?,
        roots: tls
            .ca_certificates
            .as_deref()
            .map(roots)
            .transpose()?
            .unwrap_or_default(),
    }))
}

fn roots(pem: &str) -> Result<Vec<Arc<[u8]>>, FieldError> {
    let invalid = |message: String| FieldError::new("spec.tls.caCertificates", message);
    let mut roots = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        // As the proxies will take it.
        let taken = RootCertStore::empty().add(certificate.clone());
        taken.map_err(|error| invalid(format!("certificate {}: {error}", index + 1)))?;
        roots.push(certificate.as_ref().into());
    }
    match roots.is_empty() {
        true => Err(invalid("holds no PEM certificate".to_owned())),
        false => Ok(roots),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::tests::read_live;

    fn document(change: impl FnOnce(&mut Value)) -> Value {
        let mut document = json!({
            "metadata": { "name": "pay", "namespace": "shop" },
            "spec": {
                "hosts": ["pay.example", "*.pay.example"],
                "ports": [{ "number": 80, "protocol": "HTTP", "targetPort": 443 }],
            },
        });
        change(&mut document["spec"]);
        document
    }

    fn parse(document: Value) -> Result<ExternalService, String> {
        let read = read_live::<ExternalServiceObject>(ExternalServiceObject::KIND, document);
        match read.problems.first() {
            None => Ok(read.object.unwrap().service),
            Some(error) => Err(error.to_string()),
        }
    }

    fn certificate() -> String {
        let params = CertificateParams::new(vec!["root".to_owned()]).unwrap();
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
    }

    #[test]
    fn everything_that_is_said_is_taken() {
        let service = parse(document(|spec| {
            spec["addresses"] = json!(["192.0.2.0/24", "2001:db8::1"]);
            spec["endpoints"] = json!(["198.51.100.7"]);
            spec["tls"] = json!({
                "mode": "Originate", "serverName": "tls.example",
                "subjectAltNames": ["a.example"], "caCertificates": certificate() + &certificate(),
            });
        }))
        .unwrap();
        assert_eq!(service.key, NamespacedName::new("shop", "pay"));
        assert_eq!((service.addresses.len(), service.endpoints.len()), (2, 1));
        assert_eq!(
            (service.ports[0].number, service.ports[0].target_port),
            (80, 443)
        );
        let tls = service.tls.unwrap();
        assert_eq!(tls.server_name.as_deref(), Some("tls.example"));
        assert_eq!(tls.roots.len(), 2);
        assert!(parse(document(|_| {})).unwrap().tls.is_none());
    }

    /// Fields that replace those of the document's `spec`, and the field that is refused
    /// for it.
    fn assert_refused(cases: &[(Value, &str)]) {
        for (fields, field) in cases {
            let error = parse(document(|spec| {
                for (name, value) in fields.as_object().unwrap() {
                    spec[name] = value.clone();
                }
            }));
            let error = error.unwrap_err();
            assert!(error.contains(field), "{field}: {error}");
        }
    }

    #[test]
    fn a_place_that_nothing_can_be_sent_to_is_refused_by_its_field() {
        assert_refused(&[
            (json!({ "hosts": [] }), "spec.hosts"),
            (json!({ "hosts": ["a.example", "*"] }), "spec.hosts[1]"),
            (
                json!({ "addresses": ["192.0.2.1/24"] }),
                "spec.addresses[0]",
            ),
            (json!({ "endpoints": ["pay.example"] }), "spec.endpoints[0]"),
            (json!({ "endpoints": ["127.0.0.1"] }), "spec.endpoints[0]"),
            (json!({ "resolution": "DNS" }), "resolution"),
        ]);
    }

    #[test]
    fn a_port_that_nobody_can_serve_is_refused_by_its_field() {
        let port = |number: i32, protocol: &str| json!({ "number": number, "protocol": protocol });
        let protocol = "spec.ports[0].protocol";
        assert_refused(&[
            (json!({ "ports": [] }), "spec.ports"),
            (
                json!({ "ports": [port(0, "HTTP")] }),
                "spec.ports[0].number",
            ),
            (json!({ "ports": [port(1, "UDP")] }), protocol),
            (json!({ "ports": [port(1, "TCP")] }), protocol),
            (
                json!({ "ports": [port(1, "TLS"), port(1, "HTTP")] }),
                "spec.ports[1].number",
            ),
            (
                json!({ "ports": [port(443, "HTTPS")], "tls": { "mode": "Originate" } }),
                protocol,
            ),
        ]);
    }

    #[test]
    fn tls_that_could_not_be_spoken_is_refused_by_its_field() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let originate =
            |name: &str, value: &str| json!({ "tls": { "mode": "Originate", name: value } });
        assert_refused(&[
            (
                json!({ "tls": { "serverName": "a.example" } }),
                "spec.tls.mode",
            ),
            (originate("serverName", "a b"), "spec.tls.serverName"),
            (
                json!({
                    "hosts": ["*.example"], "addresses": ["192.0.2.1"],
                    "tls": { "mode": "Originate" },
                }),
                "spec.tls.serverName",
            ),
            (
                originate("caCertificates", "none"),
                "spec.tls.caCertificates",
            ),
            (
                originate("caCertificates", broken),
                "spec.tls.caCertificates",
            ),
        ]);
    }
}
