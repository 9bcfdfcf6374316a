//! What happened lately: a ring for each worker, written without a lock and read by whoever asks. The oldest gives way, and is counted.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use serde_json::{Value, json};

/// The longest text of a [`Cursor`] that is read, in bytes.
const MAX_CURSOR: usize = 8 << 10;
/// The longest text that is kept of what peers write, in characters.
const MAX_TEXT: usize = 512;

/// The last things that happened to each worker, a bounded number of them.
#[derive(Debug)]
pub struct Recent<T> {
    /// Of another start, places mean nothing. Milliseconds of Unix time.
    started: u64,
    rings: Box<[Ring<T>]>,
}

#[derive(Debug)]
struct Ring<T> {
    slots: Box<[ArcSwapOption<Happened<T>>]>,
    /// How much was noted since the start.
    next: AtomicU64,
}

/// One thing that happened.
#[derive(Debug)]
pub struct Happened<T> {
    /// Which of its worker's it is, from zero.
    number: u64,
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: T,
}

/// A worker's end of [`Recent`]: the only one that writes its ring.
#[derive(Debug)]
pub struct Recorder<T> {
    recent: Arc<Recent<T>>,
    worker: usize,
}

/// What happened behind a [`Cursor`], the oldest first.
#[derive(Debug)]
pub struct RecentPage<T> {
    /// Those that were asked for.
    pub entries: Vec<Arc<Happened<T>>>,
    /// Where to go on from.
    pub cursor: Cursor,
    /// How many had given way before they were read.
    pub forgotten: u64,
    /// How many older ones were left out, as there were too many.
    pub left_out: usize,
}

/// How far somebody has read. Written `START.N.N`, with a number for each worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    started: u64,
    read: Vec<u64>,
}

impl<T> Recent<T> {
    /// Rings for so many workers, of `each` entries.
    pub fn new(workers: usize, each: usize) -> Arc<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ring =
            || Ring { slots: (0..each.max(1)).map(|_| ArcSwapOption::empty()).collect(), next: AtomicU64::new(0) };
        let started = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Arc::new(Self { started, rings: (0..workers).map(|_| ring()).collect() })
    }

    /// The end of a worker, counted from zero; take it once. One beyond the last shares the last one's ring.
    pub fn recorder(self: &Arc<Self>, worker: usize) -> Recorder<T> {
        Recorder { recent: self.clone(), worker }
    }

    /// At most `most` of what is wanted and came behind a cursor: the newest. From the beginning without one, or with one of another start.
    pub fn after(&self, cursor: Option<&Cursor>, most: usize, wanted: impl Fn(&T) -> bool) -> RecentPage<T> {
        let known = cursor.filter(|cursor| cursor.started == self.started && cursor.read.len() == self.rings.len());
        let (mut entries, mut forgotten) = (Vec::new(), 0);
        let mut read = Vec::with_capacity(self.rings.len());
        for (worker, ring) in self.rings.iter().enumerate() {
            let next = ring.next.load(Acquire);
            let behind = known.and_then(|cursor| cursor.read.get(worker)).map_or(0, |read| (*read).min(next));
            let kept = u64::try_from(ring.slots.len()).unwrap_or(u64::MAX);
            let first = behind.max(next.saturating_sub(kept));
            forgotten += first - behind;
            for number in first..next {
                let entry = ring.slot(number).and_then(ArcSwapOption::load_full);
                match entry.filter(|entry| entry.number == number) {
                    Some(entry) if wanted(&entry.what) => entries.push(entry),
                    Some(_) => {}
                    // It gave way to a newer one this moment.
                    None => forgotten += 1,
                }
            }
            read.push(next);
        }
        entries.sort_by_key(|entry| entry.at);
        let left_out = entries.len().saturating_sub(most);
        entries.drain(..left_out);
        RecentPage { entries, cursor: Cursor { started: self.started, read }, forgotten, left_out }
    }
}

impl<T> RecentPage<T> {
    /// For people and programs: under `name` what `told` says of each entry, where to go on from, and how many are missing.
    pub fn told(&self, name: &str, told: impl Fn(&Happened<T>) -> Value) -> Value {
        json!({
            (name): self.entries.iter().map(|entry| told(entry)).collect::<Vec<_>>(),
            "cursor": self.cursor.to_string(),
            "forgotten": self.forgotten,
            "leftOut": self.left_out,
        })
    }
}

