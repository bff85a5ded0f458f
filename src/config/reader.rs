//! Walking a TOML table key by key, so that every problem of a file is found in one pass.
//!
//! A `Section` hands each key's value to a reading function and remembers which keys it was asked for. What nobody
//! asked for is unknown, and those asked for are the candidates for "did you mean". After a problem the default
//! stands in, so reading goes on; the caller throws the result away if any problem was reported.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with its place in the file.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// What is wrong, and where inside a value if that is known better than the value's start.
#[derive(Debug)]
pub(super) struct Wrong {
    what: String,
    at: Option<Range<usize>>,
}

impl Wrong {
    /// Narrows the place, unless a value further inside has done so already.
    pub(super) fn at(mut self, span: Range<usize>) -> Self {
        self.at.get_or_insert(span);
        self
    }
}

impl<S: Into<String>> From<S> for Wrong {
    fn from(what: S) -> Self {
        Self {
            what: what.into(),
            at: None,
        }
    }
}

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Counted from 1.
    pub(super) line: usize,
    /// Dotted; empty for an error of syntax.
    pub(super) key: String,
    /// What is wrong and what would be right.
    pub(super) what: String,
}

/// The problems found so far in one text.
pub(super) struct Report<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            problems: RefCell::default(),
        }
    }

    pub(super) fn add(&self, place: usize, key: String, what: impl Into<String>) {
        let before = &self.text.as_bytes()[..place.min(self.text.len())];
        self.problems.borrow_mut().push(Problem {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            key,
            what: what.into(),
        });
    }

    /// All problems, in the file's order.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }
}

/// One table of the file, or one that is absent and so holds nothing.
pub(super) struct Section<'a> {
    report: &'a Report<'a>,
    path: String,
    place: usize,
    left: BTreeMap<&'a str, (usize, &'a Value<'a>)>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(report: &'a Report<'a>, table: &'a DeTable<'a>) -> Self {
        Self::new(report, String::new(), 0, Some(table))
    }

    fn new(
        report: &'a Report<'a>,
        path: String,
        place: usize,
        table: Option<&'a DeTable<'a>>,
    ) -> Self {
        let entries = table.into_iter().flatten();
        let left = entries.map(|(key, value)| {
            let place = key.span().start;
            (key.get_ref().as_ref(), (place, value))
        });
        Self {
            report,
            path,
            place,
            left: left.collect(),
            known: Vec::new(),
        }
    }

    /// The value of `key`, or nothing if it is absent or wrong.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a Value<'a>) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.known.push(key);
        let (_, value) = self.left.remove(key)?;
        match read(value) {
            Ok(read) => Some(read),
            Err(wrong) => {
                let place = wrong.at.unwrap_or(value.span()).start;
                self.report.add(place, self.dotted(key), wrong.what);
                None
            }
        }
    }

    /// The value of `key`, or `default`.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&'a Value<'a>) -> Result<T, Wrong>,
    ) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// The table at `key`, read whole by `read`; keys that it does not ask for are problems.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> T,
    ) -> T {
        self.known.push(key);
        let entry = self.left.remove(key);
        let mut section = self.inner(key, entry);
        let result = read(&mut section);
        section.finish();
        result
    }

    /// The table at `key`, if there is one.
    pub(super) fn optional_section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> T,
    ) -> Option<T> {
        if self.left.contains_key(key) {
            return Some(self.section(key, read));
        }
        self.known.push(key);
        None
    }

    /// All tables that nobody asked for, with their names, in the order of the file: for tables whose keys are names
    /// that the operator chooses.
    pub(super) fn named(&mut self, mut read: impl FnMut(&str, &mut Section<'a>)) {
        let mut entries: Vec<_> = std::mem::take(&mut self.left).into_iter().collect();
        entries.sort_by_key(|(_, (place, _))| *place);
        for (name, entry) in entries {
            let mut section = self.inner(name, Some(entry));
            read(name, &mut section);
            section.finish();
        }
    }

    /// All values that nobody asked for, with their names, in the order of the file; wrong ones are left out.
    pub(super) fn rest<T>(
        &mut self,
        read: impl Fn(&str, &'a Value<'a>) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let mut entries: Vec<_> = std::mem::take(&mut self.left).into_iter().collect();
        entries.sort_by_key(|(_, (place, _))| *place);
        let mut all = Vec::with_capacity(entries.len());
        for (name, (place, value)) in entries {
            match read(name, value) {
                Ok(one) => all.push(one),
                Err(wrong) => self.report.add(place, self.dotted(name), wrong.what),
            }
        }
        all
    }

    /// Reports a problem of the table as a whole.
    pub(super) fn wrong(&self, what: impl Into<String>) {
        self.report.add(self.place, self.path.clone(), what);
    }

    /// Reports what nobody asked for. The root is the only section that a caller has to finish by itself.
    pub(super) fn finish(self) {
        for (key, (place, value)) in &self.left {
            let kind = if value.get_ref().is_table() {
                "table"
            } else {
                "key"
            };
            let hint = match nearest(key, self.known.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let what = format!("unknown {kind}; {hint}");
            self.report.add(*place, self.dotted(key), what);
        }
    }

    fn inner(&self, key: &str, entry: Option<(usize, &'a Value<'a>)>) -> Section<'a> {
        let path = self.dotted(key);
        let place = entry.map_or(self.place, |(place, _)| place);
        let table = entry.and_then(|(place, value)| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                let what = format!("expected a table, found {}", kind_of(value));
                self.report.add(place, path.clone(), what);
            }
            table
        });
        Section::new(self.report, path, place, table)
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// Reads a string.
pub(super) fn string<'a>(value: &'a Value<'_>) -> Result<&'a str, Wrong> {
    let found = || format!("expected a string, found {}", kind_of(value)).into();
    value.get_ref().as_str().ok_or_else(found)
}

