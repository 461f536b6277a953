//! The decisions compared with a plain evaluation of the rules as `docs/authorization.md` has
//! them: no index, no three values, no early end, and texts of patterns compared as texts.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

/// A client as texts: trust domain, namespace, ServiceAccount.
type Client = Option<(&'static str, &'static str, &'static str)>;

#[derive(Clone, Debug)]
struct Arrival {
    client: Client,
    address: IpAddr,
    port: u16,
}

#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    /// The path as it came, and what servers may read in it.
    path: (&'static str, &'static [&'static str]),
    host: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
}

const OWN_DOMAIN: &str = "cluster.local";
const OWN_NAMESPACE: &str = "shop";
const METHODS: &[&str] = &["GET", "POST", "get"];
const PATHS: &[(&str, &[&str])] = &[
    ("/", &["/"]),
    ("/a", &["/a"]),
    ("/a/b", &["/a/b"]),
    ("/a/b/c", &["/a/b/c"]),
    ("/b/a", &["/b/a"]),
    ("/a;x/b", &["/a;x/b", "/a/b"]),
    ("/a%2fb", &["/a%2Fb", "/a/b"]),
    ("/b/../a", &["/b/../a", "/a"]),
    ("//a", &["//a", "/a"]),
];
const PATTERNS: &[&str] = &[
    "*", "/a", "/a/b", "/a*", "/a/*", "*/b", "/b/a", "/{*}/b", "/a/{**}", "/{**}/c", "/{*}",
];
const HOSTS: &[&str] = &["a.example", "b.example"];
const HOST_PATTERNS: &[&str] = &["*", "a.example", "*.example", "b.*"];
const ROLES: &[&str] = &["admin", "user", "admin, user"];
const ROLE_PATTERNS: &[&str] = &["*", "admin", "user", "a*", "*r"];
const PRINCIPALS: &[&str] = &[
    "*",
    "cluster.local/ns/shop/sa/x",
    "cluster.local/ns/bank/*",
    "*/sa/y",
    "elsewhere/*",
];
const NAMESPACES: &[&str] = &["*", "shop", "bank", "s*"];
const ACCOUNTS: &[(&str, &str)] = &[("shop", "x"), ("shop", "y"), ("bank", "x")];
const BLOCKS: &[&str] = &["10.0.0.0/8", "10.0.0.1/32", "192.0.2.0/24"];
const GRPC: &[(Option<&str>, Option<&str>)] =
    &[(Some("a"), None), (Some("a"), Some("b")), (None, Some("b"))];

/// The plain evaluation: one connection or request, in one reading of its path.
struct Plain<'a> {
    arrival: &'a Arrival,
    request: Option<(&'a Request, &'a str)>,
    /// What undecidable parts are: the ones that nobody can tell, and those of HTTP before a
    /// request is there.
    undecidable: bool,
    before_request: bool,
}

fn text_matches(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => text.ends_with(suffix),
        (_, Some(prefix)) => text.starts_with(prefix),
        _ => pattern == text,
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    if !pattern.contains('{') {
        return text_matches(pattern, path);
    }
    let pattern: Vec<_> = pattern.split('/').collect();
    let path: Vec<_> = path.split('/').collect();
    segments_match(&pattern, &path)
}

fn segments_match(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["{**}", rest @ ..], _) => {
            (0..=path.len()).any(|skipped| segments_match(rest, &path[skipped..]))
        }
        (["{*}", rest @ ..], [found, others @ ..]) => {
            !found.is_empty() && segments_match(rest, others)
        }
        ([wanted, rest @ ..], [found, others @ ..]) => {
            wanted == found && segments_match(rest, others)
        }
        _ => false,
    }
}

