//! Shows how far a pull is: a line for each layer on a terminal, plain lines elsewhere, nothing where asked.
//!
//! Everything goes to standard error. Only [`PullEvent`]s come in, and any of them may be missing.

mod bars;

use crate::output;
use bars::Bars;
use clap::ValueEnum;
use gateway_api::{LayerState, PullEvent, Status};
use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Bars on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// One line at a time, for logs.
    Plain,
    /// Nothing.
    None,
}

/// A display of one pull.
#[derive(Debug)]
pub struct Progress {
    program: &'static str,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Silent,
    Plain(Plain),
    Bars(Box<Bars>),
}

impl Progress {
    /// A display for `program`, which names itself in plain lines.
    pub fn new(mode: Mode, program: &'static str) -> Self {
        let display = match mode {
            Mode::None => Display::Silent,
            Mode::Auto if std::io::stderr().is_terminal() => Display::Bars(Box::default()),
            Mode::Auto | Mode::Plain => Display::Plain(Plain::default()),
        };
        Self { program, display }
    }

    /// Shows what `event` says, as far as it is new.
    pub fn show(&mut self, event: &PullEvent) {
        match &mut self.display {
            Display::Silent => {}
            Display::Bars(bars) => bars.show(event),
            Display::Plain(plain) => {
                if let Some(line) = plain.line(event, Instant::now()) {
                    output::progress(self.program, &line);
                }
            }
        }
    }

    /// Shows how much of a file was read or sent, which is no event of the gateway's.
    pub fn transfer(&mut self, doing: &'static str, done: u64, total: u64) {
        match &mut self.display {
            Display::Silent => {}
            Display::Bars(bars) => bars.transfer(doing, done, total),
            Display::Plain(plain) => {
                if let Some(line) = plain.transfer(doing, done, total, Instant::now()) {
                    output::progress(self.program, &line);
                }
            }
        }
    }

    /// Tells something that is no progress, such as a connection that broke.
    pub fn note(&mut self, text: &str) {
        match &self.display {
            Display::Silent => {}
            Display::Bars(bars) => bars.suspend(|| output::note(self.program, text)),
            Display::Plain(_) => output::note(self.program, text),
        }
    }

    /// Takes the display away; what follows on the terminal starts on a clean line.
    pub fn finish(&mut self) {
        if let Display::Bars(bars) = &self.display {
            bars.clear();
        }
    }
}

/// What a plain line last said.
#[derive(Debug, Default)]
struct Plain {
    said: Option<Said>,
    /// What was last told of a transfer: what is being done, when, and how far it was in percent.
    transfer: Option<(&'static str, Instant, u64)>,
}

#[derive(Clone, Debug)]
struct Said {
    at: Instant,
    status: Status,
    layers_done: usize,
    percent: u64,
    text: String,
}

impl Plain {
    /// The line that `event` is worth at `now`: one for a new state, and otherwise at most one a second where a layer
    /// was finished or the whole has come on a tenth, or something moved at all in ten seconds.
    /// The end of a pull is not for progress to tell.
    fn line(&mut self, event: &PullEvent, now: Instant) -> Option<String> {
        if !event.status.is_running() {
            return None;
        }
        let totals = Totals::of(event);
        let percent = totals.percent();
        let text = describe(event, &totals);
        if let Some(said) = &self.said
            && said.status == event.status
        {
            let passed = now.saturating_duration_since(said.at);
            let moved = totals.layers_done > said.layers_done || percent >= said.percent + 10;
            let worth = moved || passed >= Duration::from_secs(10);
            if passed < Duration::from_secs(1) || !worth || said.text == text {
                return None;
            }
        }
        self.said = Some(Said {
            at: now,
            status: event.status,
            layers_done: totals.layers_done,
            percent,
            text: text.clone(),
        });
        Some(text)
    }
}

/// How many layers of an image did not have to be downloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reused {
    /// Those taken from images that the gateway had.
    pub layers: usize,
    /// All layers of the image.
    pub of: usize,
    /// The sizes of those taken, as the registry has them.
    pub bytes: u64,
}

