//! AuthorizationPolicy, security.istio.io/v1: action and rules.
//!
//! What Istio's CustomResourceDefinition, its webhook and its reference refuse is refused here. Lists are bounded, and so is all
//! text of one policy together, since an alias of YAML repeats a long text in few bytes.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use weir_model::{Namespace, Port, ServiceAccount, Sides, TextMatch};

use crate::{
    error::Cause,
    known,
    object::{AuthorizationAction, AuthorizationRule, AuthorizationSpec, Condition, Operation, PathMatch, Source},
    read::{Meta, policy::port},
    reader::{At, Fields, Reader},
    tree::Value,
};

/// Most rules of a policy, and sources of a rule. Istio's CustomResourceDefinition.
const MAX_RULES: usize = 512;
/// Most service accounts in a list. Istio's CustomResourceDefinition.
const MAX_SERVICE_ACCOUNTS: usize = 16;
/// Most of any other list: more than fit into an object of etcd, as addresses.
const MAX_LIST: usize = 65_536;
/// Most values in a policy.
const MAX_VALUES: usize = 131_072;
/// Most bytes of a value.
const MAX_VALUE_BYTES: usize = 4_096;
/// Most bytes of all values in a policy. An object of etcd has 1.5 MiB.
const MAX_BYTES: usize = 4 << 20;

const DRY_RUN: &str = "istio.io/dry-run";

const TEXT: &str = "text in full, \"prefix*\", \"*suffix\" or \"*\", with no other '*' and not empty";
const BLOCK: &str = "an IP address or a CIDR";
const PORT: &str = "a port, \"1\" to \"65535\", in quotes";
const PATH: &str =
    "a path with '{*}' and '{**}' as whole segments, none of them after a '{**}', and no other '{' or '}'";
const KEY: &str = "a key Istio knows: source.ip, source.namespace, source.principal, source.serviceAccount, source.trustDomain, \
     destination.ip, destination.port, remote.ip, connection.sni, request.headers[name], request.auth.principal, \
     request.auth.audiences, request.auth.presenter, request.auth.claims[name] or experimental.envoy.filters.name[key]";

/// `spec` of an AuthorizationPolicy.
pub(crate) fn authorization(reader: &mut Reader, spec: &Fields<'_>, meta: &Meta<'_>) -> Option<AuthorizationSpec> {
    let dry_run = dry_run(reader, meta);
    let action = action(reader, spec);
    let items = reader.few(spec.field("rules"), "rules", MAX_RULES);
    let mut reading = Reading { reader, own: meta.namespace.as_ref(), values: 0, bytes: 0 };
    let rules = items.iter().filter_map(|at| reading.rule(at)).collect();
    Some(AuthorizationSpec { action: action?, dry_run: dry_run?, rules })
}

fn dry_run(reader: &mut Reader, meta: &Meta<'_>) -> Option<bool> {
    match meta.annotations.at(DRY_RUN) {
        Some(("true", _)) => Some(true),
        Some(("false", _)) | None => Some(false),
        Some((_, at)) => reader.expected(&at, "\"true\" or \"false\""),
    }
}

fn action(reader: &mut Reader, spec: &Fields<'_>) -> Option<AuthorizationAction> {
    let provider = spec.field("provider");
    let action = match spec.field("action") {
        None => Some(AuthorizationAction::Allow),
        Some(at) => match reader.text(&at)? {
            "ALLOW" => Some(AuthorizationAction::Allow),
            "DENY" => Some(AuthorizationAction::Deny),
            "AUDIT" => Some(AuthorizationAction::Audit),
            "CUSTOM" => None,
            _ => return reader.expected(&at, "\"ALLOW\", \"DENY\", \"AUDIT\" or \"CUSTOM\""),
        },
    };
    match (action, provider) {
        (Some(action), None) => Some(action),
        (Some(_), Some(at)) => {
            reader.fail(&at, Cause::OnlyWith { other: "action CUSTOM" });
            None
        }
        (None, None) => {
            let cause = Cause::Missing { expected: "provider.name, as the action is CUSTOM" };
            reader.fail_at(spec.path("provider"), spec.line("action"), cause);
            None
        }
        (None, Some(at)) => {
            let fields = reader.fields(&at, known::PROVIDER)?;
            let name = reader.required(&fields, "name", "the provider's name")?;
            let text = reader.text(&name)?;
            if text.is_empty() || text.len() > MAX_VALUE_BYTES {
                return reader.expected(&name, "the provider's name");
            }
            Some(AuthorizationAction::Custom { provider: text.into() })
        }
    }
}