/// Reads a string through `parse`.
pub(super) fn parsed<'a, T>(
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&'a Value<'a>) -> Result<T, Wrong> {
    move |value| Ok(parse(string(value)?)?)
}

/// Reads `true` or `false`.
pub(super) fn boolean(value: &Value<'_>) -> Result<bool, Wrong> {
    let found = || format!("expected true or false, found {}", kind_of(value)).into();
    value.get_ref().as_bool().ok_or_else(found)
}

/// Reads a whole number between `least` and `most`.
pub(super) fn count<'a>(
    least: usize,
    most: usize,
) -> impl Fn(&'a Value<'a>) -> Result<usize, Wrong> {
    move |value| {
        let wrong = || Wrong::from(format!("expected a whole number from {least} to {most}"));
        let integer = value.get_ref().as_integer().ok_or_else(wrong)?;
        let number = usize::from_str_radix(integer.as_str(), integer.radix());
        let number = number.map_err(|_| wrong())?;
        if (least..=most).contains(&number) {
            Ok(number)
        } else {
            Err(wrong())
        }
    }
}

/// Reads a list; a single value counts as a list of one.
pub(super) fn one_or_many<'a, T>(
    read: impl Fn(&'a Value<'a>) -> Result<T, Wrong>,
) -> impl Fn(&'a Value<'a>) -> Result<Vec<T>, Wrong> {
    move |value| match value.get_ref() {
        DeValue::Array(values) => {
            let one = |value: &'a Value<'a>| read(value).map_err(|wrong| wrong.at(value.span()));
            values.iter().map(one).collect()
        }
        _ => Ok(vec![read(value)?]),
    }
}

/// Reads one of a few words.
pub(super) fn word<'a, T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&'a Value<'a>) -> Result<T, Wrong> {
    parsed(move |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            unknown(text, &words)
        })
    })
}

/// The sentence about a word that is none of `words`.
pub(super) fn unknown(text: &str, words: &[&str]) -> String {
    match nearest(text, words.iter().copied()) {
        Some(name) => format!("unknown {text:?}; did you mean {name:?}?"),
        None => format!("unknown {text:?}; one of: {}", words.join(", ")),
    }
}

/// The candidate that is spelled most like `word`, if any is near enough to be meant.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // One slip, and one more for every fourth letter: `lsitn` is near `listen`, `foo` is not near `log`.
    let near_enough = 1 + word.chars().count() / 4;
    let measured = candidates.into_iter().map(|candidate| {
        let distance = strsim::damerau_levenshtein(word, candidate);
        (distance, candidate)
    });
    let best = measured.min_by_key(|(distance, _)| *distance)?;
    (best.0 <= near_enough).then_some(best.1)
}

fn kind_of(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
