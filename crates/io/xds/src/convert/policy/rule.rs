//! Rules to bytes and back.

use std::{fmt, net::IpAddr};

use bytes::Bytes;
use ipnet::IpNet;
use prost::Message;
use weir_model::{Clause, Match, Port, Sides, TextMatch};

use super::plain::canonical;
use crate::proto::{self, StringMatchType};

/// Most rules, clauses and matches of a policy together, since each is far larger in memory than on the wire. An object of Kubernetes,
/// at most 1.5 MiB, has fewer that say anything.
pub(super) const MAX_PARTS: usize = 1 << 17;
/// Faults of a policy that are told. More are counted.
const MAX_FAULTS: usize = 8;

/// How a rule is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As Istio writes it, and means it.
    Plain,
    /// As the model has it.
    Exact,
}

/// What is wrong with a policy.
#[derive(Debug, Default)]
pub(super) struct Faults {
    told: Vec<String>,
    more: usize,
}

impl Faults {
    pub(super) fn note(&mut self, field: impl fmt::Display, why: impl fmt::Display) {
        if self.told.len() < MAX_FAULTS {
            self.told.push(format!("{field}: {why}"));
        } else {
            self.more += 1;
        }
    }

    /// In words, if there is anything.
    pub(super) fn words(&self) -> Option<String> {
        let more = if self.more > 0 { format!("; and {} more", self.more) } else { String::new() };
        (!self.told.is_empty()).then(|| format!("{}{more}", self.told.join("; ")))
    }
}

/// The message in the bytes, if nothing of it is unknown: what is skipped may have been what made it narrow.
pub(super) fn whole<M: Message + Default>(bytes: Bytes) -> Result<M, String> {
    let len = bytes.len();
    let message = M::decode(bytes).map_err(|error| error.to_string())?;
    if message.encoded_len() == len { Ok(message) } else { Err(UNKNOWN.to_owned()) }
}

/// What is said of a message with more in it than was read.
pub(super) const UNKNOWN: &str = "it has fields that this version does not know";

/// The clauses of a rule, as a `Rule`.
pub(super) fn rule_to(clauses: &[Clause]) -> Bytes {
    let clause = |clause: &Clause| {
        let matches = clause.0.iter().map(|one| match_to(one).encode_to_vec().into()).collect();
        proto::Clause { matches }.encode_to_vec().into()
    };
    proto::Rule { clauses: clauses.iter().map(clause).collect() }.encode_to_vec().into()
}

fn match_to(one: &Match) -> proto::Match {
    let accounts = |accounts: &[(weir_model::Namespace, weir_model::ServiceAccount)]| {
        let account = |(namespace, name): &(weir_model::Namespace, weir_model::ServiceAccount)| {
            proto::ServiceAccountMatch { namespace: namespace.to_string(), service_account: name.to_string() }
        };
        accounts.iter().map(account).collect()
    };
    let ports = |ports: &[Port]| ports.iter().map(|port| port.number().into()).collect();
    proto::Match {
        namespaces: texts_to(&one.namespaces.any),
        not_namespaces: texts_to(&one.namespaces.none),
        principals: texts_to(&one.principals.any),
        not_principals: texts_to(&one.principals.none),
        source_ips: ranges_to(&one.source_ips.any),
        not_source_ips: ranges_to(&one.source_ips.none),
        destination_ips: ranges_to(&one.destination_ips.any),
        not_destination_ips: ranges_to(&one.destination_ips.none),
        destination_ports: ports(&one.destination_ports.any),
        not_destination_ports: ports(&one.destination_ports.none),
        service_accounts: accounts(&one.service_accounts.any),
        not_service_accounts: accounts(&one.service_accounts.none),
        extensions: Vec::new(),
        trust_domains: texts_to(&one.trust_domains.any),
        not_trust_domains: texts_to(&one.trust_domains.none),
    }
}

fn texts_to(texts: &[TextMatch]) -> Vec<proto::StringMatch> {
    let kind = |text: &TextMatch| match text {
        TextMatch::Exact(text) => StringMatchType::Exact(text.to_string()),
        TextMatch::Prefix(text) => StringMatchType::Prefix(text.to_string()),
        TextMatch::Suffix(text) => StringMatchType::Suffix(text.to_string()),
        TextMatch::Present => StringMatchType::Presence(()),
    };
    texts.iter().map(|text| proto::StringMatch { match_type: Some(kind(text)) }).collect()
}

fn ranges_to(ranges: &[IpNet]) -> Vec<proto::AddressRange> {
    let range = |range: &IpNet| {
        let address = match range.addr() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        proto::AddressRange { address, length: range.prefix_len().into() }
    };
    ranges.iter().map(range).collect()
}

/// Reads the rules of one policy.
#[derive(Debug, Default)]
pub(super) struct Reader {
    parts: usize,
    pub(super) faults: Faults,
}

impl Reader {
    /// Whether so many more rules, clauses or matches are allowed.
    pub(super) fn room(&mut self, more: usize) -> bool {
        let before = self.parts;
        self.parts = before.saturating_add(more);
        if before <= MAX_PARTS && self.parts > MAX_PARTS {
            self.faults.note("rules", format_args!("more than {MAX_PARTS} rules, clauses and matches"));
        }
        self.parts <= MAX_PARTS
    }

