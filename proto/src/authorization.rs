//! AuthorizationPolicies on the wire, and workloads' part in them.
//!
//! A part that this version doesn't know, or can't read, is no reason to refuse the policy:
//! whoever kept the one before would let in what is to be kept out. It is kept as unknown, and
//! decisions take it against the client.

use std::str::FromStr;
use std::sync::Arc;

use http::HeaderName;
use http::header::HOST;
use weft_model::address::AddressBlock;
use weft_model::authorization_policy::{
    Action, AuthorizationMembership, AuthorizationPolicy, DefaultAuthorization, GrpcMethod,
    HeaderMatch, OperationMatch, Rule, ServiceAccount, SourceMatch, Values,
};
use weft_model::name::NamespacedName;

use crate::address::parse_port;
use crate::network_policy::block;
use crate::v1;
use crate::v1::authorization_condition::Condition;
use crate::v1::operation_attribute::Attribute as OperationAttribute;
use crate::v1::source_attribute::Attribute as SourceAttribute;

/// The reason why a message is not an AuthorizationPolicy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidAuthorizationPolicy {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
}

impl TryFrom<v1::AuthorizationPolicy> for AuthorizationPolicy {
    type Error = InvalidAuthorizationPolicy;

    fn try_from(message: v1::AuthorizationPolicy) -> Result<Self, Self::Error> {
        for (field, value) in [("namespace", &message.namespace), ("name", &message.name)] {
            if value.is_empty() {
                return Err(InvalidAuthorizationPolicy::Missing(field));
            }
        }
        let action = match message.action() {
            v1::AuthorizationAction::Allow => Some(Action::Allow),
            v1::AuthorizationAction::Deny => Some(Action::Deny),
            v1::AuthorizationAction::Audit => Some(Action::Audit),
            v1::AuthorizationAction::Unspecified => None,
        };
        Ok(Self {
            key: NamespacedName::new(&message.namespace, &message.name),
            action: action.unwrap_or(Action::Deny),
            is_dry_run: message.dry_run,
            rules: match action {
                Some(_) => message.rules.into_iter().map(rule).collect(),
                None => vec![Rule::default()],
            },
        })
    }
}

/// A part that isn't known, or can't be read.
struct Unknown;

fn rule(message: v1::AuthorizationRule) -> Rule {
    let mut when = Vec::new();
    let mut has_unknown_part = false;
    for condition in message.when {
        match condition.condition.ok_or(Unknown).and_then(header) {
            Ok(header) => when.push(header),
            Err(Unknown) => has_unknown_part = true,
        }
    }
    Rule {
        from: message.from.into_iter().map(source).collect(),
        to: message.to.into_iter().map(operation).collect(),
        when,
        has_unknown_part,
    }
}

fn header(condition: Condition) -> Result<HeaderMatch, Unknown> {
    let Condition::Header(message) = condition;
    let name = HeaderName::from_bytes(message.name.as_bytes()).map_err(|_| Unknown)?;
    let mut values = Values::default();
    set(&mut values, texts(message.values.unwrap_or_default()))?;
    // Requests of HTTP/2 name it elsewhere.
    match name == HOST {
        true => Err(Unknown),
        false => Ok(HeaderMatch { name, values }),
    }
}

fn source(message: v1::AuthorizationSource) -> SourceMatch {
    let mut source = SourceMatch::default();
    for attribute in message.attributes {
        let result = match attribute.attribute {
            None => Err(Unknown),
            Some(SourceAttribute::Principals(values)) => set(&mut source.principals, texts(values)),
            Some(SourceAttribute::ServiceAccounts(values)) => {
                let values = convert(values.any_of, values.none_of, |text| account(&text));
                set(&mut source.service_accounts, values)
            }
            Some(SourceAttribute::Namespaces(values)) => set(&mut source.namespaces, texts(values)),
            Some(SourceAttribute::Addresses(values)) => {
                let values = convert(values.any_of, values.none_of, |message| {
                    block(message).map_err(|_| Unknown)
                });
                set(&mut source.addresses, values)
            }
        };
        source.has_unknown_attribute |= result.is_err();
    }
    source
}