/// A walk over the rules of one policy.
struct Reading<'r> {
    reader: &'r mut Reader,
    /// The policy's namespace, if it could be read.
    own: Option<&'r Namespace>,
    values: usize,
    bytes: usize,
}

impl Reading<'_> {
    fn rule(&mut self, at: &At<'_>) -> Option<AuthorizationRule> {
        let fields = self.reader.fields(at, known::RULE)?;
        let from = self.entries(&fields, "from", MAX_RULES);
        let from = from.iter().filter_map(|at| self.source(at)).collect();
        let to = self.entries(&fields, "to", MAX_LIST);
        let to = to.iter().filter_map(|at| self.operation(at)).collect();
        let when = self.reader.few(fields.field("when"), "conditions", MAX_LIST);
        let when = when.iter().filter_map(|at| self.condition(at)).collect();
        Some(AuthorizationRule { line: at.node.line, from, to, when })
    }

    /// `from` or `to`: with nothing in it, it would be a question what matches.
    fn entries<'n>(&mut self, rule: &Fields<'n>, name: &'static str, max: usize) -> Vec<At<'n>> {
        let at = rule.field(name);
        if let Some(at) = &at
            && matches!(&at.node.value, Value::List(items) if items.is_empty())
        {
            self.reader.expected::<()>(at, "at least one entry, or no such field");
        }
        self.reader.few(at, "entries", max)
    }

    fn source(&mut self, at: &At<'_>) -> Option<Source> {
        let entry = self.reader.fields(at, &["source"])?;
        let at = self.reader.required(&entry, "source", "a map with at least one field")?;
        let errors = self.reader.told;
        let fields = self.reader.fields(&at, known::SOURCE)?;
        let has = |names: &[&str]| names.iter().any(|name| fields.field(name).is_some());
        if has(&["serviceAccounts", "notServiceAccounts"])
            && has(&["principals", "notPrincipals", "namespaces", "notNamespaces"])
        {
            let name = if has(&["serviceAccounts"]) { "serviceAccounts" } else { "notServiceAccounts" };
            let cause = Cause::NotWith { other: "principals or namespaces" };
            self.reader.fail_at(fields.path(name), fields.line(name), cause);
        }
        let source = Source {
            principals: self.sides(&fields, ["principals", "notPrincipals"], MAX_LIST, Self::principal),
            request_principals: self.sides(
                &fields,
                ["requestPrincipals", "notRequestPrincipals"],
                MAX_LIST,
                Self::text,
            ),
            namespaces: self.sides(&fields, ["namespaces", "notNamespaces"], MAX_LIST, Self::text),
            service_accounts: self.accounts(&fields, ["serviceAccounts", "notServiceAccounts"]),
            trust_domains: self.sides(&fields, ["trustDomains", "notTrustDomains"], MAX_LIST, Self::text),
            ip_blocks: self.sides(&fields, ["ipBlocks", "notIpBlocks"], MAX_LIST, Self::block),
            remote_ip_blocks: self.sides(&fields, ["remoteIpBlocks", "notRemoteIpBlocks"], MAX_LIST, Self::block),
        };
        self.not_empty(&at, source == Source::default(), errors);
        Some(source)
    }

    fn operation(&mut self, at: &At<'_>) -> Option<Operation> {
        let entry = self.reader.fields(at, &["operation"])?;
        let at = self.reader.required(&entry, "operation", "a map with at least one field")?;
        let errors = self.reader.told;
        let fields = self.reader.fields(&at, known::OPERATION)?;
        let operation = Operation {
            hosts: self.sides(&fields, ["hosts", "notHosts"], MAX_LIST, Self::text),
            ports: self.sides(&fields, ["ports", "notPorts"], MAX_LIST, Self::port),
            methods: self.sides(&fields, ["methods", "notMethods"], MAX_LIST, Self::text),
            paths: self.sides(&fields, ["paths", "notPaths"], MAX_LIST, Self::path),
        };
        self.not_empty(&at, operation == Operation::default(), errors);
        Some(operation)
    }

    /// Refuses what says nothing, unless it was meant to say something that is wrong.
    fn not_empty(&mut self, at: &At<'_>, empty: bool, errors: usize) {
        if empty && self.reader.told == errors {
            self.reader.expected::<()>(at, "at least one field with a value");
        }
    }

    fn condition(&mut self, at: &At<'_>) -> Option<Condition> {
        const VALUES: [&str; 2] = ["values", "notValues"];
        let fields = self.reader.fields(at, known::CONDITION)?;
        let key_at = self.reader.required(&fields, "key", "the name of what is compared")?;
        let key = self.value(&key_at, |_, _, text| Some(text.to_owned()))?;
        let errors = self.reader.told;
        let empty = |name: &str| match fields.field(name) {
            Some(At { node, .. }) => matches!(&node.value, Value::List(items) if items.is_empty()),
            None => true,
        };
        let nothing = VALUES.into_iter().all(empty);
        let condition = match key.as_str() {
            "source.ip" => Condition::SourceIp(self.sides(&fields, VALUES, MAX_LIST, Self::block)),
            "source.namespace" => Condition::SourceNamespace(self.sides(&fields, VALUES, MAX_LIST, Self::text)),
            "source.principal" => Condition::SourcePrincipal(self.sides(&fields, VALUES, MAX_LIST, Self::principal)),
            "source.serviceAccount" => Condition::SourceServiceAccount(self.accounts(&fields, VALUES)),
            "source.trustDomain" => Condition::SourceTrustDomain(self.sides(&fields, VALUES, MAX_LIST, Self::text)),
            "destination.ip" => Condition::DestinationIp(self.sides(&fields, VALUES, MAX_LIST, Self::block)),
            "destination.port" => Condition::DestinationPort(self.sides(&fields, VALUES, MAX_LIST, Self::port)),
            "remote.ip" => Condition::RemoteIp(self.sides(&fields, VALUES, MAX_LIST, Self::block)),
            key if of_request(key) => {
                let values = self.sides(&fields, VALUES, MAX_LIST, Self::text);
                Condition::Request { key: key.into(), values }
            }
            _ => return self.reader.expected(&key_at, KEY),
        };
        if nothing && self.reader.told == errors {
            self.reader.expected::<()>(at, "values or notValues with at least one value");
        }
        Some(condition)
    }

    /// What must match and what must not, by the names of the two lists.
    fn sides<T>(&mut self, fields: &Fields<'_>, names: [&str; 2], max: usize, read: Read<Self, T>) -> Sides<T> {
        let [any, none] = names.map(|name| {
            let items = self.reader.few(fields.field(name), "values", max);
            items.iter().filter_map(|at| self.value(at, read)).collect()
        });
        Sides { any, none }
    }

    fn accounts(&mut self, fields: &Fields<'_>, names: [&str; 2]) -> Sides<(Namespace, ServiceAccount)> {
        self.sides(fields, names, MAX_SERVICE_ACCOUNTS, Self::account)
    }

    /// A value's text, counted, on its way to what it means.
    fn value<T>(&mut self, at: &At<'_>, read: Read<Self, T>) -> Option<T> {
        let text = self.reader.text(at)?;
        if text.len() > MAX_VALUE_BYTES {
            return self.reader.expected(at, "text of at most 4096 bytes");
        }
        let (values, bytes) = (self.values, self.bytes);
        self.values += 1;
        self.bytes += text.len();
        for (before, after, what, max) in [
            (values, self.values, "values in one policy", MAX_VALUES),
            (bytes, self.bytes, "bytes of values in one policy", MAX_BYTES),
        ] {
            if after > max {
                // Told once: what follows is over the bound as well.
                if before <= max {
                    self.reader.fail(at, Cause::Exceeds { what, max });
                }
                return None;
            }
        }
        read(self, at, text)
    }

    fn text(&mut self, at: &At<'_>, text: &str) -> Option<TextMatch> {
        text.parse().ok().or_else(|| self.reader.expected(at, TEXT))
    }

    fn principal(&mut self, at: &At<'_>, text: &str) -> Option<TextMatch> {
        self.text(at, text.trim_start_matches("spiffe://"))
    }

    fn block(&mut self, at: &At<'_>, text: &str) -> Option<IpNet> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.ok().map(canonical).or_else(|| self.reader.expected(at, BLOCK))
    }

    fn port(&mut self, at: &At<'_>, text: &str) -> Option<Port> {
        port(text).or_else(|| self.reader.expected(at, PORT))
    }

    fn path(&mut self, at: &At<'_>, text: &str) -> Option<PathMatch> {
        match text.contains(['{', '}']) {
            false => self.text(at, text).map(PathMatch::Text),
            true if is_template(text) => Some(PathMatch::Template(text.into())),
            true => self.reader.expected(at, PATH),
        }
    }

    /// `namespace/name`, or a name in the policy's own namespace.
    fn account(&mut self, at: &At<'_>, text: &str) -> Option<(Namespace, ServiceAccount)> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (namespace.parse().map(Some), name.parse()),
            None => (Ok(self.own.cloned()), text.parse()),
        };
        match (namespace, name) {
            (Ok(namespace), Ok(name)) => Some((namespace?, name)),
            (Err(error), _) | (_, Err(error)) => {
                self.reader.fail(at, Cause::Name(error));
                None
            }
        }
    }
}

