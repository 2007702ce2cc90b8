//! The table and the picture, from the medians that criterion has just written.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use plotters::prelude::*;

pub const GROUP: &str = "calls";

/// The measure behind each line of the table, and its bar, if it has one.
const ROWS: &[&str] = &[
    "floor",
    "with_netns",
    "with_netns, asleep",
    "with_netns, by name",
    "with_netns, nested",
    "with_netns, 2 callers",
    "with_netns, 8 callers",
    "with_netns, 64 callers",
    "with_netns, 10 namespaces",
    "with_netns, 10000 namespaces",
    "Call::outcome",
    "Call::fresh",
    "Worker::run",
    "bare setns loop, a namespace",
    "walk, a namespace",
    "par_walk, a namespace",
    "netns-rs run",
    "nlink execute_in",
    "thread::scope by hand",
    "nsenter … true",
    "ip netns exec … true",
];

/// The comparisons for which the project has bars: one measure, another, and the bar.
const BARS: &[(&str, &str, f64)] = &[
    ("with_netns", "floor", 1.6),
    ("with_netns", "netns-rs run", 0.5),
    ("with_netns", "thread::scope by hand", 0.08),
    ("with_netns", "ip netns exec … true", 1.0 / 400.0),
    ("with_netns, asleep", "thread::scope by hand", 0.6),
    ("Worker::run", "floor", 0.1),
    ("walk, a namespace", "bare setns loop, a namespace", 1.15),
    ("with_netns, 10000 namespaces", "with_netns, 10 namespaces", 1.2),
];

/// Medians in nanoseconds, in the order of [`ROWS`]. A row that was not measured in this or an earlier run is left out.
fn medians() -> Vec<(&'static str, f64)> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here().join("target"), PathBuf::from);
    let median = |row: &str| {
        let directory: String = row.chars().map(|c| if "?\"/\\*<>:|^".contains(c) { '_' } else { c }).collect();
        let file = target.join("criterion").join(GROUP).join(directory).join("new/estimates.json");
        let estimates: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
        estimates["median"]["point_estimate"].as_f64()
    };
    ROWS.iter().filter_map(|row| Some((*row, median(row)?))).collect()
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn write() {
    let medians = medians();
    let median = |row: &str| medians.iter().find(|(name, _)| *name == row).map(|(_, median)| *median);
    let Some(floor) = median("floor") else { return };

    let mut table = String::from("| measure | median | × floor |\n|---|---:|---:|\n");
    for (row, nanos) in &medians {
        let _ = writeln!(table, "| `{row}` | {} | {:.2} |", human(*nanos), nanos / floor);
    }
    table.push_str("\n| ratio | measured | bar |\n|---|---:|---:|\n");
    for (one, other, bar) in BARS {
        if let (Some(a), Some(b)) = (median(one), median(other)) {
            let _ = writeln!(table, "| `{one}` : `{other}` | {:.4} | {bar:.4} |", a / b);
        }
    }
    println!("\n{table}");
    let results = here().join("results");
    fs::create_dir_all(&results).expect("a folder for the results");
    fs::write(results.join("calls.md"), &table).expect("the table");
    draw(&medians, &results.join("calls.svg")).expect("the picture");
}

fn human(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.2} µs", n / 1e3),
        n => format!("{:.2} ms", n / 1e6),
    }
}

/// Draws horizontal bars on a logarithmic axis.
fn draw(medians: &[(&str, f64)], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let height = 60 + 26 * u32::try_from(medians.len())?;
    let area = SVGBackend::new(file, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let rows = i32::try_from(medians.len())?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .margin_right(90)
        .x_label_area_size(35)
        .y_label_area_size(220)
        .build_cartesian_2d((0.1f64..10_000.0).log_scale(), (0..rows - 1).into_segmented())?;
    let name = |row: &SegmentValue<i32>| match row {
        SegmentValue::CenterOf(row) if *row < rows => {
            medians[usize::try_from(rows - 1 - row).unwrap_or(0)].0.to_owned()
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(medians.len())
        .y_label_formatter(&name)
        .x_label_formatter(&|micros| format!("{micros} µs"))
        .label_style(("sans-serif", 13))
        .draw()?;
    for (at, (row, nanos)) in medians.iter().enumerate() {
        let (at, micros) = (rows - 1 - i32::try_from(at)?, nanos / 1e3);
        let ours = ["with_netns", "Call", "Worker", "walk", "par_walk"].iter().any(|name| row.starts_with(name));
        let colour = if ours { RGBColor(33, 113, 181) } else { RGBColor(150, 150, 150) };
        let mut bar = Rectangle::new(
            [(0.1, SegmentValue::Exact(at)), (micros.max(0.1), SegmentValue::Exact(at + 1))],
            colour.filled(),
        );
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        let label =
            Text::new(format!(" {}", human(*nanos)), (micros.max(0.1), SegmentValue::CenterOf(at)), ("sans-serif", 13));
        chart.draw_series([label])?;
    }
    area.present()?;
    Ok(())
}