fn operation(message: v1::AuthorizationOperation) -> OperationMatch {
    let mut operation = OperationMatch::default();
    for attribute in message.attributes {
        let result = match attribute.attribute {
            None => Err(Unknown),
            Some(OperationAttribute::Ports(values)) => {
                let port = |port| parse_port(port).ok_or(Unknown);
                let values = convert(values.any_of, values.none_of, port);
                set(&mut operation.ports, values)
            }
            Some(OperationAttribute::Methods(values)) => set(&mut operation.methods, texts(values)),
            Some(OperationAttribute::Paths(values)) => set(&mut operation.paths, texts(values)),
            Some(OperationAttribute::Hosts(values)) => set(&mut operation.hosts, texts(values)),
            Some(OperationAttribute::Grpc(values)) => {
                let values = convert(values.any_of, values.none_of, |method| Ok(grpc(method)));
                set(&mut operation.grpc, values)
            }
        };
        operation.has_unknown_attribute |= result.is_err();
    }
    operation
}

/// Sets the values of an attribute, once.
fn set<T>(own: &mut Values<T>, values: Result<Values<T>, Unknown>) -> Result<(), Unknown> {
    let values = values?;
    // Without values it would be one that matches everything: a sort of values that isn't known.
    match own.is_empty() && !values.is_empty() {
        true => *own = values,
        false => return Err(Unknown),
    }
    Ok(())
}

fn texts<T: FromStr>(values: v1::TextValues) -> Result<Values<T>, Unknown> {
    let parse = |text: String| text.parse().map_err(|_| Unknown);
    convert(values.any_of, values.none_of, parse)
}

fn convert<M, T>(
    any_of: Vec<M>,
    none_of: Vec<M>,
    convert: impl Fn(M) -> Result<T, Unknown>,
) -> Result<Values<T>, Unknown> {
    Ok(Values {
        any_of: any_of.into_iter().map(&convert).collect::<Result<_, _>>()?,
        none_of: none_of
            .into_iter()
            .map(&convert)
            .collect::<Result<_, _>>()?,
    })
}

fn account(text: &str) -> Result<ServiceAccount, Unknown> {
    let key: NamespacedName = text.parse().map_err(|_| Unknown)?;
    Ok(ServiceAccount {
        namespace: key.namespace,
        name: key.name,
    })
}

fn grpc(message: v1::GrpcMethod) -> GrpcMethod {
    let part = |text: String| (!text.is_empty()).then(|| Arc::from(text));
    GrpcMethod {
        service: part(message.service),
        method: part(message.method),
    }
}

