//! What an AuthorizationPolicy says, checked and in the domain's terms.

use std::str::FromStr;
use std::sync::Arc;

use http::HeaderName;
use weft_model::NamespacedName;
use weft_model::authorization_policy::{
    AuthorizationPolicy, ClaimMatch, GrpcMethod, HeaderMatch, OperationMatch, Rule, ServiceAccount,
    SourceMatch, TextPattern, Values,
};
use weft_model::request_authentication::ClaimPath;

use super::schema::{
    AuthorizationPolicySpec, ConditionSpec, GrpcSpec, OperationSpec, RuleSpec, SourceSpec, Texts,
};
use crate::kinds::field_error::FieldError;

/// Reads the rules of a policy.
///
/// # Errors
/// The first mistake in it.
pub(super) fn policy(
    key: &NamespacedName,
    is_dry_run: bool,
    spec: &AuthorizationPolicySpec,
) -> Result<AuthorizationPolicy, FieldError> {
    let path = |index| format!("spec.rules[{index}]");
    let rules = spec.rules.iter().enumerate();
    let rules = rules.map(|(index, spec)| rule(&path(index), &key.namespace, spec));
    let policy = AuthorizationPolicy {
        key: key.clone(),
        action: spec.action.into(),
        is_dry_run,
        rules: rules.collect::<Result<_, _>>()?,
        authentication: None,
    };
    at_most(policy.rules.len(), AuthorizationPolicy::MOST_RULES, "rules")?;
    let values = policy.rules.iter().map(Rule::value_count).sum();
    at_most(
        values,
        AuthorizationPolicy::MOST_VALUES,
        "values in all rules together",
    )?;
    Ok(policy)
}

fn at_most(count: usize, most: usize, of: &str) -> Result<(), FieldError> {
    match count <= most {
        true => Ok(()),
        false => {
            let message = format!("{count} {of}, and a policy has {most} at most");
            Err(FieldError::new("spec.rules", message))
        }
    }
}

fn rule(path: &str, namespace: &str, spec: &RuleSpec) -> Result<Rule, FieldError> {
    let from = each(&format!("{path}.from"), spec.from.as_ref(), |path, spec| {
        source(path, namespace, spec)
    });
    let mut rule = Rule {
        from: from?,
        to: each(&format!("{path}.to"), spec.to.as_ref(), operation)?,
        ..Rule::default()
    };
    for condition in each(&format!("{path}.when"), spec.when.as_ref(), condition)? {
        match condition {
            Condition::Header(header) => rule.when.push(header),
            Condition::Claim(claim) => rule.claims.push(claim),
        }
    }
    Ok(rule)
}

enum Condition {
    Header(HeaderMatch),
    Claim(ClaimMatch),
}

fn source(path: &str, namespace: &str, spec: &SourceSpec) -> Result<SourceMatch, FieldError> {
    if *spec == SourceSpec::default() {
        return Err(says_nothing(path));
    }
    let field = |name: &str| format!("{path}.{name}");
    let accounts = |name: &str, texts: &Texts| {
        each(&field(name), texts.as_ref(), |path, text| {
            account(path, namespace, text)
        })
    };
    Ok(SourceMatch {
        principals: Values {
            any_of: texts(&field("principals"), &spec.principals)?,
            none_of: texts(&field("notPrincipals"), &spec.not_principals)?,
        },
        service_accounts: Values {
            any_of: accounts("serviceAccounts", &spec.service_accounts)?,
            none_of: accounts("notServiceAccounts", &spec.not_service_accounts)?,
        },
        namespaces: Values {
            any_of: texts(&field("namespaces"), &spec.namespaces)?,
            none_of: texts(&field("notNamespaces"), &spec.not_namespaces)?,
        },
        addresses: Values {
            any_of: texts(&field("ipBlocks"), &spec.ip_blocks)?,
            none_of: texts(&field("notIpBlocks"), &spec.not_ip_blocks)?,
        },
        request_principals: Values {
            any_of: texts(&field("requestPrincipals"), &spec.request_principals)?,
            none_of: texts(&field("notRequestPrincipals"), &spec.not_request_principals)?,
        },
        has_unknown_attribute: false,
    })
}

fn account(path: &str, namespace: &str, text: &str) -> Result<ServiceAccount, FieldError> {
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    let is_name = |text: &str| {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        !text.is_empty() && text.chars().all(fits)
    };
    match is_name(namespace) && is_name(name) {
        true => Ok(ServiceAccount {
            namespace: namespace.into(),
            name: name.into(),
        }),
        false => {
            let message = format!("`{text}` is neither NAMESPACE/NAME nor NAME");
            Err(FieldError::new(path, message))
        }
    }
}

