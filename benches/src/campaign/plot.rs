//! A plot of a campaign as SVG: p99 and hit ratio over time, with its phases behind them.

use std::fmt::Write;

use crate::campaign::faults::Second;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const BETWEEN: f64 = 50.0;

/// The text of an SVG file.
pub fn svg(seconds: &[Second]) -> String {
    let slowest = seconds.iter().map(|second| second.p99_ms).fold(10.0, f64::max) * 1.1;
    let (mut svg, step) = (String::new(), WIDTH / seconds.len().max(1) as f64);
    let (full_width, full_height) = (LEFT + WIDTH + 20.0, TOP + 2.0 * HEIGHT + BETWEEN + 40.0);
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full_width} {full_height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    let mut from = 0;
    for phase in seconds.chunk_by(|one, next| one.number == next.number) {
        let (x, wide, name) = (LEFT + from as f64 * step, phase.len() as f64 * step, phase[0].phase.name());
        let fill = if phase[0].phase.is_trouble() { "#f8dcd6" } else { "#eef3ee" };
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" height=\"{:.1}\" fill=\"{fill}\" stroke=\"#fff\"/>\n\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" font-size=\"9\">{name}</text>",
            2.0 * HEIGHT + BETWEEN,
            x + wide / 2.0,
            TOP - 6.0,
        );
        from += phase.len();
    }
    let below = TOP + HEIGHT + BETWEEN;
    axis(&mut svg, TOP, "p99, ms", &[0.0, slowest / 2.0, slowest], slowest);
    axis(&mut svg, below, "hit ratio", &[0.0, 0.5, 1.0], 1.0);
    line(&mut svg, "#b3402a", seconds.iter().map(|second| Some(TOP + HEIGHT * (1.0 - second.p99_ms / slowest))), step);
    line(&mut svg, "#2a63b3", seconds.iter().map(|second| Some(below + HEIGHT * (1.0 - second.hits?))), step);
    for tick in (0..=seconds.len()).step_by(10) {
        let (x, y) = (LEFT + tick as f64 * step, below + HEIGHT + 16.0);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{tick} s</text>");
    }
    svg.push_str("</svg>\n");
    svg
}

fn axis(svg: &mut String, top: f64, name: &str, marks: &[f64], most: f64) {
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{name}</text>", top + 12.0);
    for mark in marks {
        let y = top + HEIGHT * (1.0 - mark / most);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ccc\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{mark:.1}</text>",
            LEFT + WIDTH,
            LEFT - 6.0,
            y + 4.0,
        );
    }
}

fn line(svg: &mut String, colour: &str, heights: impl Iterator<Item = Option<f64>>, step: f64) {
    let points = heights.enumerate().filter_map(|(second, y)| Some((LEFT + (second as f64 + 0.5) * step, y?)));
    let points: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
        points.join(" ")
    );
}