/// A text that a peer may have written, as it is kept: its first 512 characters, and `…` where there were more.
pub fn clipped(text: &str) -> Box<str> {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

impl<T> Ring<T> {
    fn slot(&self, number: u64) -> Option<&ArcSwapOption<Happened<T>>> {
        let kept = u64::try_from(self.slots.len()).ok()?;
        self.slots.get(usize::try_from(number % kept).ok()?)
    }
}

impl<T> Recorder<T> {
    /// Notes what happened now.
    pub fn note(&self, what: T) {
        let Some(ring) = self.recent.rings.get(self.worker).or(self.recent.rings.last()) else { return };
        let number = ring.next.load(Relaxed);
        if let Some(slot) = ring.slot(number) {
            slot.store(Some(Arc::new(Happened { number, at: SystemTime::now(), what })));
        }
        ring.next.store(number + 1, Release);
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.started)?;
        self.read.iter().try_for_each(|read| write!(f, ".{read}"))
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected the \"cursor\" of an earlier answer, as 1700000000000.12.7".to_owned();
        if text.len() > MAX_CURSOR {
            return Err(expected());
        }
        let mut numbers = text.split('.').map(|part| part.parse::<u64>().map_err(|_| expected()));
        let started = numbers.next().ok_or_else(expected)??;
        Ok(Self { started, read: numbers.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn numbers(page: &RecentPage<u64>) -> Vec<u64> {
        page.entries.iter().map(|entry| entry.what).collect()
    }

    #[test]
    fn the_newest_stay_and_what_gave_way_is_counted() {
        let recent = Recent::new(1, 3);
        let recorder = recent.recorder(0);
        assert!(recent.after(None, 9, |_| true).entries.is_empty());
        for number in 0..5 {
            recorder.note(number);
        }
        let page = recent.after(None, 9, |_| true);
        assert_eq!((numbers(&page), page.forgotten, page.left_out), (vec![2, 3, 4], 2, 0));
        let page = recent.after(None, 2, |_| true);
        assert_eq!((numbers(&page), page.left_out), (vec![3, 4], 1));
        let page = recent.after(None, 9, |number| *number == 3);
        assert_eq!((numbers(&page), page.forgotten), (vec![3], 2));
    }

    #[test]
    fn whoever_goes_on_from_a_cursor_gets_what_is_new_and_no_more() {
        let recent = Recent::new(2, 4);
        let (one, other) = (recent.recorder(0), recent.recorder(1));
        one.note(1);
        let page = recent.after(None, 9, |_| true);
        other.note(2);
        let cursor = page.cursor.to_string().parse().unwrap();
        let page = recent.after(Some(&cursor), 9, |_| true);
        assert_eq!((numbers(&page), page.forgotten), (vec![2], 0));
        assert!(recent.after(Some(&page.cursor), 9, |_| true).entries.is_empty());
        // Of another start, everything is new.
        let other = Cursor { started: 1, read: vec![9, 9] };
        assert_eq!(recent.after(Some(&other), 9, |_| true).entries.len(), 2);
        // Nor does one from the future break anything.
        let ahead = Cursor { read: vec![99, 99], ..page.cursor };
        assert!(recent.after(Some(&ahead), 9, |_| true).entries.is_empty());
    }

    #[test]
    fn a_page_is_told_with_where_to_go_on_from_and_what_is_missing() {
        let recent = Recent::new(1, 3);
        let recorder = recent.recorder(0);
        (0..5).for_each(|number| recorder.note(number));
        let page = recent.after(None, 2, |_| true);
        let told = page.told("numbers", |entry| entry.what.into());
        let want = json!({ "numbers": [3, 4], "cursor": page.cursor.to_string(), "forgotten": 2, "leftOut": 1 });
        assert_eq!(told, want);
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        for (text, want) in [
            (String::new(), String::new()),
            ("ü".repeat(MAX_TEXT), "ü".repeat(MAX_TEXT)),
            ("ü".repeat(MAX_TEXT + 1), "ü".repeat(MAX_TEXT) + "…"),
        ] {
            assert_eq!(*clipped(&text), *want);
        }
    }

    #[test]
    fn what_is_no_cursor_is_told() {
        for bad in ["", "x", "1.", "1.-2", "1.2x", "99999999999999999999", &"1.".repeat(9_000)] {
            assert!(bad.parse::<Cursor>().unwrap_err().starts_with("expected the \"cursor\""), "{bad:?}");
        }
    }

    #[test]
    fn a_reader_sees_whole_entries_in_order_while_they_are_written() {
        const COUNT: u64 = 20_000;
        let recent = Recent::new(1, 8);
        let recorder = recent.recorder(0);
        let writing = thread::spawn(move || (0..COUNT).for_each(|number| recorder.note(number)));
        let (mut cursor, mut seen, mut forgotten, mut last) = (None, 0, 0, None);
        while seen + forgotten < COUNT {
            let page = recent.after(cursor.as_ref(), usize::MAX, |_| true);
            for entry in &page.entries {
                assert!(last.is_none_or(|last| last < entry.what), "{last:?} before {}", entry.what);
                assert_eq!(entry.number, entry.what);
                last = Some(entry.what);
            }
            seen += u64::try_from(page.entries.len()).unwrap();
            forgotten += page.forgotten;
            cursor = Some(page.cursor);
        }
        assert_eq!(seen + forgotten, COUNT);
        writing.join().unwrap();
    }

    proptest! {
        #[test]
        fn a_cursor_reads_as_it_is_written(started: u64, read in prop::collection::vec(any::<u64>(), 0..9)) {
            let cursor = Cursor { started, read };
            prop_assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        }
    }
}
