//! The display on a terminal: a bar for each layer on its way, and one line for the whole.
//!
//! A layer's line appears when the layer starts. Of images with many layers only those on their way are shown, so
//! that the display stays shorter than the terminal.

use super::Totals;
use crate::output;
use gateway_api::{LayerProgress, LayerState, PullEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::time::Duration;

/// An image with more layers shows only those on their way.
const KEPT_LAYERS: usize = 16;

/// Bars on standard error.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    layers: BTreeMap<usize, ProgressBar>,
}

impl Default for Bars {
    fn default() -> Self {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new_spinner());
        total.set_style(style("{spinner} {wide_msg}"));
        total.enable_steady_tick(Duration::from_millis(120));
        Self { all, total, layers: BTreeMap::new() }
    }
}

impl Bars {
    /// Brings every bar up to `event`.
    pub(super) fn show(&mut self, event: &PullEvent) {
        let keep_done = event.layers.len() <= KEPT_LAYERS;
        for (index, layer) in event.layers.iter().enumerate() {
            let is_done = layer.state.is_finished();
            if layer.state == LayerState::Waiting {
                continue;
            }
            if is_done && !keep_done {
                if let Some(bar) = self.layers.remove(&index) {
                    bar.finish_and_clear();
                }
                continue;
            }
            let bar = self.layer_bar(index, layer);
            bar.set_position(layer.done.min(layer.size));
            if is_done && !bar.is_finished() {
                if layer.state == LayerState::Reused {
                    bar.set_style(style("  {prefix} reused {binary_total_bytes:>35}"));
                }
                bar.finish();
            }
        }
        self.total.set_message(whole(event));
    }

    /// Shows a transfer on the line of the whole.
    pub(super) fn transfer(&self, doing: &str, done: u64, total: u64) {
        self.total.set_message(super::transfer_line(doing, done, total));
    }

    /// The bar of a layer, made where there is none; bars stand in the order of the layers.
    fn layer_bar(&mut self, index: usize, layer: &LayerProgress) -> &ProgressBar {
        let before = self.layers.range(index + 1..).next().map(|(_, bar)| bar.clone());
        self.layers.entry(index).or_insert_with(|| {
            let bar = ProgressBar::new(layer.size);
            let bar = match before {
                Some(next) => self.all.insert_before(&next, bar),
                None => self.all.insert_before(&self.total, bar),
            };
            bar.set_style(style(
                "  {prefix} [{bar:30}] {binary_bytes:>10} of {binary_total_bytes}",
            ));
            bar.set_prefix(layer.digest.hex().to_string().chars().take(12).collect::<String>());
            bar
        })
    }

    /// Runs `tell` while no bar is in its way.
    pub(super) fn suspend(&self, tell: impl FnOnce()) {
        self.all.suspend(tell);
    }

    /// Removes the bars from the terminal.
    pub(super) fn clear(&self) {
        self.total.finish_and_clear();
        for bar in self.layers.values() {
            bar.finish_and_clear();
        }
        // A terminal that went away needs no clearing.
        let _ = self.all.clear();
    }
}

/// `pulling: 2 of 5 layers, 120 MiB of 512 MiB, 24.3 MiB/s`.
fn whole(event: &PullEvent) -> String {
    let totals = Totals::of(event);
    let mut text = super::describe(event, &totals);
    if totals.bytes_done > 0 && totals.bytes_done < totals.bytes && event.seconds > 0.5 {
        let rate = totals.bytes_done as f64 / event.seconds;
        text.push_str(&format!(", {}/s", output::bytes(rate as u64)));
    }
    output::printable(&text)
}

fn style(template: &'static str) -> ProgressStyle {
    // The templates are constants; one that indicatif refused would show as its own default.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
