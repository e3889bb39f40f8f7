//! Figures as pictures: SVG, which a page can show.

use std::path::Path;

use anyhow::Result;
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::ranged1d::{IntoSegmentedCoord as _, SegmentValue},
    drawing::IntoDrawingArea as _,
    element::{Circle, PathElement, Rectangle, Text},
    prelude::{IntoLogRange as _, RGBColor, SVGBackend},
    series::LineSeries,
    style::{BLACK, Color as _, IntoFont as _, WHITE},
};

const SIZE: (u32, u32) = (820, 420);
/// Told apart by those who see no red or no green, too (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];
const FONT: &str = "sans-serif";

/// Something measured at several sizes.
pub struct Line {
    /// What.
    pub name: &'static str,
    /// Size, and nanoseconds per packet.
    pub points: Vec<(usize, f64)>,
}

/// A file's name after what is in it: "ipv4-prefixes-allow.svg".
#[must_use]
pub fn file_name(title: &str) -> String {
    let words = title.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-") + ".svg"
}

/// A bar for each value, the first at the top; those whose names begin with enforcer stand out.
pub fn bars(path: &Path, title: &str, unit: &str, values: &[(&str, f64)]) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(250)
        .build_cartesian_2d(0.0..most, (0..values.len().saturating_sub(1)).into_segmented())?;
    // The first at the top.
    let name = |row: usize| values.len().checked_sub(row + 1).and_then(|index| values.get(index));
    chart
        .configure_mesh()
        .disable_y_mesh()
        .max_light_lines(1)
        .x_desc(unit)
        .y_labels(values.len())
        .y_label_formatter(&|row| match row {
            SegmentValue::CenterOf(row) => name(*row).map_or_else(String::new, |(name, _)| (*name).to_owned()),
            _ => String::new(),
        })
        .label_style((FONT, 13))
        .draw()?;
    for row in 0..values.len() {
        let Some((name, value)) = name(row) else { continue };
        let colour = COLOURS[usize::from(!name.starts_with("enforcer"))];
        let ends = [(0.0, SegmentValue::Exact(row)), (*value, SegmentValue::Exact(row + 1))];
        let mut bar = Rectangle::new(ends, colour.filled());
        bar.set_margin(5, 5, 0, 0);
        chart.draw_series([bar])?;
        let at = (*value + most * 0.01, SegmentValue::CenterOf(row));
        chart.draw_series([Text::new(format!("{value:.2}"), at, (FONT, 13).into_font())])?;
    }
    Ok(area.present()?)
}

/// Nanoseconds per packet by size, a line for each structure.
pub fn lines(path: &Path, title: &str, lines: &[Line]) -> Result<()> {
    let lines = lines.iter().filter(|line| !line.points.is_empty());
    let all = || lines.clone().flat_map(|line| &line.points);
    let sizes = all().map(|(size, _)| *size);
    let (least, most) = (sizes.clone().min().unwrap_or(1), sizes.max().unwrap_or(1));
    let highest = all().map(|(_, nanoseconds)| *nanoseconds).fold(0.0, f64::max);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 18))
        .margin(12)
        // The last size's label is centred on the edge.
        .margin_right(40)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((least..most + 1).log_scale(), 0.0..highest * 1.1)?;
    chart.configure_mesh().x_desc("size").y_desc("nanoseconds per packet").label_style((FONT, 13)).draw()?;
    for (Line { name, points }, colour) in lines.clone().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .label_font((FONT, 13))
        .draw()?;
    Ok(area.present()?)
}