impl Plain<'_> {
    /// The values of an attribute by what each of them says: some if it is known.
    fn values<T>(&self, values: &Values<T>, says: impl Fn(&T) -> Option<bool>) -> bool {
        // A value that nobody can tell is whatever is worse for the client.
        let says_positive = |value: &T| says(value).unwrap_or(self.undecidable);
        let says_negative = |value: &T| says(value).unwrap_or(!self.undecidable);
        let is_one = values.any_of.is_empty() || values.any_of.iter().any(says_positive);
        is_one && !values.none_of.iter().any(says_negative)
    }

    fn source(&self, source: &SourceMatch) -> bool {
        let client = self.arrival.client;
        let principals = self.values(&source.principals, |pattern| {
            let pattern = pattern.to_string();
            match client {
                None => (pattern == "*").then_some(false),
                Some((domain, namespace, account)) => Some(text_matches(
                    &pattern,
                    &format!("{domain}/ns/{namespace}/sa/{account}"),
                )),
            }
        });
        let namespaces = self.values(&source.namespaces, |pattern| {
            let pattern = pattern.to_string();
            match client {
                None => (pattern == "*").then_some(false),
                Some((domain, namespace, _)) => {
                    Some(domain == OWN_DOMAIN && text_matches(&pattern, namespace))
                }
            }
        });
        let accounts = self.values(&source.service_accounts, |wanted| {
            let (domain, namespace, account) = client?;
            let is_it = *wanted.namespace == *namespace && *wanted.name == *account;
            Some(domain == OWN_DOMAIN && is_it)
        });
        let address = self.arrival.address;
        let addresses = self.values(&source.addresses, |block| Some(block.contains(address)));
        principals && namespaces && accounts && addresses
    }

    fn operation(&self, operation: &OperationMatch) -> bool {
        let port = self.arrival.port;
        let ports = self.values(&operation.ports, |wanted| Some(*wanted == port));
        let is_of_http = !(operation.methods.is_empty()
            && operation.paths.is_empty()
            && operation.hosts.is_empty()
            && operation.grpc.is_empty());
        let Some((request, path)) = self.request else {
            return ports && (!is_of_http || self.before_request);
        };
        let methods = self.values(&operation.methods, |pattern| {
            let pattern = pattern.to_string();
            let matches = text_matches(&pattern, request.method);
            let (pattern, method) = (pattern.to_lowercase(), request.method.to_lowercase());
            match matches {
                false if text_matches(&pattern, &method) => None,
                matches => Some(matches),
            }
        });
        let paths = self.values(&operation.paths, |pattern| {
            Some(path_matches(&pattern.to_string(), path))
        });
        let hosts = self.values(&operation.hosts, |pattern| {
            Some(text_matches(&pattern.to_string(), request.host?))
        });
        let grpc = self.values(&operation.grpc, |wanted| {
            let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|name| name == found);
            let parts: Vec<_> = path.split('/').collect();
            let is_it = parts.len() == 3
                && parts[0].is_empty()
                && is(wanted.service.as_deref(), parts[1])
                && is(wanted.method.as_deref(), parts[2]);
            Some(is_it)
        });
        ports && methods && paths && hosts && grpc
    }

    fn header(&self, header: &HeaderMatch) -> bool {
        let Some((request, _)) = self.request else {
            return self.before_request;
        };
        let named = |text: &str| {
            let named = request.headers.iter().filter(|(name, _)| *name == text);
            named.collect::<Vec<_>>()
        };
        let values = named(header.name.as_str());
        // Some servers take it for the other.
        let confused = named(&header.name.as_str().replace('-', "_"));
        self.values(&header.values, |pattern| {
            let pattern = pattern.to_string();
            let says = |value: &str| match text_matches(&pattern, value) {
                true => Some(true),
                false if value.split(", ").any(|part| text_matches(&pattern, part)) => None,
                false => Some(false),
            };
            let mut says_all: Vec<_> = values.iter().map(|(_, value)| says(value)).collect();
            if says_all.is_empty() {
                says_all.push(Some(false));
            }
            says_all.extend(confused.iter().map(|(_, value)| says(value)));
            match says_all.first() {
                Some(first) if says_all.iter().all(|other| other == first) => *first,
                _ => None,
            }
        })
    }

    fn rule(&self, rule: &Rule) -> bool {
        let known = !rule.has_unknown_part || self.undecidable;
        let from = rule.from.is_empty() || rule.from.iter().any(|from| self.source(from));
        let to = rule.to.is_empty() || rule.to.iter().any(|to| self.operation(to));
        known && from && to && rule.when.iter().all(|header| self.header(header))
    }

    fn matches(&self, policies: &[&AuthorizationPolicy]) -> bool {
        let mut rules = policies.iter().flat_map(|policy| &policy.rules);
        rules.any(|rule| self.rule(rule))
    }
}

