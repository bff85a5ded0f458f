//! Prometheus' text format: families, values, histograms.

use std::fmt::Write as _;

use crate::memory::{BOUNDS_MICROS, Times};
use crate::metrics::Timing;

/// The page under construction.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    /// A new family.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail, here and below.
        let _ = write!(
            self.0,
            "# HELP memoryrouter_{name} {help}\n# TYPE memoryrouter_{name} {kind}\n"
        );
    }

    /// One value of a family.
    pub(super) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "memoryrouter_{name}");
        self.labels(labels, None);
        let _ = writeln!(self.0, " {value}");
    }

    fn labels(&mut self, labels: &[(&str, &str)], bound: Option<&str>) {
        let all = labels
            .iter()
            .copied()
            .chain(bound.map(|bound| ("le", bound)));
        let mut open = '{';
        for (name, value) in all {
            let _ = write!(self.0, "{open}{name}=\"{}\"", escaped(value));
            open = ',';
        }
        if open == ',' {
            self.0.push('}');
        }
    }

    /// A counter without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.value(name, &[], value as f64);
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.value(name, &[], value);
    }

    /// One histogram of a family.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        timing: &Timing,
        bounds: &[f64],
    ) {
        for bound in bounds {
            let _ = write!(self.0, "memoryrouter_{name}_bucket");
            self.labels(labels, Some(&bound.to_string()));
            let _ = writeln!(self.0, " {}", timing.count_within(*bound));
        }
        let _ = write!(self.0, "memoryrouter_{name}_bucket");
        self.labels(labels, Some("+Inf"));
        let _ = writeln!(self.0, " {}", timing.count());
        self.value(&format!("{name}_sum"), labels, timing.sum_seconds());
        self.value(&format!("{name}_count"), labels, timing.count() as f64);
    }
}

impl Page {
    /// A histogram that comes in buckets.
    pub(super) fn buckets(&mut self, name: &str, times: &Times) {
        let mut sum = 0;
        for (index, count) in times.counts.iter().enumerate() {
            sum += count;
            let bound = BOUNDS_MICROS.get(index).map(|micros| *micros as f64 / 1e6);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            self.value(&format!("{name}_bucket"), &[("le", &bound)], sum as f64);
        }
        self.value(&format!("{name}_sum"), &[], times.sum_micros as f64 / 1e6);
        self.value(&format!("{name}_count"), &[], sum as f64);
    }
}

/// A label's value as the format has it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