/// How a value's text is read.
type Read<R, T> = fn(&mut R, &At<'_>, &str) -> Option<T>;

/// The network of its first address, and of IPv4 where it holds nothing else, written as IPv6.
pub(crate) fn canonical(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(net) => net.addr().to_ipv4_mapped().zip(net.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    let mapped = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    mapped.map_or(net, IpNet::V4).trunc()
}

/// Whether the text is a legal template of a path. Istio `AuthorizationPolicy`, `Operation.paths`.
fn is_template(text: &str) -> bool {
    let literal = |segment: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(c);
        !segment.is_empty() && segment.chars().all(legal)
    };
    let Some(path) = text.strip_prefix('/') else { return false };
    let mut rest = false;
    path.strip_suffix('/').unwrap_or(path).split('/').all(|segment| match segment {
        "{*}" => !rest,
        "{**}" => !std::mem::replace(&mut rest, true),
        segment => literal(segment),
    })
}

/// Whether it names a fact of a request, or of what only Envoy knows. Istio, Authorization Policy Conditions.
fn of_request(key: &str) -> bool {
    let (name, brackets) = key.find('[').map_or((key, ""), |at| key.split_at(at));
    let groups = groups(brackets);
    match name {
        "request.auth.principal" | "request.auth.audiences" | "request.auth.presenter" | "connection.sni" => {
            brackets.is_empty()
        }
        "request.headers" | "request.experimental.inline.headers" => groups == Some(1),
        "request.auth.claims" => groups.is_some_and(|groups| groups > 0),
        _ => {
            name.strip_prefix("experimental.envoy.filters.").is_some_and(|filter| !filter.is_empty())
                && groups == Some(1)
        }
    }
}

/// How many `[name]` stand one after the other, if nothing else does.
fn groups(text: &str) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(names.len())
}