/// The decision, by the table of the documentation.
fn decide(
    policies: &[AuthorizationPolicy],
    default: DefaultAuthorization,
    with_dry_run: bool,
    arrival: &Arrival,
    request: Option<(&Request, &str)>,
) -> Decision {
    let of = |action| -> Vec<_> {
        let counts = |policy: &&AuthorizationPolicy| {
            policy.action == action && (with_dry_run || !policy.is_dry_run)
        };
        policies.iter().filter(counts).collect()
    };
    let (deny, allow) = (of(Action::Deny), of(Action::Allow));
    let is_own = arrival.client.is_some_and(|client| client.0 == OWN_DOMAIN);
    let by_default = match default {
        DefaultAuthorization::AllowAll => true,
        DefaultAuthorization::Authenticated => is_own,
        DefaultAuthorization::SameNamespace => {
            is_own
                && arrival
                    .client
                    .is_some_and(|client| client.1 == OWN_NAMESPACE)
        }
        DefaultAuthorization::Deny => false,
    };
    // The request at its worst and at its best: before there is one, both may be.
    let with = |worst: bool| {
        let plain = |undecidable, before_request| Plain {
            arrival,
            request,
            undecidable,
            before_request,
        };
        let denied = plain(true, worst).matches(&deny);
        let allowed = match allow.is_empty() {
            true => by_default,
            false => plain(false, !worst).matches(&allow),
        };
        allowed && !denied
    };
    match (with(true), with(false)) {
        (true, true) => Allowed,
        (false, false) => Denied,
        (false, true) => DependsOnRequest,
        (true, false) => unreachable!("the worst isn't better"),
    }
}

fn values<T: Clone + std::fmt::Debug + 'static>(
    all: Vec<T>,
) -> impl Strategy<Value = Values<T>> + Clone {
    let some = || {
        let most = all.len().min(2);
        prop_oneof![3 => Just(vec![]), 2 => subsequence(all.clone(), 0..=most)]
    };
    (some(), some()).prop_map(|(any_of, none_of)| Values { any_of, none_of })
}

