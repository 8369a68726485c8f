//! What a run prints: the same numbers as text or as one line of JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::{closed_loop::Tally, histogram::Histogram, server::Usage};

/// The numbers of a run, in the order in which they are printed.
#[derive(Debug, Default)]
pub(crate) struct Report {
    numbers: Vec<(String, Value)>,
}

impl Report {
    /// Adds a number or a text; the unit is the last word of its name.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.numbers.push((name.to_owned(), value.into()));
    }

    /// Adds the median of a rate, and what it was in each round.
    pub(crate) fn add_rates(&mut self, name: &str, rates: &[f64]) {
        self.add(name, round(median(rates)));
        let each: Vec<Value> = rates.iter().map(|rate| round(*rate)).collect();
        self.add(&format!("{name}_rounds"), each);
    }

    /// Adds p50, p99 and max, if anything was counted.
    pub(crate) fn add_times(&mut self, name: &str, histogram: &Histogram) {
        if histogram.count() > 0 {
            let times = json!({
                "p50_us": micros(histogram.per_mille(500)),
                "p99_us": micros(histogram.per_mille(990)),
                "max_us": micros(histogram.max()),
            });
            self.add(name, times);
        }
    }

    /// Adds all that the clients saw.
    pub(crate) fn add_tally(&mut self, tally: &Tally) {
        self.add_times("unit", &tally.unit);
        self.add_times("acquire", &tally.acquire);
        self.add_times("release", &tally.release);
        self.add_times("renew", &tally.renew);
        self.add_times("hand_off", &tally.hand_off);
    }

    /// Adds what the server uses.
    pub(crate) fn add_usage(&mut self, usage: Usage) {
        if usage.threads > 0 {
            self.add("resident_bytes", usage.resident_bytes);
            self.add("threads", usage.threads);
        }
    }

    /// The text, or the line.
    pub(crate) fn text(&self, json: bool) -> String {
        if json {
            let numbers = self.numbers.iter().cloned().collect();
            return format!("{}\n", Value::Object(numbers));
        }
        let mut text = String::new();
        for (name, value) in &self.numbers {
            let value = match value {
                Value::Object(times) => {
                    let of = |name| times.get(name).map(Value::to_string).unwrap_or_default();
                    format!("p50 {}  p99 {}  max {} µs", of("p50_us"), of("p99_us"), of("max_us"))
                }
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            text.push_str(&format!("{name:<30} {value}\n"));
        }
        text
    }
}

/// The middle one; of an even number, the upper of both.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// In three digits or whole: more would only be noise.
pub(crate) fn round(value: f64) -> Value {
    json!(if value < 100.0 { (value * 100.0).round() / 100.0 } else { value.round() })
}

fn micros(duration: Duration) -> Value {
    round(duration.as_secs_f64() * 1e6)
}
