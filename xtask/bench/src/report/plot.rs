//! Pictures as SVG: lines over the number of flows, and bars.

use std::fmt::Write as _;

/// Colours that can be told apart by who sees few (Okabe and Ito, Color Universal Design).
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999",
];

/// A line: its name, and its points as number of flows and figure.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(u32, f64)>,
}

/// A bar: its name, its figure, and what spans the figure's uncertainty.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 16.0;
const PLOT_HEIGHT: f64 = 280.0;
const LEGEND_LEFT: f64 = 600.0;

/// Lines over the number of flows, which has a logarithmic axis.
pub(super) fn lines(lines: &[Line<'_>], unit: &str) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = points().map(|point| point.1).fold(0.0, f64::max);
    let scale = Scale::up_to(most);
    let right = LEGEND_LEFT - 30.0;
    let last = points().map(|point| log(point.0)).fold(1.0, f64::max);
    let x = |flows: u32| LEFT + log(flows) / last * (right - LEFT);
    let y = |value: f64| TOP + PLOT_HEIGHT * (1.0 - value / scale.end);
    let mut svg = open(TOP + PLOT_HEIGHT + 44.0);
    for tick in scale.ticks() {
        let at = y(tick);
        let _ = write!(
            svg,
            "<line class='grid' x1='{LEFT}' x2='{right}' y1='{at:.1}' y2='{at:.1}'/>\
             <text class='end' x='{:.1}' y='{:.1}'>{tick}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for flows in super::flows_of(points().map(|point| point.0)) {
        let _ = write!(
            svg,
            "<text class='middle' x='{:.1}' y='{:.1}'>{}</text>",
            x(flows),
            TOP + PLOT_HEIGHT + 18.0,
            super::grouped(flows)
        );
    }
    let _ = write!(
        svg,
        "<text class='middle' x='{:.1}' y='{:.1}'>flows; vertical: {}</text>",
        f64::midpoint(LEFT, right),
        TOP + PLOT_HEIGHT + 36.0,
        escape(unit)
    );
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let dash = if index < COLOURS.len() {
            ""
        } else {
            " stroke-dasharray='5 3'"
        };
        let path: Vec<String> = line
            .points
            .iter()
            .map(|&(flows, value)| format!("{:.1},{:.1}", x(flows), y(value)))
            .collect();
        let _ = write!(
            svg,
            "<polyline fill='none' stroke='{colour}' stroke-width='2'{dash} points='{}'/>",
            path.join(" ")
        );
        for &(flows, value) in &line.points {
            let _ = write!(
                svg,
                "<circle cx='{:.1}' cy='{:.1}' r='3' fill='{colour}'><title>{}, {} flows: \
                 {value:.1}</title></circle>",
                x(flows),
                y(value),
                escape(line.name),
                super::grouped(flows)
            );
        }
        let at = TOP + 8.0 + 18.0 * index as f64;
        let _ = write!(
            svg,
            "<line x1='{LEGEND_LEFT}' x2='{}' y1='{at}' y2='{at}' stroke='{colour}' \
             stroke-width='3'{dash}/><text x='{}' y='{}'>{}</text>",
            LEGEND_LEFT + 22.0,
            LEGEND_LEFT + 28.0,
            at + 4.0,
            escape(line.name)
        );
    }
    svg + "</svg>"
}

/// A bar a line, with what spans its figure.
pub(super) fn bars(bars: &[Bar], unit: &str) -> String {
    const ROW: f64 = 24.0;
    const NAMES: f64 = 250.0;
    let most = bars.iter().map(|bar| bar.high).fold(0.0, f64::max);
    let scale = Scale::up_to(most);
    let height = ROW * bars.len() as f64;
    let right = WIDTH - 70.0;
    let x = |value: f64| NAMES + value / scale.end * (right - NAMES);
    let mut svg = open(TOP + height + 44.0);
    for tick in scale.ticks() {
        let at = x(tick);
        let _ = write!(
            svg,
            "<line class='grid' x1='{at:.1}' x2='{at:.1}' y1='{TOP}' y2='{:.1}'/>\
             <text class='middle' x='{at:.1}' y='{:.1}'>{tick}</text>",
            TOP + height,
            TOP + height + 18.0
        );
    }
    for (index, bar) in bars.iter().enumerate() {
        let top = TOP + ROW * index as f64 + 4.0;
        let middle = top + (ROW - 8.0) / 2.0;
        let _ = write!(
            svg,
            "<text class='end' x='{:.1}' y='{:.1}'>{}</text>\
             <rect x='{NAMES}' y='{top:.1}' width='{:.1}' height='{:.1}' fill='{}'/>\
             <line class='span' x1='{:.1}' x2='{:.1}' y1='{middle:.1}' y2='{middle:.1}'/>\
             <text x='{:.1}' y='{:.1}'>{:.1}</text>",
            NAMES - 8.0,
            middle + 4.0,
            escape(&bar.name),
            (x(bar.value) - NAMES).max(0.0),
            ROW - 8.0,
            COLOURS[0],
            x(bar.low),
            x(bar.high),
            x(bar.high) + 6.0,
            middle + 4.0,
            bar.value
        );
    }
    let _ = write!(
        svg,
        "<text class='middle' x='{:.1}' y='{:.1}'>{}</text></svg>",
        f64::midpoint(NAMES, right),
        TOP + height + 36.0,
        escape(unit)
    );
    svg
}

fn open(height: f64) -> String {
    format!("<svg viewBox='0 0 {WIDTH} {height}' role='img' xmlns='http://www.w3.org/2000/svg'>")
}

fn log(flows: u32) -> f64 {
    f64::from(flows.max(1)).log2()
}

/// An axis from zero.
struct Scale {
    step: f64,
    end: f64,
}

impl Scale {
    /// Up to at least `most`, in four to eight steps of 1, 2 or 5 times a power of ten.
    fn up_to(most: f64) -> Self {
        const STEPS: f64 = 4.0;
        let most = if most > 0.0 { most } else { 1.0 };
        let power = 10_f64.powf((most / STEPS).log10().floor());
        let step = [5.0, 2.0, 1.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| step * STEPS <= most)
            .unwrap_or(power);
        Self {
            step,
            end: (most / step).ceil() * step,
        }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = (self.end / self.step).round() as u32;
        // Rounded, or a tenth shows all its digits.
        (0..=count).map(|tick| (f64::from(tick) * self.step * 1e6).round() / 1e6)
    }
}

/// Text as it stands in a page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_beyond_the_figures_in_round_steps() {
        for (most, step, end) in [
            (93.0, 20.0, 100.0),
            (4.2, 1.0, 5.0),
            (1_360.0, 200.0, 1_400.0),
            (0.0, 0.2, 1.0),
            (100.0, 20.0, 100.0),
        ] {
            let scale = Scale::up_to(most);
            assert!((scale.step - step).abs() < 1e-9, "{most}: {}", scale.step);
            assert!((scale.end - end).abs() < 1e-9, "{most}: {}", scale.end);
            assert!(scale.ticks().count() <= 9);
        }
    }

    #[test]
    fn names_are_escaped() {
        let bar = Bar {
            name: "<a & b>".to_owned(),
            value: 1.0,
            low: 0.5,
            high: 2.0,
        };
        let svg = bars(&[bar], "ns");
        assert!(svg.contains("&lt;a &amp; b&gt;"), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
    }

    #[test]
    fn a_line_has_a_point_for_each_figure_within_the_picture() {
        let line = Line {
            name: "x",
            points: vec![(1, 30.0), (1_024, 31.0), (1 << 20, 40.0)],
        };
        let svg = lines(&[line], "ns");
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(
            svg.contains("cx='60.0'") && svg.contains("cx='570.0'"),
            "{svg}"
        );
        assert!(svg.contains("1,048,576"));
    }

    #[test]
    fn without_figures_there_is_an_empty_picture() {
        assert!(lines(&[], "ns").ends_with("</svg>"));
        assert!(bars(&[], "ns").ends_with("</svg>"));
    }
}