fn parsed<T>(texts: &[&str]) -> Vec<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Debug,
{
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn any_source() -> impl Strategy<Value = SourceMatch> {
    let accounts = ACCOUNTS.iter().map(|(namespace, name)| ServiceAccount {
        namespace: (*namespace).into(),
        name: (*name).into(),
    });
    (
        values(parsed(PRINCIPALS)),
        values(accounts.collect()),
        values(parsed(NAMESPACES)),
        values(parsed(BLOCKS)),
    )
        .prop_map(
            |(principals, service_accounts, namespaces, addresses)| SourceMatch {
                principals,
                service_accounts,
                namespaces,
                addresses,
                has_unknown_attribute: false,
            },
        )
}

fn any_operation() -> impl Strategy<Value = OperationMatch> {
    let grpc = GRPC.iter().map(|(service, method)| GrpcMethod {
        service: service.map(Into::into),
        method: method.map(Into::into),
    });
    (
        values(vec![80, 81]),
        values(parsed(&["*", "GET", "POST", "P*"])),
        values(parsed(PATTERNS)),
        values(parsed(HOST_PATTERNS)),
        values(grpc.collect()),
    )
        .prop_map(|(ports, methods, paths, hosts, grpc)| OperationMatch {
            ports,
            methods,
            paths,
            hosts,
            grpc,
            has_unknown_attribute: false,
        })
}

fn any_policies() -> impl Strategy<Value = Vec<AuthorizationPolicy>> {
    let few = |most: usize| 0..=most;
    let header = (
        select(&["x-role", "x-other"][..]),
        values(parsed(ROLE_PATTERNS)),
    );
    let header = header.prop_map(|(name, values)| HeaderMatch {
        name: HeaderName::from_static(name),
        values,
    });
    let rule = (
        prop::collection::vec(any_source(), few(2)),
        prop::collection::vec(any_operation(), few(2)),
        prop::collection::vec(header, few(1)),
        prop::bool::weighted(0.05),
    );
    let rule = rule.prop_map(|(from, to, when, has_unknown_part)| Rule {
        from,
        to,
        when,
        has_unknown_part,
    });
    let rules = prop::collection::vec(rule, few(3));
    let action = select(&[Action::Allow, Action::Deny, Action::Audit][..]);
    let one = (action, prop::bool::weighted(0.2), rules);
    prop::collection::vec(one, few(4)).prop_map(|all| {
        let all = all.into_iter().enumerate();
        let all = all.map(|(n, (action, is_dry_run, rules))| AuthorizationPolicy {
            is_dry_run,
            ..policy(&format!("p-{n}"), action, rules)
        });
        all.collect()
    })
}

fn any_arrival() -> impl Strategy<Value = Arrival> {
    let client = (
        select(&[OWN_DOMAIN, OWN_DOMAIN, "elsewhere"][..]),
        select(&["shop", "bank"][..]),
        select(&["x", "y"][..]),
    );
    let client = prop::option::weighted(0.8, client);
    let address = select(&["10.0.0.1", "10.0.0.2", "192.0.2.1"][..]);
    (client, address, select(&[80, 81][..])).prop_map(|(client, address, port)| Arrival {
        client,
        address: address.parse().unwrap(),
        port,
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let header = (select(&["x-role", "x-other", "x_role"][..]), select(ROLES));
    (
        select(METHODS),
        select(PATHS),
        prop::option::weighted(0.9, select(HOSTS)),
        prop::collection::vec(header, 0..3),
    )
        .prop_map(|(method, path, host, headers)| Request {
            method,
            path,
            host,
            headers,
        })
}

/// The worst of the decisions in all readings of a path.
fn worst(decisions: impl IntoIterator<Item = Decision>) -> Decision {
    match decisions.into_iter().all(|decision| decision == Allowed) {
        true => Allowed,
        false => Denied,
    }
}

fn identity(client: Client) -> Option<SpiffeId> {
    let (domain, namespace, account) = client?;
    Some(id(&format!(
        "spiffe://{domain}/ns/{namespace}/sa/{account}"
    )))
}

/// The names of AUDIT policies that match in some reading.
fn audited(
    policies: &[AuthorizationPolicy],
    arrival: &Arrival,
    request: &Request,
) -> std::collections::BTreeSet<String> {
    let audit = policies
        .iter()
        .filter(|policy| policy.action == Action::Audit);
    let matches = |policy: &&AuthorizationPolicy| {
        let mut readings = request.path.1.iter();
        readings.any(|path| {
            let plain = Plain {
                arrival,
                request: Some((request, path)),
                undecidable: false,
                before_request: false,
            };
            plain.matches(&[policy])
        })
    };
    let names = audit
        .filter(matches)
        .map(|policy| policy.key.name.to_string());
    names.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn decisions_are_those_of_the_documented_rules(
        all in any_policies(),
        default in select(&DefaultAuthorization::ALL[..]),
        arrivals in prop::collection::vec((any_arrival(), any_request()), 4),
    ) {
        let compiled = policies(default, all.clone());
        for (arrival, request) in &arrivals {
            let identity = identity(arrival.client);
            let source = Source { identity: identity.as_ref(), address: arrival.address };
            let decided = |dry_run, request| decide(&all, default, dry_run, arrival, request);

            let verdict = compiled.connection(&source, arrival.port);
            prop_assert_eq!(verdict.decision, decided(false, None), "{:?}", arrival);
            if let Some(dry_run) = verdict.dry_run {
                prop_assert_eq!(dry_run.decision, decided(true, None), "{:?}", arrival);
            }

            let mut headers = HeaderMap::new();
            for (name, value) in &request.headers {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let attributes = RequestAttributes {
                method: request.method,
                path: request.path.0,
                host: request.host,
                headers: &headers,
            };
            let of_readings = |dry_run| {
                let readings = request.path.1.iter();
                worst(readings.map(|path| decided(dry_run, Some((request, path)))))
            };
            let verdict = compiled.request(&source, arrival.port, &attributes);
            prop_assert_eq!(verdict.decision, of_readings(false), "{:?} {:?}", arrival, request);
            if let Some(dry_run) = verdict.dry_run {
                prop_assert_eq!(dry_run.decision, of_readings(true));
            }
            let names = verdict.audited.iter().map(|rule| rule.policy.name.to_string());
            prop_assert_eq!(names.collect::<std::collections::BTreeSet<_>>(), audited(&all, arrival, request));
            if compiled.is_empty() {
                prop_assert!(verdict.is_allowed());
            }
            // A connection that is decided without its requests is decided as they are.
            match compiled.connection(&source, arrival.port).decision {
                DependsOnRequest => {}
                decision => prop_assert_eq!(verdict.decision, decision),
            }
        }
    }
}
