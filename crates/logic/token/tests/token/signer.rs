//! An issuer whose keys are made and used by OpenSSL, which shares nothing with what is tested.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::LazyLock,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tempfile::TempDir;

/// What a key is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of so many bits.
    Rsa(u32),
    /// OpenSSL's name of the curve, JOSE's, and the bytes of a coordinate.
    Ec(&'static str, &'static str, usize),
    Ed25519,
}

pub(crate) struct Signer {
    dir: TempDir,
    kind: Kind,
}

/// One of each kind. To make one takes long.
pub(crate) static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::new(Kind::Rsa(2_048)));
pub(crate) static OTHER_RSA: LazyLock<Signer> = LazyLock::new(|| Signer::new(Kind::Rsa(2_048)));
pub(crate) static SHORT_RSA: LazyLock<Signer> = LazyLock::new(|| Signer::new(Kind::Rsa(1_024)));
pub(crate) static P256: LazyLock<Signer> = LazyLock::new(|| Signer::new(Kind::Ec("P-256", "P-256", 32)));
pub(crate) static P384: LazyLock<Signer> = LazyLock::new(|| Signer::new(Kind::Ec("P-384", "P-384", 48)));
pub(crate) static P521: LazyLock<Signer> = LazyLock::new(|| Signer::new(Kind::Ec("P-521", "P-521", 66)));
pub(crate) static ED25519: LazyLock<Signer> = LazyLock::new(|| Signer::new(Kind::Ed25519));

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of a list, each number in its two hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is a program of the test's machine");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

impl Signer {
    fn new(kind: Kind) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("key.pem");
        let path = path.to_str().unwrap();
        let option = match kind {
            Kind::Rsa(bits) => format!("rsa_keygen_bits:{bits}"),
            Kind::Ec(curve, ..) => format!("ec_paramgen_curve:{curve}"),
            Kind::Ed25519 => String::new(),
        };
        let mut args = match kind {
            Kind::Rsa(_) => vec!["genpkey", "-algorithm", "RSA", "-pkeyopt", &option],
            Kind::Ec(..) => vec!["genpkey", "-algorithm", "EC", "-pkeyopt", &option],
            Kind::Ed25519 => vec!["genpkey", "-algorithm", "ED25519"],
        };
        args.extend(["-out", path]);
        openssl(&args, b"");
        Self { dir, kind }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The public key as PEM.
    pub(crate) fn public_pem(&self) -> Vec<u8> {
        openssl(&["pkey", "-in", &self.path("key.pem"), "-pubout"], b"")
    }

    /// The public key as a JSON Web Key, with more members, such as `,"kid":"a"`.
    pub(crate) fn jwk(&self, more: &str) -> String {
        let der = openssl(&["pkey", "-in", &self.path("key.pem"), "-pubout", "-outform", "DER"], b"");
        let last = |bytes: usize| &der[der.len() - bytes..];
        match self.kind {
            Kind::Rsa(_) => {
                let text = openssl(&["rsa", "-in", &self.path("key.pem"), "-modulus", "-noout"], b"");
                let text = String::from_utf8(text).unwrap();
                let modulus = hex(text.trim().strip_prefix("Modulus=").unwrap());
                format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"{more}}}"#, base64url(modulus))
            }
            Kind::Ec(_, curve, size) => {
                let (x, y) = last(2 * size).split_at(size);
                format!(r#"{{"kty":"EC","crv":"{curve}","x":"{}","y":"{}"{more}}}"#, base64url(x), base64url(y))
            }
            Kind::Ed25519 => format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"{more}}}"#, base64url(last(32))),
        }
    }

    /// Signs as the algorithm says.
    pub(crate) fn signature(&self, algorithm: &str, signed: &[u8]) -> Vec<u8> {
        let digest = format!("-sha{}", algorithm.trim_start_matches(|c: char| c.is_ascii_alphabetic()));
        let key = self.path("key.pem");
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
        match (self.kind, &algorithm[..2]) {
            (Kind::Rsa(_), "RS") => openssl(&["dgst", &digest, "-sign", &key], signed),
            (Kind::Rsa(_), "PS") => openssl(&[["dgst", &digest, "-sign", &key].as_slice(), &pss].concat(), signed),
            (Kind::Ec(_, _, size), "ES") => fixed(&openssl(&["dgst", &digest, "-sign", &key], signed), size),
            (Kind::Ed25519, "Ed") => {
                // OpenSSL must know how long it is.
                let file = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
                fs::write(file.path(), signed).unwrap();
                openssl(&["pkeyutl", "-sign", "-inkey", &key, "-rawin", "-in", file.path().to_str().unwrap()], b"")
            }
            _ => panic!("no key for {algorithm}"),
        }
    }

    /// A token with this header and payload.
    pub(crate) fn token_of(&self, algorithm: &str, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.signature(algorithm, signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    }

    /// A token with this payload and a header that names nothing but the algorithm.
    pub(crate) fn token(&self, algorithm: &str, payload: &str) -> String {
        self.token_of(algorithm, &format!(r#"{{"alg":"{algorithm}"}}"#), payload)
    }
}

/// A signature of ECDSA as JOSE has it, RFC 7518 §3.4, from the two numbers in DER.
fn fixed(der: &[u8], size: usize) -> Vec<u8> {
    let body = if der[1] == 0x81 { &der[3..] } else { &der[2..] };
    let r_len = usize::from(body[1]);
    let (r, rest) = body[2..].split_at(r_len);
    let s = &rest[2..];
    let mut out = Vec::new();
    for number in [r, s] {
        let number = if number.len() > size { &number[1..] } else { number };
        out.extend(std::iter::repeat_n(0, size - number.len()));
        out.extend(number);
    }
    out
}

/// HMAC with SHA-256, of a key of any bytes.
pub(crate) fn hmac(key: &[u8], signed: &[u8]) -> Vec<u8> {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    openssl(&["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{key}"), "-binary"], signed)
}