impl Reused {
    /// What an event says of it.
    pub fn of(event: &PullEvent) -> Self {
        let reused = event.layers.iter().filter(|layer| layer.state == LayerState::Reused);
        reused.fold(Self { of: event.layers.len(), ..Self::default() }, |sum, layer| Self {
            layers: sum.layers + 1,
            bytes: sum.bytes.saturating_add(layer.size),
            ..sum
        })
    }
}

impl fmt::Display for Reused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} layers reused", self.layers, self.of)
    }
}

impl Plain {
    /// The line that a transfer is worth at `now`: one for a new one, then as for pulls.
    fn transfer(
        &mut self,
        doing: &'static str,
        done: u64,
        total: u64,
        now: Instant,
    ) -> Option<String> {
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
        if let Some((said, at, before)) = self.transfer
            && said == doing
        {
            let passed = now.saturating_duration_since(at);
            let worth = percent >= before + 10 || passed >= Duration::from_secs(10);
            if passed < Duration::from_secs(1) || !worth {
                return None;
            }
        }
        self.transfer = Some((doing, now, percent));
        Some(transfer_line(doing, done, total))
    }
}

/// `uploading: 120 MiB of 512 MiB`.
fn transfer_line(doing: &str, done: u64, total: u64) -> String {
    format!("{doing}: {} of {}", output::bytes(done), output::bytes(total))
}

/// The layers of an event taken together; bytes are those that are downloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    layers_done: usize,
    bytes: u64,
    bytes_done: u64,
    reused: Reused,
}

impl Totals {
    fn of(event: &PullEvent) -> Self {
        let finished = event.layers.iter().filter(|layer| layer.state.is_finished());
        let sum =
            Self { layers_done: finished.count(), reused: Reused::of(event), ..Self::default() };
        let read = event.layers.iter().filter(|layer| layer.state != LayerState::Reused);
        read.fold(sum, |sum, layer| Self {
            bytes: sum.bytes.saturating_add(layer.size),
            bytes_done: sum.bytes_done.saturating_add(layer.done.min(layer.size)),
            ..sum
        })
    }

    fn percent(&self) -> u64 {
        self.bytes_done.saturating_mul(100).checked_div(self.bytes).unwrap_or(0)
    }
}

/// `pulling: 2 of 5 layers, 120 MiB of 512 MiB, 1 of 5 layers reused`.
fn describe(event: &PullEvent, totals: &Totals) -> String {
    let word = word(event.status);
    let reused = totals.reused;
    match event.status {
        Status::Pulling | Status::Conversion if reused.of > 0 && reused.layers == reused.of => {
            format!("{word}: {reused}")
        }
        Status::Pulling | Status::Conversion if reused.of > 0 => {
            let (done, all) = (output::bytes(totals.bytes_done), output::bytes(totals.bytes));
            let text =
                format!("{word}: {} of {} layers, {done} of {all}", totals.layers_done, reused.of);
            if reused.layers == 0 { text } else { format!("{text}, {reused}") }
        }
        _ if event.message.is_empty() || event.message == word => word.to_string(),
        _ => format!("{word}: {}", event.message),
    }
}

