//! The drawings: bars with their spread for every contest, and the latencies by quantile where there are some.

use std::path::Path;

use plotters::prelude::*;

use crate::Failure;
use crate::contest::{Contest, OURS};
use crate::stats::{figure, micros};

const WIDTH: u32 = 900;
const BAR: u32 = 44;
const MARGIN: u32 = 70;

const OUR_COLOUR: RGBColor = RGBColor(31, 119, 180);
const THEIR_COLOUR: RGBColor = RGBColor(174, 184, 194);

/// One bar for each contender: the median, with a line from the smallest to the largest sample.
pub(super) fn bars(folder: &Path, contest: &Contest) -> Result<(), Failure> {
    let rows: Vec<_> = contest.rows.iter().filter_map(|row| Some((row, row.spread(contest.main)?))).collect();
    let Some(most) = rows.iter().map(|(_, spread)| spread.max).reduce(f64::max) else { return Ok(()) };
    let file = folder.join(format!("iggy-{}.svg", contest.name));
    let root = SVGBackend::new(&file, (WIDTH, rows.len() as u32 * BAR + MARGIN + 40)).into_drawing_area();
    root.fill(&WHITE)?;
    // Bars from the top to the bottom: the first contender has the largest place.
    let places = rows.len() as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{} ({})", contest.title, contest.main), ("sans-serif", 18))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(30)
        .y_label_area_size(210)
        .build_cartesian_2d(0.0..most * 1.15, 0.0..places)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_label_formatter(&|value| figure(*value))
        .label_style(("sans-serif", 13))
        .light_line_style(WHITE)
        .draw()?;
    for ((row, spread), place) in rows.iter().zip(1..) {
        let bottom = places - f64::from(place);
        let (low, middle, high) = (bottom + 0.2, bottom + 0.5, bottom + 0.8);
        let colour = if row.contender.starts_with(OURS) { OUR_COLOUR } else { THEIR_COLOUR };
        chart.draw_series([Rectangle::new([(0.0, low), (spread.median, high)], colour.filled())])?;
        let line = BLACK.stroke_width(1);
        chart.draw_series([PathElement::new([(spread.min, middle), (spread.max, middle)], line)])?;
        for end in [spread.min, spread.max] {
            chart.draw_series([PathElement::new([(end, middle - 0.1), (end, middle + 0.1)], line)])?;
        }
        let value =
            Text::new(figure(spread.median), (spread.max + most * 0.01, middle + 0.15), ("sans-serif", 13));
        chart.draw_series([value])?;
        let y = chart.backend_coord(&(0.0, middle)).1;
        let style = TextStyle::from(("sans-serif", 13)).color(&BLACK);
        root.draw_text(&row.contender, &style, (12, y - 7))?;
    }
    root.present()?;
    Ok(())
}

/// The latencies of each contender by quantile, both axes in powers of ten: of how many events one takes that long.
pub(super) fn latencies(folder: &Path, contest: &Contest) -> Result<(), Failure> {
    let rows: Vec<_> = contest
        .rows
        .iter()
        .filter_map(|row| Some((row, row.latencies.as_ref().filter(|some| !some.is_empty())?)))
        .collect();
    let most = rows.iter().map(|(_, latencies)| micros(latencies, 1.0)).reduce(f64::max);
    let least = rows.iter().map(|(_, latencies)| micros(latencies, 0.0)).reduce(f64::min);
    let Some((least, most)) = least.zip(most) else { return Ok(()) };
    let file = folder.join(format!("iggy-{}-latencies.svg", contest.name));
    let root = SVGBackend::new(&file, (WIDTH, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{}: latency of one in so many", contest.title), ("sans-serif", 18))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d((1.0..10_000.0_f64).log_scale(), (least.max(1.0)..most * 1.2).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("one in")
        .y_desc("µs")
        .x_label_formatter(&|value| figure(*value))
        .y_label_formatter(&|value| figure(*value))
        .draw()?;
    for ((row, latencies), at) in rows.iter().zip(0..) {
        let colour = if at == 0 { OUR_COLOUR.to_rgba() } else { Palette99::pick(at).to_rgba() };
        let style = colour.stroke_width(2);
        // As far as there are samples: beyond, every quantile is the largest sample.
        let points = (0..=80)
            .map(|step| 10_f64.powf(f64::from(step) / 20.0))
            .take_while(|one_in| *one_in <= latencies.len() as f64)
            .map(|one_in| (one_in, micros(latencies, 1.0 - 1.0 / one_in).max(1.0)));
        let points: Vec<_> = points.collect();
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(&row.contender)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}
