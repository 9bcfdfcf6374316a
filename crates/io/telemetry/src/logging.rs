//! What the programs say of themselves: text or JSON, with a filter that can be changed while they run.

use std::{fmt, str::FromStr};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::LevelFilter,
    fmt::MakeWriter,
    layer::{Layer, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use weir_model::nearest;

use crate::Error;

/// The levels, by their names.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// What the names of our crates begin with.
const OURS: &str = "weir_";

/// How log lines look. `LOG_FORMAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(Error::Format { text: other.to_owned() }),
        }
    }
}

/// Changes what is logged.
#[derive(Clone)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// Logs by another filter from now on: `debug`, or `info,weir_hbone=trace`.
    ///
    /// # Errors
    /// The filter cannot be read, or logging has ended.
    pub fn set(&self, filter: &str) -> Result<(), Error> {
        self.0.reload(parse(filter)?).map_err(|source| Error::Reload { source })
    }

    /// The filter in force.
    pub fn current(&self) -> String {
        self.0.with_current(EnvFilter::to_string).unwrap_or_default()
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogHandle").field(&self.current()).finish()
    }
}

/// Logs to stdout from now on, for the whole process.
///
/// # Errors
/// The filter cannot be read, or logging was set up before.
pub fn init(format: LogFormat, filter: &str) -> Result<LogHandle, Error> {
    let (subscriber, handle) = subscriber(format, filter, std::io::stdout)?;
    subscriber.try_init().map_err(|source| Error::LoggingTwice { source })?;
    Ok(handle)
}

/// What [`init`] installs, with any writer.
pub(crate) fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + 'static, LogHandle), Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    Ok((tracing_subscriber::registry().with(filter).with(lines), LogHandle(handle)))
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    let read =
        EnvFilter::builder().parse(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })?;
    match filter.split(',').map(str::trim).find(|word| says_nothing(word)) {
        Some(word) => {
            let meant = nearest(&word.to_ascii_lowercase(), LEVELS.map(str::to_owned));
            Err(Error::NoLevel { word: word.to_owned(), meant })
        }
        None => Ok(read),
    }
}

/// To the library a lone word that is no level is a target, of which everything is logged. Where it is not one of our crates, it is a slip: what
/// others say is asked for by a level.
fn says_nothing(word: &str) -> bool {
    let is_word =
        !word.is_empty() && word.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | ':'));
    is_word && !word.starts_with(OURS) && word.parse::<LevelFilter>().is_err()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn the_filter_changes_while_the_program_runs() {
        let sink = Sink::default();
        let writer = sink.clone();
        let (subscriber, handle) = subscriber(LogFormat::Text, "info", move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("quiet");
            tracing::info!(port = 80, "heard");
            handle.set("off,weir_telemetry=debug").unwrap();
            tracing::debug!("loud");
            assert!(handle.set("weir_telemetry=shout").is_err());
            tracing::debug!("still loud");
            assert_eq!(handle.current(), "weir_telemetry=debug,off");
        });
        assert!(matches!(handle.set("info"), Err(Error::Reload { .. })), "nothing logs any more");
        let text = sink.text();
        assert!(!text.contains("quiet"), "{text}");
        for part in ["INFO", "heard port=80", "loud", "still loud"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_unless_it_is_one_of_our_crates() {
        for good in
            ["", "info", "WARN", "3", "off,weir_hbone", "info,access=debug", "h2=debug", "[span{field=1}]=trace"]
        {
            parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for (bad, said) in [
            (
                "nonsense",
                "\"nonsense\" is no level: expected off, error, warn, info, debug or trace, or target=level such as weir_hbone=debug",
            ),
            (
                "warn,Debugg",
                "\"Debugg\" is no level: expected off, error, warn, info, debug or trace, or target=level such as weir_hbone=debug; did you mean debug?",
            ),
            (
                "access",
                "\"access\" is no level: expected off, error, warn, info, debug or trace, or target=level such as weir_hbone=debug",
            ),
        ] {
            assert_eq!(parse(bad).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn json_lines_are_json_whatever_is_logged() {
        let sink = Sink::default();
        let writer = sink.clone();
        let (subscriber, _handle) = subscriber(LogFormat::Json, "info", move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(pod = "a\n\"b", "odd"));
        let line: serde_json::Value = serde_json::from_str(&sink.text()).unwrap();
        assert_eq!((&line["level"], &line["message"], &line["pod"]), (&"WARN".into(), &"odd".into(), &"a\n\"b".into()));
    }
}
