//! `tls`: what a connection to an endpoint is wrapped in.

use std::sync::Arc;

use weir_model::{ClientTls, Hostname, KeyFiles, Proof, ServerTrust};

use super::super::scalar::Remarks;
use crate::{
    error::Cause,
    object::TlsSettings,
    reader::{At, Fields, Reader},
};

const TLS: &[&str] = &[
    "caCertificates",
    "caCrl",
    "clientCertificate",
    "credentialName",
    "insecureSkipVerify",
    "mode",
    "privateKey",
    "sni",
    "subjectAltNames",
];

/// Most names a server's certificate may be for. Ours.
const MAX_NAMES: usize = 256;
/// The longest path of a file. Linux `PATH_MAX`.
const MAX_PATH: usize = 4_095;

/// `mode`, where something else is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Simple,
    Mutual,
}

/// What else is said; files with their places.
struct Said<'n> {
    certificate: Option<(&'n str, At<'n>)>,
    key: Option<(&'n str, At<'n>)>,
    roots: Option<(&'n str, At<'n>)>,
    revoked: Option<(&'n str, At<'n>)>,
    credential: Option<(&'n str, At<'n>)>,
    unproven: bool,
    sni: Option<(&'n str, At<'n>)>,
    names: Vec<Arc<str>>,
}

impl<'n> Said<'n> {
    fn read(reader: &mut Reader, fields: &Fields<'n>) -> Self {
        let mut file = |name| {
            let said = reader.some_text(fields.field(name))?;
            if said.0.len() > MAX_PATH {
                return reader.expected(&said.1, "the path of a file, at most 4095 bytes");
            }
            Some(said)
        };
        let (certificate, key) = (file("clientCertificate"), file("privateKey"));
        let (roots, revoked) = (file("caCertificates"), file("caCrl"));
        let items = reader.few(fields.field("subjectAltNames"), "names", MAX_NAMES);
        let names = items.iter().filter_map(|at| match reader.text(at)? {
            "" => reader.expected(at, "a name that the server's certificate is for"),
            name => Some(name.into()),
        });
        let names = names.collect();
        Self {
            certificate,
            key,
            roots,
            revoked,
            credential: reader.some_text(fields.field("credentialName")),
            unproven: reader.boolean(fields.field("insecureSkipVerify")) == Some(true),
            sni: reader.some_text(fields.field("sni")),
            names,
        }
    }

    fn files(&self) -> impl Iterator<Item = &At<'n>> {
        [&self.certificate, &self.key, &self.roots, &self.revoked].into_iter().flatten().map(|(_, at)| at)
    }
}

/// `tls`. Istio's rules for what may stand together.
pub(super) fn tls(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>) -> Option<TlsSettings> {
    let fields = reader.fields(at, TLS)?;
    let mode = match reader.some_text(fields.field("mode")) {
        None | Some(("DISABLE", _)) => None,
        Some(("SIMPLE", _)) => Some(Mode::Simple),
        Some(("MUTUAL", _)) => Some(Mode::Mutual),
        Some(("ISTIO_MUTUAL", _)) => {
            istio_mutual(reader, remarks, at, &fields);
            return Some(TlsSettings::IstioMutual);
        }
        Some((_, at)) => reader.expected(&at, "\"DISABLE\", \"SIMPLE\", \"MUTUAL\" or \"ISTIO_MUTUAL\"")?,
    };
    let said = Said::read(reader, &fields);
    match mode {
        None => Some(TlsSettings::Disable),
        Some(mode) => own(reader, remarks, at, &fields, mode, said),
    }
}

/// Nobody's certificate but the mesh's is shown, and none but the workload's believed.
fn istio_mutual(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>, fields: &Fields<'_>) {
    let said = Said::read(reader, fields);
    for at in said.files().chain(said.credential.iter().map(|(_, at)| at)) {
        reader.fail(at, Cause::NotWith { other: "mode ISTIO_MUTUAL" });
    }
    remarks.no_effect(
        at.path.clone(),
        "what is in the mesh is reached over HBONE in any case, which proves the identity of the very workload that is chosen, and what \
         is not in the clear",
    );
}

fn own(
    reader: &mut Reader,
    remarks: &mut Remarks,
    at: &At<'_>,
    fields: &Fields<'_>,
    mode: Mode,
    said: Said<'_>,
) -> Option<TlsSettings> {
    if let Some((name, _)) = &said.credential {
        if let Some(at) = said.files().next() {
            reader.fail(at, Cause::NotWith { other: "credentialName" });
        }
        let text = "no Secret is given to waypoints: name files instead; nothing is sent to the host";
        remarks.unsupported(fields.path("credentialName"), text);
        return Some(TlsSettings::Secret((*name).into()));
    }
    let sni = match &said.sni {
        Some((text, at)) if text.starts_with('*') => {
            return reader.expected(at, "the one host name that is asked for");
        }
        Some((_, at)) => Some(reader.name::<Hostname>(at)?),
        None => None,
    };
    let own = match (mode, &said.certificate, &said.key) {
        (Mode::Mutual, Some((certificate, _)), Some((key, _))) => {
            Some(KeyFiles { certificate: certificate.into(), key: key.into() })
        }
        (Mode::Mutual, certificate, key) => {
            for (name, file) in [("clientCertificate", certificate), ("privateKey", key)] {
                if file.is_none() {
                    let cause = Cause::Missing { expected: "a file, or credentialName, as the mode is MUTUAL" };
                    reader.fail_at(fields.path(name), at.node.line, cause);
                }
            }
            return None;
        }
        (Mode::Simple, certificate, key) => {
            for (_, at) in [certificate, key].into_iter().flatten() {
                remarks.no_effect(at.path.clone(), "with mode SIMPLE the server is not told who asks; MUTUAL would");
            }
            None
        }
    };
    let server = if said.unproven {
        for at in [&said.roots, &said.revoked].into_iter().flatten().map(|(_, at)| at) {
            remarks.no_effect(at.path.clone(), "with insecureSkipVerify anybody is believed");
        }
        if !said.names.is_empty() {
            remarks.no_effect(fields.path("subjectAltNames"), "with insecureSkipVerify anybody is believed");
        }
        ServerTrust::Anybody
    } else {
        let file = |said: &Option<(&str, At<'_>)>| said.as_ref().map(|(path, _)| path.into());
        ServerTrust::Proven(Proof { roots: file(&said.roots), revoked: file(&said.revoked), names: said.names })
    };
    Some(TlsSettings::Own(Arc::new(ClientTls { own, server, sni })))
}
