//! What comes out: a table with the absolute numbers, the keys with what they are held against, or the keys as JSON.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::fs;

/// A result in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    text: String,
    keys: Vec<Key>,
}

/// One ratio and what it is held against.
#[derive(Clone, Debug)]
struct Key {
    name: &'static str,
    value: f64,
    target: Target,
}

/// What a key is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// Good up to this.
    AtMost(f64),
    /// Good from this on.
    AtLeast(f64),
    /// For the record.
    None,
}

impl Target {
    fn said_of(self, value: f64) -> String {
        let word = |met| if met { "met" } else { "MISSED" };
        match self {
            Self::AtMost(limit) => format!("at most {limit}: {}", word(value <= limit)),
            Self::AtLeast(limit) => format!("at least {limit}: {}", word(value >= limit)),
            Self::None => String::new(),
        }
    }
}

impl Report {
    /// A report that begins with the facts of this machine.
    ///
    /// # Errors
    /// Where the machine does not tell.
    pub(crate) fn begin(title: &str) -> Result<Self> {
        let cores = std::thread::available_parallelism()?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let info = fs::read_to_string("/proc/cpuinfo")?;
        let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
        let memory = fs::read_to_string("/proc/meminfo")?;
        let total: u64 = memory
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .context("meminfo tells no total")?;
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split_whitespace().next().unwrap_or("?").to_string();
        let mut report = Self::default();
        report.line(title);
        report.line(&format!(
            "machine: {cores} cores ({}), {:.0} GiB, Linux {}, file system {}; load {load} at the start",
            model.trim_start_matches([' ', '\t', ':']),
            total as f64 / f64::from(1 << 20),
            release.trim(),
            crate::storage::kind(std::path::Path::new("/srv"))?,
        ));
        Ok(report)
    }

    /// Adds a line of text.
    pub(crate) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Adds a table; the first row is its head.
    pub(crate) fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or_default()).collect();
        self.text.push('\n');
        for row in rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(number, (cell, width))| match number {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                })
                .collect();
            self.line(cells.join("  ").trim_end());
        }
        self.text.push('\n');
    }

    /// Adds a key.
    ///
    /// # Errors
    /// Where the value is no number: something was not measured.
    pub(crate) fn key(&mut self, name: &'static str, value: f64, target: Target) -> Result<()> {
        ensure!(value.is_finite(), "{name} is {value}: something was not measured");
        self.keys.push(Key { name, value, target });
        Ok(())
    }

    /// Everything, to read.
    pub(crate) fn text(&self) -> String {
        let mut text = self.text.clone();
        for Key { name, value, target } in &self.keys {
            let said = target.said_of(*value);
            writeln!(text, "{name:<34} {value:>10.4}  {said}").ok();
        }
        text
    }

    /// The keys alone.
    ///
    /// # Errors
    /// Never for finite numbers.
    pub(crate) fn json(&self) -> Result<String> {
        let rounded = |value: f64| (value * 10_000.0).round() / 10_000.0;
        let keys: Map<String, Value> =
            self.keys.iter().map(|key| (key.name.to_string(), json!(rounded(key.value)))).collect();
        Ok(serde_json::to_string_pretty(&keys)?)
    }
}

/// Bytes as MiB, for a cell.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}

/// Words as a row.
pub(crate) fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_whether_it_is_good_enough() {
        let mut report = Report::default();
        report.key("cpu", 1.2, Target::AtMost(1.15)).unwrap();
        report.key("faster", 4.0, Target::AtLeast(4.0)).unwrap();
        assert!(report.text().contains("at most 1.15: MISSED"), "{}", report.text());
        assert!(report.text().contains("at least 4: met"));
        assert_eq!(serde_json::from_str::<Value>(&report.json().unwrap()).unwrap()["cpu"], 1.2);
    }

    #[test]
    fn what_was_not_measured_is_no_key() {
        assert!(Report::default().key("cpu", f64::NAN, Target::None).is_err());
        assert!(Report::default().key("cpu", f64::INFINITY, Target::None).is_err());
    }
}
