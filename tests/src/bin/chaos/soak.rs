//! The soak: what the process uses over time, as a table, as CSV and as a plot.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use event_log_tests::chaos::{IggySite, Sample, Settings, soak};
use event_log_tests::iggy::{DiskServer, own_server};
use plotters::prelude::*;

use crate::args::Args;

/// How often a fault strikes.
const INTERVAL: Duration = Duration::from_secs(5);

/// The part of a soak that is for warming up: every kind of fault has had its turn.
const WARM_UP: f64 = 0.25;

/// How much more there may be in the last quarter than in the one after the warm-up: what chance may do to a median.
const TOLERANCE: f64 = 1.10;

/// What is watched: a name, a unit, and how to see it.
type Gauge = (&'static str, &'static str, fn(&Sample) -> f64);

const GAUGES: [Gauge; 3] = [
    ("memory", "MiB", |sample| sample.memory as f64 / f64::from(1 << 20)),
    ("open files", "", |sample| sample.files as f64),
    ("tasks", "", |sample| sample.tasks as f64),
];

/// Returns how many of the gauges have grown, and what else was wrong.
pub(crate) fn run(args: &Args, length: Duration) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let samples = runtime.block_on(async {
        // It appends more than a small disk holds, so that its disk is not filled.
        let server = Arc::new(DiskServer::on_usual_disk(own_server().await?));
        let settings = Settings::new(args.seed, u64::MAX, 0);
        let site = Arc::new(IggySite::new(server, &settings).await);
        let mut samples = Vec::new();
        let each = |sample: Sample| {
            if samples.len() % 30 == 0 {
                print(&sample);
            }
            samples.push(sample);
        };
        let bad = soak(site, &settings, length, INTERVAL, each).await;
        Some((samples, bad))
    });
    let (samples, bad) = samples.ok_or("not run: there is no iggy-server")?;
    fs::create_dir_all(&args.folder).map_err(|error| format!("{}: {error}", args.folder.display()))?;
    let (table, picture) = (args.folder.join("soak.csv"), args.folder.join("soak.svg"));
    fs::write(&table, csv(&samples)).map_err(|error| format!("{}: {error}", table.display()))?;
    plot(&samples, &picture).map_err(|error| format!("{}: {error}", picture.display()))?;
    println!("{} and {}", table.display(), picture.display());
    for entry in bad.iter().take(10) {
        println!("  {entry:?}");
    }
    println!("calls that got stuck, or failed for good: {}", bad.len());
    Ok(judge(&samples) + bad.len() as u64)
}

fn print(sample: &Sample) {
    let Sample { second, memory, files, tasks, offered, struck } = sample;
    println!(
        "{second:>5.0} s  {:>5} MiB  {files:>4} files  {tasks:>4} tasks  {offered:>10} events  {struck:>4} faults",
        memory >> 20
    );
}

fn csv(samples: &[Sample]) -> String {
    let mut text = "second,memory_bytes,files,tasks,events,faults\n".to_owned();
    for Sample { second, memory, files, tasks, offered, struck } in samples {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{second:.1},{memory},{files},{tasks},{offered},{struck}");
    }
    text
}

/// Compares the quarter after the warm-up with the last one.
fn judge(samples: &[Sample]) -> u64 {
    let quarter = (samples.len() as f64 * WARM_UP) as usize;
    let mut grown = 0;
    println!("{:<12} {:>12} {:>12}   medians of the second and the last quarter", "", "then", "at the end");
    for (name, unit, value) in GAUGES {
        let median = |part: &[Sample]| {
            let mut values: Vec<f64> = part.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (then, end) =
            (median(&samples[quarter..2 * quarter]), median(&samples[samples.len() - quarter..]));
        // Not so large that it is true of no samples at all.
        let is_within = end <= then * TOLERANCE;
        grown += u64::from(!is_within);
        println!("{name:<12} {then:>12.1} {end:>12.1} {unit:<4} {}", if is_within { "" } else { "GROWN" });
    }
    grown
}

fn plot(samples: &[Sample], file: &Path) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(file, (900, 720)).into_drawing_area();
    area.fill(&WHITE)?;
    let end = samples.last().map_or(1.0, |sample| sample.second);
    for ((name, unit, value), part) in GAUGES.into_iter().zip(area.split_evenly((3, 1))) {
        let most = samples.iter().map(value).fold(1.0, f64::max) * 1.1;
        let mut chart = ChartBuilder::on(&part)
            .caption(format!("{name} {unit}"), ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..end, 0.0..most)?;
        chart.configure_mesh().x_desc("seconds").draw()?;
        chart.draw_series(LineSeries::new(samples.iter().map(|it| (it.second, value(it))), &BLUE))?;
    }
    area.present()?;
    Ok(())
}
