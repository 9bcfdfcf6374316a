//! What the program says to words, and small servers for it to ask.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use clap::Parser;

use crate::{cli::Arguments, run};

/// What is printed, and what the program ends with.
pub(crate) fn answer<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let Arguments { task } = Arguments::try_parse_from(words).unwrap();
    let mut text = Vec::new();
    let ended = run(&task, &mut text, false);
    let text = String::from_utf8(text).unwrap();
    match ended {
        Ok(ends_with) => format!("{text}(ends with {ends_with})\n"),
        Err(error) => format!("{text}weirctl: {error:#}\n(ends with 2)\n"),
    }
}

/// A server that answers each request by its target, as long as the test runs.
pub(crate) struct Canned {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Canned {
    /// Answers with a status and a text.
    pub(crate) fn new(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let server = TcpListener::bind("[::1]:0").unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        thread::spawn(move || {
            for stream in server.incoming() {
                let Ok(mut stream) = stream else { return };
                let head: Vec<String> =
                    BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let Some(line) = head.first() else { continue };
                let mut words = line.split(' ');
                let (method, target) = (words.next().unwrap(), words.next().unwrap());
                log.lock().unwrap().push(format!("{method} {target}"));
                let (status, body) = answer(target);
                let length = body.len();
                // One that has gone is none of our business.
                drop(write!(
                    stream,
                    "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                ));
            }
        });
        Self { url, asked }
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