    /// The clauses of the rule in a `Rule`. What is wrong with it is a fault.
    pub(super) fn rule(&mut self, index: usize, bytes: Bytes, form: Form) -> Vec<Clause> {
        let place = format!("rules[{index}]");
        let clauses = match whole::<proto::Rule>(bytes) {
            Ok(rule) if self.room(rule.clauses.len()) => rule.clauses,
            Ok(_) => Vec::new(),
            Err(why) => {
                self.faults.note(&place, why);
                Vec::new()
            }
        };
        let mut read = Vec::with_capacity(clauses.len());
        for (index, bytes) in clauses.into_iter().enumerate() {
            let place = Place { rule: &place, clause: index, one: None };
            match whole::<proto::Clause>(bytes) {
                // Istio's own reader takes it as one that matches everything: the others decide.
                Ok(clause) if clause.matches.is_empty() && form == Form::Plain => {}
                Ok(clause) if self.room(clause.matches.len()) => {
                    let each = clause.matches.into_iter().enumerate();
                    read.push(Clause(each.map(|(one, bytes)| self.one(place.at(one), bytes, form)).collect()));
                }
                Ok(_) => {}
                Err(why) => self.faults.note(place, why),
            }
        }
        read
    }

    fn one(&mut self, place: Place<'_>, bytes: Bytes, form: Form) -> Match {
        let wire: proto::Match = match whole(bytes) {
            Ok(wire) => wire,
            Err(why) => {
                self.faults.note(place, why);
                return Match::default();
            }
        };
        if let Some(extension) = wire.extensions.first() {
            self.faults.note(place, format_args!("the extension {:?} is not known", extension.name));
        }
        if form == Form::Plain && !(wire.trust_domains.is_empty() && wire.not_trust_domains.is_empty()) {
            self.faults.note(place, UNKNOWN);
        }
        let mut list = List { faults: &mut self.faults, place, form };
        Match {
            namespaces: Sides {
                any: list.read("namespaces", wire.namespaces, text),
                none: list.read("not_namespaces", wire.not_namespaces, text),
            },
            principals: Sides {
                any: list.read("principals", wire.principals, text),
                none: list.read("not_principals", wire.not_principals, text),
            },
            service_accounts: Sides {
                any: list.read("service_accounts", wire.service_accounts, account),
                none: list.read("not_service_accounts", wire.not_service_accounts, account),
            },
            trust_domains: Sides {
                any: list.read("trust_domains", wire.trust_domains, text),
                none: list.read("not_trust_domains", wire.not_trust_domains, text),
            },
            source_ips: Sides {
                any: list.read("source_ips", wire.source_ips, range),
                none: list.read("not_source_ips", wire.not_source_ips, range),
            },
            destination_ips: Sides {
                any: list.read("destination_ips", wire.destination_ips, range),
                none: list.read("not_destination_ips", wire.not_destination_ips, range),
            },
            destination_ports: Sides {
                any: list.read("destination_ports", wire.destination_ports, port),
                none: list.read("not_destination_ports", wire.not_destination_ports, port),
            },
        }
    }
}

/// Where something stands.
#[derive(Clone, Copy)]
struct Place<'p> {
    rule: &'p str,
    clause: usize,
    one: Option<usize>,
}

impl Place<'_> {
    fn at(self, one: usize) -> Self {
        Self { one: Some(one), ..self }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.clauses[{}]", self.rule, self.clause)?;
        self.one.map_or(Ok(()), |one| write!(f, ".matches[{one}]"))
    }
}

/// Reads the values of a match.
struct List<'l> {
    faults: &'l mut Faults,
    place: Place<'l>,
    form: Form,
}

impl List<'_> {
    fn read<W, T>(&mut self, field: &str, wire: Vec<W>, value: fn(W, Form) -> Result<T, String>) -> Vec<T> {
        let mut values = Vec::with_capacity(wire.len());
        for (index, one) in wire.into_iter().enumerate() {
            match value(one, self.form) {
                Ok(one) => values.push(one),
                Err(why) => self.faults.note(format_args!("{}.{field}[{index}]", self.place), why),
            }
        }
        values
    }
}

fn text(wire: proto::StringMatch, form: Form) -> Result<TextMatch, String> {
    let text = match wire.match_type {
        Some(StringMatchType::Presence(())) => return Ok(TextMatch::Present),
        Some(StringMatchType::Exact(text)) => TextMatch::Exact(text.into()),
        Some(StringMatchType::Prefix(text)) => TextMatch::Prefix(text.into()),
        Some(StringMatchType::Suffix(text)) => TextMatch::Suffix(text.into()),
        None => return Err("neither exact, prefix, suffix nor presence".to_owned()),
    };
    match &text {
        // What its author meant is not known: some readers take a peer without an identity for one of that namespace.
        TextMatch::Exact(part) | TextMatch::Prefix(part) | TextMatch::Suffix(part)
            if part.is_empty() && form == Form::Plain =>
        {
            Err("an empty text".to_owned())
        }
        TextMatch::Exact(_) | TextMatch::Prefix(_) | TextMatch::Suffix(_) | TextMatch::Present => Ok(text),
    }
}

fn account(
    wire: proto::ServiceAccountMatch,
    _: Form,
) -> Result<(weir_model::Namespace, weir_model::ServiceAccount), String> {
    let namespace = wire.namespace.parse().map_err(|error: weir_model::NameError| error.to_string())?;
    let name = wire.service_account.parse().map_err(|error: weir_model::NameError| error.to_string())?;
    Ok((namespace, name))
}

fn range(wire: proto::AddressRange, form: Form) -> Result<IpNet, String> {
    let bytes = wire.address.as_slice();
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let ip = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    let ip = ip.map_err(|_| format!("an address of {} bytes, expected 4 or 16", bytes.len()))?;
    let length = u8::try_from(wire.length).ok().and_then(|length| IpNet::new(ip, length).ok());
    let range = length.ok_or_else(|| format!("{ip} has no prefix of {} bits", wire.length))?;
    Ok(match form {
        Form::Plain => canonical(range),
        Form::Exact => range,
    })
}

fn port(wire: u32, _: Form) -> Result<Port, String> {
    Port::try_from(i64::from(wire)).map_err(|error| error.to_string())
}