fn operation(path: &str, spec: &OperationSpec) -> Result<OperationMatch, FieldError> {
    if *spec == OperationSpec::default() {
        return Err(says_nothing(path));
    }
    let field = |name: &str| format!("{path}.{name}");
    let host = |path: &str, text: &String| host(path, text);
    Ok(OperationMatch {
        ports: Values {
            any_of: each(&field("ports"), spec.ports.as_ref(), port)?,
            none_of: each(&field("notPorts"), spec.not_ports.as_ref(), port)?,
        },
        methods: Values {
            any_of: texts(&field("methods"), &spec.methods)?,
            none_of: texts(&field("notMethods"), &spec.not_methods)?,
        },
        paths: Values {
            any_of: texts(&field("paths"), &spec.paths)?,
            none_of: texts(&field("notPaths"), &spec.not_paths)?,
        },
        hosts: Values {
            any_of: each(&field("hosts"), spec.hosts.as_ref(), host)?,
            none_of: each(&field("notHosts"), spec.not_hosts.as_ref(), host)?,
        },
        grpc: Values {
            any_of: each(&field("grpc"), spec.grpc.as_ref(), grpc)?,
            none_of: each(&field("notGrpc"), spec.not_grpc.as_ref(), grpc)?,
        },
        has_unknown_attribute: false,
    })
}

fn port(path: &str, number: &i32) -> Result<u16, FieldError> {
    let port = u16::try_from(*number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| {
        let message = format!("{number} is not a port between 1 and 65535");
        FieldError::new(path, message)
    })
}

fn host(path: &str, text: &str) -> Result<TextPattern, FieldError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.*[]".contains(c);
    // An address of IPv6 is in brackets, and has colons there.
    let is_address = text.starts_with('[') && text.ends_with(']');
    let is_host = is_address || text.chars().all(fits);
    match is_host && !text.ends_with('.') {
        true => parse(path, text),
        false => {
            let message = format!(
                "`{text}` is no host: hosts are compared in lower case, without port and without \
                 a dot at the end"
            );
            Err(FieldError::new(path, message))
        }
    }
}

fn grpc(path: &str, spec: &GrpcSpec) -> Result<GrpcMethod, FieldError> {
    if *spec == GrpcSpec::default() {
        return Err(says_nothing(path));
    }
    let part = |name: &str, text: &Option<String>| match text {
        Some(text) if text.is_empty() || text.contains(['/', '*']) => {
            let message = format!("`{text}` is no name of gRPC: it has neither `/` nor `*`");
            Err(FieldError::new(format!("{path}.{name}"), message))
        }
        text => Ok(text.as_deref().map(Arc::from)),
    };
    Ok(GrpcMethod {
        service: part("service", &spec.service)?,
        method: part("method", &spec.method)?,
    })
}

fn condition(path: &str, spec: &ConditionSpec) -> Result<Condition, FieldError> {
    let values = Values {
        any_of: texts(&format!("{path}.values"), &spec.values)?,
        none_of: texts(&format!("{path}.notValues"), &spec.not_values)?,
    };
    if values.is_empty() {
        let why = "a header or claim has `values` or `notValues`; `*` is any";
        return Err(FieldError::missing(path, why));
    }
    match (&spec.header, &spec.claim) {
        (Some(name), None) => {
            let name = header(&format!("{path}.header"), name)?;
            Ok(Condition::Header(HeaderMatch { name, values }))
        }
        (None, Some(names)) => {
            let claim = ClaimPath::new(names.iter().map(|name| &**name));
            let claim = claim.map_err(|error| FieldError::new(format!("{path}.claim"), error))?;
            Ok(Condition::Claim(ClaimMatch { claim, values }))
        }
        (None, None) | (Some(_), Some(_)) => {
            let message = "a condition is about a `header` or about a `claim`";
            Err(FieldError::new(path, message))
        }
    }
}

fn header(field: &str, name: &str) -> Result<HeaderName, FieldError> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    let parsed = parsed.map_err(|_| {
        let message = format!("`{name}` is no name of a header");
        FieldError::new(field, message)
    })?;
    if parsed == http::header::HOST {
        let message = "requests of HTTP/2 have no such header; use `to.hosts`";
        return Err(FieldError::new(field, message));
    }
    Ok(parsed)
}

fn says_nothing(path: &str) -> FieldError {
    let message = "it says nothing, and would match everything; leave it out to mean that";
    FieldError::new(path, message)
}

/// All of a list, or the first mistake with its place. An empty list would match everything,
/// which nobody means who makes lists.
fn each<S, T>(
    path: &str,
    list: Option<&Vec<S>>,
    read: impl Fn(&str, &S) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    if list.is_some_and(Vec::is_empty) {
        return Err(says_nothing(path));
    }
    let list = list.into_iter().flatten().enumerate();
    list.map(|(index, item)| read(&format!("{path}[{index}]"), item))
        .collect()
}

fn texts<T>(path: &str, list: &Texts) -> Result<Vec<T>, FieldError>
where
    T: FromStr<Err: ToString>,
{
    each(path, list.as_ref(), |path, text| parse(path, text))
}

fn parse<T>(path: &str, text: &str) -> Result<T, FieldError>
where
    T: FromStr<Err: ToString>,
{
    if text.len() > AuthorizationPolicy::LONGEST_VALUE {
        let most = AuthorizationPolicy::LONGEST_VALUE;
        let message = format!("{} bytes, and a value has {most} at most", text.len());
        return Err(FieldError::new(path, message));
    }
    text.parse().map_err(|error| FieldError::new(path, error))
}