/// Shifter's word for a state, as people say it.
fn word(status: Status) -> &'static str {
    match status {
        Status::Init | Status::Pending => "waiting",
        Status::Pulling => "pulling",
        Status::Conversion => "converting",
        Status::Examination => "checking",
        Status::Transfer => "publishing",
        Status::Ready => "ready",
        Status::Failure => "failed",
        Status::Expiring | Status::Expired | Status::Missing => "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_api::LayerProgress;
    use image_ref::Digest;

    fn event(status: Status, done: &[u64]) -> PullEvent {
        let layer = |(index, done): (usize, &u64)| LayerProgress {
            digest: Digest::from_bytes([index as u8; 32]),
            size: 1 << 20,
            done: *done,
            state: if *done == 1 << 20 { LayerState::Done } else { LayerState::Pulling },
        };
        PullEvent {
            status,
            message: String::new(),
            digest: None,
            layers: done.iter().enumerate().map(layer).collect(),
            written: 0,
            seconds: 0.0,
            failure: None,
        }
    }

    #[test]
    fn a_new_state_is_told_at_once_and_bytes_at_most_once_a_second() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut plain = Plain::default();
        assert_eq!(plain.line(&event(Status::Init, &[]), at(0)).as_deref(), Some("waiting"));
        assert_eq!(
            plain.line(&event(Status::Pulling, &[0, 0]), at(1)).as_deref(),
            Some("pulling: 0 of 2 layers, 0 B of 2.0 MiB")
        );
        assert_eq!(plain.line(&event(Status::Pulling, &[1 << 20, 0]), at(500)), None);
        assert_eq!(
            plain.line(&event(Status::Pulling, &[1 << 20, 0]), at(1100)).as_deref(),
            Some("pulling: 1 of 2 layers, 1.0 MiB of 2.0 MiB")
        );
        let mut publishing = event(Status::Transfer, &[1 << 20, 1 << 20]);
        publishing.message = "publishing".into();
        assert_eq!(plain.line(&publishing, at(1101)).as_deref(), Some("publishing"));
        assert_eq!(plain.line(&event(Status::Ready, &[]), at(5000)), None);
    }

    #[test]
    fn a_slow_pull_shows_life_and_a_stuck_one_does_not_fill_the_log() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut plain = Plain::default();
        assert!(plain.line(&event(Status::Pulling, &[0]), at(0)).is_some());
        assert!(plain.line(&event(Status::Pulling, &[4096]), at(5)).is_none());
        assert!(plain.line(&event(Status::Pulling, &[4096]), at(11)).is_some());
        assert!(plain.line(&event(Status::Pulling, &[4096]), at(30)).is_none());
    }

    #[test]
    fn layers_that_are_reused_are_said_to_be_and_count_as_no_download() {
        let mut event = event(Status::Pulling, &[1 << 20, 1 << 20, 4096]);
        event.layers[0].state = LayerState::Reused;
        let text = describe(&event, &Totals::of(&event));
        assert_eq!(text, "pulling: 2 of 3 layers, 1.0 MiB of 2.0 MiB, 1 of 3 layers reused");
        let mut bars = Bars::default();
        bars.show(&event);
        event.status = Status::Conversion;
        event.layers.iter_mut().for_each(|layer| layer.state = LayerState::Reused);
        let text = describe(&event, &Totals::of(&event));
        assert_eq!(text, "converting: 3 of 3 layers reused");
        assert_eq!(Reused::of(&event), Reused { layers: 3, of: 3, bytes: 3 << 20 });
        bars.show(&event);
    }

    #[test]
    fn a_transfer_is_told_when_it_begins_and_then_now_and_then() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut plain = Plain::default();
        let mut line = |doing, done, millis| plain.transfer(doing, done, 1 << 20, at(millis));
        assert_eq!(line("reading", 0, 0).as_deref(), Some("reading: 0 B of 1.0 MiB"));
        assert_eq!(line("reading", 1 << 20, 900), None);
        assert!(line("uploading", 0, 901).is_some());
        assert_eq!(line("uploading", 1, 2000), None);
        assert!(line("uploading", 1 << 19, 2001).is_some());
        assert!(plain.transfer("empty", 0, 0, at(0)).is_some());
    }

    #[test]
    fn absurd_numbers_neither_overflow_nor_divide_by_zero() {
        let mut absurd = event(Status::Pulling, &[0, 0]);
        for layer in &mut absurd.layers {
            layer.size = u64::MAX;
            layer.done = u64::MAX;
        }
        assert_eq!(Totals::of(&absurd).bytes, u64::MAX);
        assert_eq!(Totals::default().percent(), 0);
        let mut bars = Bars::default();
        bars.show(&absurd);
        absurd.layers.clear();
        bars.show(&absurd);
    }
}
