//! `weirctl explain`.

use std::{fs, io::Read, path::Path, time::SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rand::{SeedableRng, rngs::SmallRng};
use weir_compile::PolicyStatus;
use weir_explain::{Explained, Question, RequestText, Verdict, explain as explained};

use crate::{
    cli::{Output, Way},
    folder, live,
    scene::Manifests,
};

/// The longest file of a token, in bytes: more than any token that is read.
const MAX_TOKEN: u64 = 64 << 10;

/// The answer as it is printed, and what the program ends with.
///
/// # Errors
/// If the question is none, the mesh cannot be read, or it has nothing that was asked about.
pub(crate) fn explain(way: &Way) -> Result<(String, u8)> {
    let headers = headers(way)?;
    let answer = match &way.mesh.manifests {
        Some(folder) => read(way, &headers, folder)?,
        None => ask(way, &headers)?,
    };
    let text = match way.output {
        Output::Text => answer.to_string(),
        Output::Json => serde_json::to_string_pretty(&answer)? + "\n",
    };
    let ends_with = match answer.verdict {
        Verdict::Allow => 0,
        Verdict::Deny | Verdict::Partly => 1,
        Verdict::Unknown => 2,
    };
    Ok((text, ends_with))
}

/// The headers of the request, that of its token included.
fn headers(way: &Way) -> Result<Vec<String>> {
    let mut headers = way.header.clone();
    let Some(token) = &way.token else { return Ok(headers) };
    let text = match fs::File::open(token) {
        Ok(file) => {
            let mut text = String::new();
            file.take(MAX_TOKEN + 1).read_to_string(&mut text).with_context(|| format!("--token {token}"))?;
            text
        }
        Err(_) => token.clone(),
    };
    let text = text.trim();
    let is_one = text.matches('.').count() == 2 && !text.contains(char::is_whitespace);
    ensure!(is_one, "--token: expected a file, or a token of three parts with dots between them");
    headers.push(format!("authorization: Bearer {text}"));
    Ok(headers)
}

/// Answers from a folder.
fn read(way: &Way, headers: &[String], folder: &Path) -> Result<Explained> {
    let headers = headers.iter().map(String::as_str);
    let request = way.request.as_ref().map(|line| RequestText::read(line, headers)).transpose()?;
    let question = Question { from: way.from.clone(), to: way.to.clone(), request };
    let settings = folder::settings(&way.mesh)?;
    let now = SystemTime::now();
    let manifests = folder::read(folder, move |objects| Manifests::of(objects, &settings, now))?;
    // The same question gets the same answer.
    let mut answer = explained(&manifests, &question, &mut SmallRng::seed_from_u64(0))?;
    annotate(&mut answer, &manifests.statuses());
    folder::shorten(answer, folder)
}

/// Adds what of the considered policies is not enforced as it was written.
fn annotate(answer: &mut Explained, statuses: &[PolicyStatus]) {
    for status in statuses.iter().filter(|status| !status.is_as_written()) {
        let name = (&status.kind, &status.namespace, &status.name);
        let mut considered = answer.hops.iter().flat_map(|hop| &hop.policies);
        if considered.any(|one| (&one.kind, &one.namespace, &one.name) == name) {
            answer.notes.push(status.to_string());
        }
    }
}

/// Asks a waypoint or an agent.
fn ask(way: &Way, headers: &[String]) -> Result<Explained> {
    let mut query = vec![("from", way.from.to_string()), ("to", way.to.to_string())];
    query.extend(way.request.as_ref().map(|request| ("request", request.clone())));
    query.extend((!headers.is_empty()).then(|| ("headers", headers.join("\n"))));
    let (status, body) = live::get(&way.admin, "/debug/explain", &query)
        .with_context(|| format!("cannot ask the program at {} (or give a folder: -f DIR)", way.admin))?;
    match status {
        200 => {}
        404 => bail!("the program at {} is no waypoint and no agent: {}", way.admin, body.trim()),
        _ => bail!("the program at {} answers {status}: {}", way.admin, body.trim()),
    }
    serde_json::from_str(&body).with_context(|| format!("the program at {} speaks of another version", way.admin))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        thread::{self, JoinHandle},
    };

    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Task};

    const FOLDER: &str = "../tests/explain/answered-by-the-rule";

    fn way(words: &[&str]) -> Way {
        let before = ["weirctl", "explain", "--from", "front/web", "--to", "cart.shop:80"];
        let Arguments { task } = Arguments::try_parse_from(before.iter().chain(words)).unwrap();
        let Task::Explain(way) = task else { panic!("another task: {task:?}") };
        way
    }

    /// Answers one request; its first line.
    fn server(status: &'static str, body: String) -> (String, JoinHandle<String>) {
        let server = TcpListener::bind("[::1]:0").unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let serving = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let head: Vec<String> =
                BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
            head.into_iter().next().unwrap()
        });
        (url, serving)
    }

    #[test]
    fn a_live_waypoint_is_asked_the_same_and_its_answer_printed_the_same() {
        let (json, _) = explain(&way(&["-f", FOLDER, "GET /closed", "-o", "json"])).unwrap();
        let (url, serving) = server("200 OK", json);
        let asked = way(&["--admin", &url, "GET /closed", "-H", "x-a: 1", "--token", "a.b.c"]);
        assert_eq!(explain(&asked).unwrap(), explain(&way(&["-f", FOLDER, "GET /closed"])).unwrap());
        let line = serving.join().unwrap();
        assert_eq!(
            line,
            "GET /debug/explain?from=front%2Fweb&to=cart.shop%3A80&request=GET%20%2Fclosed&headers=x-a%3A%201%0Aauthorization%3A%20Bearer%20a.b.c \
             HTTP/1.1"
        );
    }

    #[test]
    fn who_cannot_answer_is_named() {
        for (status, body, part) in [
            ("404 Not Found", "there is: /debug/authz", "is no waypoint and no agent: there is: /debug/authz"),
            ("400 Bad Request", "did you mean cart.shop?", "answers 400: did you mean cart.shop?"),
            ("200 OK", "{}", "speaks of another version"),
        ] {
            let (url, serving) = server(status, body.to_owned());
            let error = format!("{:#}", explain(&way(&["--admin", &url])).unwrap_err());
            serving.join().unwrap();
            assert!(error.contains(part) && error.contains(&url), "{error}");
        }
    }

    #[test]
    fn a_token_may_stand_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "a.b.c\n").unwrap();
        let token = file.path().to_str().unwrap();
        assert_eq!(headers(&way(&["GET /", "--token", token])).unwrap(), ["authorization: Bearer a.b.c"]);
        fs::write(file.path(), "no token").unwrap();
        assert!(headers(&way(&["GET /", "--token", token])).is_err());
    }
}
