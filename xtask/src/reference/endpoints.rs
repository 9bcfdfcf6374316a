//! What the small HTTP servers of the programs answer.

use std::collections::BTreeSet;

use super::{Found, Program, WRITTEN, compare, of_others};
use crate::finding::Finding;

const TABLE: &str = "xtask/src/reference/endpoints.rs";
/// What their paths begin with.
const FAMILIES: [&str; 8] =
    ["/debug/", "/config_dump", "/healthz/", "/ready", "/logging", "/quitquitquit", "/metrics", "/stats/"];

/// Path, who answers it, at which of its servers, and what.
const ROWS: &[(&str, &[Program], Server, &str)] = &[
    ("/metrics", &Program::ALL, Server::Stats, "metrics, as OpenMetrics if `Accept` asks for it"),
    ("/stats/prometheus", &Program::ALL, Server::Stats, "the same"),
    ("/healthz/ready", &Program::ALL, Server::Ready, "200, or 503 with what it waits for; at the admin server, too"),
    ("/ready", &Program::ALL, Server::Ready, "the same, as istiod has it"),
    ("/config_dump", &[Program::Agent, Program::Waypoint], Server::Admin, "the configuration in force, without keys"),
    (
        "/debug/authz",
        &[Program::Agent],
        Server::Admin,
        "`?from=&to=`: what would be decided of a connection into a pod of this node, and why",
    ),
    (
        "/debug/explain",
        &[Program::Agent, Program::Waypoint],
        Server::Admin,
        "`?from=&to=&request=&headers=`: where a request would go, hop by hop, and why",
    ),
    (
        "/debug/syncz",
        &[Program::Control],
        Server::Admin,
        "who is connected, and what of the mesh he has, was sent, refused",
    ),
    (
        "/debug/configz",
        &[Program::Control],
        Server::Admin,
        "what is served, and what of the cluster could not be read or is not as written",
    ),
    ("/debug/profile", &[Program::Control], Server::Admin, "where processor time goes; with `--profiling` only"),
    (
        "/debug/summary",
        &Program::ALL,
        Server::Admin,
        "what `weirctl status` asks: version, what is known, certificates, what is wrong",
    ),
    (
        "/debug/workloads",
        &[Program::Agent],
        Server::Admin,
        "`?namespace=&name=&after=&limit=`: workloads of the mesh, a page at a time",
    ),
    ("/debug/services", &[Program::Agent], Server::Admin, "likewise: services"),
    ("/debug/policies", &[Program::Agent], Server::Admin, "likewise: policies"),
    ("/debug/connections", &[Program::Agent], Server::Admin, "likewise: connections that are open now"),
    (
        "/debug/refusals",
        &[Program::Agent, Program::Waypoint],
        Server::Admin,
        "likewise: what was refused lately, and why",
    ),
    ("/logging", &Program::ALL, Server::Admin, "the log filter; `POST ?level=` sets it"),
    ("/quitquitquit", &Program::ALL, Server::Admin, "POST stops the program as SIGTERM does"),
];

/// One of a program's servers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Stats,
    Ready,
    Admin,
}

impl Server {
    fn at(self, program: Program) -> &'static str {
        match (self, program) {
            (Self::Stats, Program::Agent | Program::Waypoint) => "`[::]:15020`, `--stats-addr`",
            (Self::Stats, Program::Control) => "`[::]:15014`, `--stats-addr`",
            (Self::Ready, Program::Agent | Program::Waypoint) => "`[::]:15021`, `--ready-addr`",
            (Self::Ready, Program::Control) => "`[::]:8080`, `--ready-addr`",
            (Self::Admin, _) => "`localhost:15000`, `--admin-addr`",
        }
    }
}

/// The page; paths without a row, and rows without a path, are findings.
pub(super) fn page(found: &[Found], findings: &mut Vec<Finding>) -> String {
    let is_path = |text: &str| {
        FAMILIES.iter().any(|family| text.starts_with(family))
            && text.chars().all(|c| c.is_ascii_lowercase() || "/_".contains(c))
            && !text.ends_with('/')
    };
    let paths: Vec<&Found> = found.iter().filter(|one| is_path(&one.literal.text)).collect();
    compare(&paths, &ROWS.iter().map(|(path, ..)| *path).collect::<BTreeSet<_>>(), TABLE, findings);
    let of = |path: &str| ROWS.iter().find(|(one, ..)| *one == path).map(|(_, programs, ..)| *programs);
    of_others(&paths, of, TABLE, findings);
    let mut page = format!(
        "# Endpoints\n\n{WRITTEN} The admin server listens on loopback addresses only, and answers no request that a web page made.\n"
    );
    for program in Program::ALL {
        page += &format!("\n## {}\n\n| path | at | |\n| --- | --- | --- |\n", program.name());
        for (path, _, server, what) in ROWS.iter().filter(|(_, programs, ..)| programs.contains(&program)) {
            page += &format!("| `{path}` | {} | {what} |\n", server.at(program));
        }
    }
    page
}