impl From<&AuthorizationPolicy> for v1::AuthorizationPolicy {
    fn from(policy: &AuthorizationPolicy) -> Self {
        Self {
            namespace: policy.key.namespace.to_string(),
            name: policy.key.name.to_string(),
            action: match policy.action {
                Action::Allow => v1::AuthorizationAction::Allow,
                Action::Deny => v1::AuthorizationAction::Deny,
                Action::Audit => v1::AuthorizationAction::Audit,
            }
            .into(),
            dry_run: policy.is_dry_run,
            rules: policy.rules.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Rule> for v1::AuthorizationRule {
    fn from(rule: &Rule) -> Self {
        let when = rule.when.iter().map(|header| {
            Some(Condition::Header(v1::HeaderCondition {
                name: header.name.to_string(),
                values: text_message(&header.values),
            }))
        });
        let unknown = rule.has_unknown_part.then_some(None);
        let conditions = when.chain(unknown);
        Self {
            from: rule.from.iter().map(Into::into).collect(),
            to: rule.to.iter().map(Into::into).collect(),
            when: conditions
                .map(|condition| v1::AuthorizationCondition { condition })
                .collect(),
        }
    }
}

impl From<&SourceMatch> for v1::AuthorizationSource {
    fn from(source: &SourceMatch) -> Self {
        let accounts = message(&source.service_accounts, |account| {
            format!("{}/{}", account.namespace, account.name)
        });
        let addresses = message(&source.addresses, |block: &AddressBlock| block.into());
        let known = [
            text_message(&source.principals).map(SourceAttribute::Principals),
            accounts
                .map(|(any_of, none_of)| v1::TextValues { any_of, none_of })
                .map(SourceAttribute::ServiceAccounts),
            text_message(&source.namespaces).map(SourceAttribute::Namespaces),
            addresses
                .map(|(any_of, none_of)| v1::AddressValues { any_of, none_of })
                .map(SourceAttribute::Addresses),
        ];
        let known = known.into_iter().flatten().map(Some);
        let attributes = known.chain(source.has_unknown_attribute.then_some(None));
        Self {
            attributes: attributes
                .map(|attribute| v1::SourceAttribute { attribute })
                .collect(),
        }
    }
}

impl From<&OperationMatch> for v1::AuthorizationOperation {
    fn from(operation: &OperationMatch) -> Self {
        let grpc = message(&operation.grpc, |method| v1::GrpcMethod {
            service: method.service.as_deref().unwrap_or_default().to_owned(),
            method: method.method.as_deref().unwrap_or_default().to_owned(),
        });
        let known = [
            message(&operation.ports, |port| u32::from(*port))
                .map(|(any_of, none_of)| v1::PortValues { any_of, none_of })
                .map(OperationAttribute::Ports),
            text_message(&operation.methods).map(OperationAttribute::Methods),
            text_message(&operation.paths).map(OperationAttribute::Paths),
            text_message(&operation.hosts).map(OperationAttribute::Hosts),
            grpc.map(|(any_of, none_of)| v1::GrpcValues { any_of, none_of })
                .map(OperationAttribute::Grpc),
        ];
        let known = known.into_iter().flatten().map(Some);
        let attributes = known.chain(operation.has_unknown_attribute.then_some(None));
        Self {
            attributes: attributes
                .map(|attribute| v1::OperationAttribute { attribute })
                .collect(),
        }
    }
}

fn text_message<T: ToString>(values: &Values<T>) -> Option<v1::TextValues> {
    let (any_of, none_of) = message(values, ToString::to_string)?;
    Some(v1::TextValues { any_of, none_of })
}

/// Both lists of values on the wire; nothing where there are none.
fn message<T, M>(values: &Values<T>, message: impl Fn(&T) -> M) -> Option<(Vec<M>, Vec<M>)> {
    let Values { any_of, none_of } = values;
    (!values.is_empty()).then(|| {
        (
            any_of.iter().map(&message).collect(),
            none_of.iter().map(&message).collect(),
        )
    })
}

/// A workload's part in AuthorizationPolicies.
pub(crate) fn membership(message: Option<v1::AuthorizationMembership>) -> AuthorizationMembership {
    let Some(message) = message else {
        return AuthorizationMembership::default();
    };
    let default = match message.default() {
        v1::DefaultAuthorization::AllowAll => DefaultAuthorization::AllowAll,
        v1::DefaultAuthorization::Authenticated => DefaultAuthorization::Authenticated,
        v1::DefaultAuthorization::SameNamespace => DefaultAuthorization::SameNamespace,
        v1::DefaultAuthorization::Deny | v1::DefaultAuthorization::Unspecified => {
            DefaultAuthorization::Deny
        }
    };
    // One that is no name is that of a policy whose rules never arrive.
    let name = |text: &String| {
        text.parse()
            .unwrap_or_else(|_| NamespacedName::new("", text))
    };
    let mut policies: Vec<_> = message.policies.iter().map(name).collect();
    policies.sort_unstable();
    AuthorizationMembership {
        policies,
        default,
        is_observed_only: message.observed_only,
    }
}

/// That part on the wire; nothing where there is none.
pub(crate) fn membership_message(
    membership: &AuthorizationMembership,
) -> Option<v1::AuthorizationMembership> {
    if *membership == AuthorizationMembership::default() {
        return None;
    }
    Some(v1::AuthorizationMembership {
        policies: membership
            .policies
            .iter()
            .map(ToString::to_string)
            .collect(),
        default: match membership.default {
            DefaultAuthorization::AllowAll => v1::DefaultAuthorization::AllowAll,
            DefaultAuthorization::Authenticated => v1::DefaultAuthorization::Authenticated,
            DefaultAuthorization::SameNamespace => v1::DefaultAuthorization::SameNamespace,
            DefaultAuthorization::Deny => v1::DefaultAuthorization::Deny,
        }
        .into(),
        observed_only: membership.is_observed_only,
    })
}

#[cfg(test)]
mod tests;
