//! Tokens from a file, for meshes without a cluster.

use std::{collections::HashMap, fmt, fs, path::Path};

use anyhow::{Context, bail, ensure};
use weir_model::{NodeName, SpiffeId, TrustDomain};
use weir_rpc::{Caller, Credential, Unproven, Verify, Verifying};

/// Most a file of tokens may have, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The shortest token that is not guessed, in bytes.
const MIN_TOKEN: usize = 16;

/// Who holds which token.
pub(crate) struct StaticTokens(HashMap<String, Caller>);

impl StaticTokens {
    /// Reads a file of lines `token namespace/serviceaccount [node]`; `#` begins a comment.
    pub(crate) fn open(path: &Path, trust_domain: &TrustDomain) -> anyhow::Result<Self> {
        let size = fs::metadata(path).with_context(|| path.display().to_string())?.len();
        ensure!(size <= MAX_FILE, "{}: larger than {MAX_FILE} bytes", path.display());
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut tokens = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            // The line itself is not shown: there is a secret in it.
            let at = || format!("{}:{}", path.display(), number + 1);
            let (token, caller) = entry(line, trust_domain).with_context(at)?;
            if tokens.insert(token, caller).is_some() {
                bail!("{}: the token stands above already", at());
            }
        }
        Ok(Self(tokens))
    }
}

fn entry(line: &str, trust_domain: &TrustDomain) -> anyhow::Result<(String, Caller)> {
    let mut words = line.split_whitespace();
    let (Some(token), Some(account), node, None) = (words.next(), words.next(), words.next(), words.next()) else {
        bail!("expected: token namespace/serviceaccount [node]");
    };
    ensure!(token.len() >= MIN_TOKEN, "expected a token of at least {MIN_TOKEN} characters");
    let (namespace, name) = account.split_once('/').context("expected namespace/serviceaccount after the token")?;
    let identity = SpiffeId::new(trust_domain.clone(), namespace.parse()?, name.parse()?);
    let node = node.map(str::parse::<NodeName>).transpose()?;
    Ok((token.to_owned(), Caller { identity, node, pod: None, credential: Credential::Token }))
}

impl Verify for StaticTokens {
    fn verify<'a>(&'a self, token: &'a str) -> Verifying<'a> {
        let known = self.0.get(token).cloned();
        Box::pin(async {
            known.ok_or_else(|| Unproven::Refused("it is not among those of --static-tokens".to_owned()))
        })
    }
}

impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticTokens").field("count", &self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn open(text: &str) -> anyhow::Result<StaticTokens> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        StaticTokens::open(file.path(), &TrustDomain::default())
    }

    #[tokio::test]
    async fn a_line_says_who_holds_the_token() {
        let tokens = open("# agents\n0123456789abcdef mesh/agent n1 # here\n\n0123456789abcdeg a/b\n").unwrap();
        let caller = tokens.verify("0123456789abcdef").await.unwrap();
        assert_eq!(caller.identity.to_string(), "spiffe://cluster.local/ns/mesh/sa/agent");
        assert_eq!(caller.node.unwrap().as_str(), "n1");
        assert!(tokens.verify("0123456789abcdeg").await.unwrap().node.is_none());
        assert!(matches!(tokens.verify("0123456789abcdeh").await, Err(Unproven::Refused(_))));
    }

    #[test]
    fn a_bad_line_is_named_and_its_token_not_shown() {
        for (text, says) in [
            ("short a/b", "at least 16"),
            ("0123456789abcdef", "expected: token"),
            ("0123456789abcdef a", "namespace/serviceaccount"),
            ("0123456789abcdef A/b", "namespace"),
            ("0123456789abcdef a/b n1 more", "expected: token"),
            ("0123456789abcdef a/b\n0123456789abcdef a/c", "above already"),
        ] {
            let error = format!("{:#}", open(text).unwrap_err());
            assert!(error.contains(says) && error.contains(':') && !error.contains("0123456789abcdef"), "{error}");
        }
    }
}
