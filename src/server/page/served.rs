//! The page as it is served, joined from its parts when the program is built.

/// The parts as they are written.
const PARTS: &str = concat!(
    include_str!("head.html"),
    "<style>\n",
    include_str!("page.css"),
    "</style>\n",
    include_str!("body.html"),
    "<script>\n",
    include_str!("words.js"),
    include_str!("grid.js"),
    include_str!("pair.js"),
    include_str!("history.js"),
    include_str!("refresh.js"),
    "</script>\n",
);

/// All lines but comments, without their indentation, and the style without spaces that mean nothing.
pub(crate) fn page() -> String {
    let lines = PARTS.lines().map(str::trim_start);
    let served = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    let page: String = served.flat_map(|line| [line, "\n"]).collect();
    let (head, rest) = page.split_once("<style>").unwrap_or_default();
    let (style, body) = rest.split_once("</style>").unwrap_or_default();
    let style = style.replace(": ", ":").replace(" {", "{").replace(", ", ",");
    [head, "<style>", &style, "</style>", body].concat()
}
