//! Bars as SVG: CPU time a packet, with a line from the smallest to the largest run.

use crate::report::{Rows, spread};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
const BAR: f64 = 20.0;

/// One panel for each scene.
pub(crate) fn bars(panels: &[(&str, Rows)]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for (title, rows) in panels {
        let longest = rows.iter().map(|(_, runs)| spread(runs.iter().map(|r| r.us).collect()).2);
        let longest = longest.fold(1.0, f64::max);
        let scale = (WIDTH - LEFT - 110.0) / longest;
        y += 18.0;
        body += &format!("<text x=\"10\" y=\"{y:.0}\" class=\"t\">{title}</text>\n");
        y += 8.0;
        for (who, runs) in rows {
            let (us, low, high) = spread(runs.iter().map(|run| run.us).collect());
            let ours = if who.starts_with("edgeweir") { "o" } else { "b" };
            let (end, from, to) = (LEFT + us * scale, LEFT + low * scale, LEFT + high * scale);
            let middle = y + BAR / 2.0 - 2.0;
            body += &format!(
                "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{who}</text>\
                 <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" class=\"{ours}\"/>\
                 <path d=\"M{from:.1} {middle:.1}H{to:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{us:.2} us</text>\n",
                LEFT - 8.0,
                middle + 4.0,
                end - LEFT,
                BAR - 4.0,
                end.max(to) + 6.0,
                middle + 4.0,
            );
            y += BAR;
        }
        y += 14.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<style>.t{{font-weight:bold}}.o{{fill:#1f77b4}}\
         .b{{fill:#bbb}}path{{stroke:#000;stroke-width:1.5}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{y:.0}\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}
