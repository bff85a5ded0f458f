//! `memoryrouter usage`: a table of what keys have used.
//!
//! The store's file is read as it was last written, which was less than a second ago if a router runs.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::table::harmless;
use super::{Failure, Global};
use crate::clock::{self, DAY_SECONDS};
use crate::config::Config;
use crate::keys;
use crate::usage::{self, By, Figures, Line, Query, Report};

#[derive(Args)]
pub(crate) struct UsageCommand {
    /// Only this key, by its id
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// How far back, such as 7d; whole UTC days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "7d")]
    since: Duration,
    /// What the lines are: any of key, provider, model, route, day, hour
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "key,model,day"
    )]
    by: Vec<Word>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Word {
    Key,
    Provider,
    Model,
    Route,
    Day,
    Hour,
}

impl Word {
    fn by(self) -> By {
        match self {
            Self::Key => By::Key,
            Self::Provider => By::Provider,
            Self::Model => By::Model,
            Self::Route => By::Route,
            Self::Day => By::Day,
            Self::Hour => By::Hour,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Key => "KEY",
            Self::Provider => "PROVIDER",
            Self::Model => "MODEL",
            Self::Route => "ROUTE",
            Self::Day => "DAY",
            Self::Hour => "HOUR",
        }
    }

    fn of(self, line: &Line) -> String {
        let text = match self {
            Self::Key => &line.key,
            Self::Provider => &line.provider,
            Self::Model => &line.model,
            Self::Route => &line.route,
            Self::Day => &line.day,
            Self::Hour => &line.hour,
        };
        match text.as_deref() {
            None | Some("") => "-".to_owned(),
            Some(text) => harmless(text),
        }
    }
}

/// Runs the command.
pub(crate) fn run(command: &UsageCommand, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    if !config.dir.exists() {
        let dir = config.dir.display();
        return Err(Failure::failed(format!("there is no data directory {dir}")));
    }
    command.key.as_deref().map_or(Ok(()), Failure::unless_id)?;
    let mut by: Vec<Word> = Vec::new();
    for word in &command.by {
        if !by.contains(word) {
            by.push(*word);
        }
    }
    let now = clock::unix_seconds();
    let back = i64::try_from(command.since.as_secs()).unwrap_or(i64::MAX);
    let query = Query {
        key: command.key.clone(),
        provider: None,
        model: None,
        since: clock::day_start(now.saturating_sub(back).max(0)),
        until: clock::day_start(now) + DAY_SECONDS,
        by: by.iter().map(|word| word.by()).collect(),
    };
    let report = usage::ask_file(&config.dir, &query).map_err(Failure::failed)?;
    if let Some(key) = command.key.as_deref().filter(|_| report.lines.is_empty()) {
        known(key, &config)?;
    }
    global.show(|| &report, || table(&report, &by))
}

/// A key that has used nothing is told from one that never was.
fn known(id: &str, config: &Config) -> Result<(), Failure> {
    let inspected = keys::inspect(&Global::key_files(config));
    let (_, contents) = inspected.map_err(|refusal| Failure::refused(&refusal, config))?;
    match contents.keys.iter().any(|key| *key.id == *id) {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "no such key: {id}; nothing was counted for it either"
        ))),
    }
}

const NUMBERS: [&str; 9] = [
    "REQUESTS", "ERRORS", "ABORTED", "INPUT", "CACHED", "OUTPUT", "COST $", "P50 MS", "P99 MS",
];

fn numbers(figures: &Figures) -> [String; NUMBERS.len()] {
    let millis = |time: Option<f64>| match time {
        None => "-".to_owned(),
        Some(time) if time < 10.0 => format!("{time:.1}"),
        Some(time) => format!("{time:.0}"),
    };
    // A sum that leaves something out says so.
    let mark = if figures.unpriced_requests > 0 {
        "+?"
    } else {
        ""
    };
    let about = if figures.estimated_requests > 0 {
        "~"
    } else {
        ""
    };
    [
        figures.requests.to_string(),
        figures.errors.to_string(),
        figures.aborted.to_string(),
        format!("{about}{}", figures.input_tokens),
        figures.cached_tokens.to_string(),
        format!("{about}{}", figures.output_tokens),
        format!("{:.4}{mark}", figures.cost_usd),
        millis(figures.provider_latency_ms.p50),
        millis(figures.provider_latency_ms.p99),
    ]
}

/// What a line is about, and its numbers.
type Row = (Vec<String>, [String; NUMBERS.len()]);

fn table(report: &Report, by: &[Word]) -> String {
    let mut rows: Vec<Row> = vec![(
        by.iter()
            .map(|word| word.title().to_owned())
            .collect::<Vec<_>>(),
        NUMBERS.map(str::to_owned),
    )];
    for line in &report.lines {
        let names = by.iter().map(|word| word.of(line)).collect();
        rows.push((names, numbers(&line.figures)));
    }
    let mut total = vec![String::new(); by.len()];
    if let Some(first) = total.first_mut() {
        "TOTAL".clone_into(first);
    }
    rows.push((total, numbers(&report.total)));
    let wide = |column: &dyn Fn(&Row) -> usize| rows.iter().map(column).max().unwrap_or(0);
    let names: Vec<usize> = (0..by.len())
        .map(|at| wide(&|row| row.0[at].chars().count()))
        .collect();
    let counts: Vec<usize> = (0..NUMBERS.len())
        .map(|at| wide(&|row| row.1[at].len()))
        .collect();
    let mut text = String::new();
    for (texts, numbers) in &rows {
        let mut line = String::new();
        // Writing to a String cannot fail.
        for (text, width) in texts.iter().zip(&names) {
            let _ = write!(line, "{text:<width$}  ");
        }
        for (number, width) in numbers.iter().zip(&counts) {
            let _ = write!(line, "{number:>width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if report.total.unpriced_requests > 0 {
        let unpriced = report.total.unpriced_requests;
        let _ = writeln!(
            text,
            "+? {unpriced} requests of models without a price (prices.toml)"
        );
    }
    if report.total.estimated_requests > 0 {
        let estimated = report.total.estimated_requests;
        let _ = writeln!(text, "~  {estimated} requests with estimated tokens");
    }
    text.truncate(text.trim_end().len());
    text
}
