//! As much Markdown as the documents have that become manual pages.

use super::roff::{Page, inline};

/// A part of a document.
pub(super) enum Block<'d> {
    Heading(&'d str),
    Paragraph(String),
    Code(Vec<&'d str>),
    /// Each with what stands before it: its number, or a bullet as troff has it.
    Items(Vec<(String, String)>),
    Table {
        head: Vec<String>,
        rows: Vec<Vec<String>>,
    },
}

/// What stands below a heading, up to the next of its level.
pub(super) fn section<'d>(document: &'d str, heading: &str) -> &'d str {
    let start = format!("\n{heading}\n");
    assert!(document.contains(&start), "there is no {heading}");
    let (_, body) = document.split_once(&start).unwrap_or_default();
    let level = heading.split(' ').next().unwrap_or_default();
    let end = body.match_indices("\n#").map(|(at, _)| at).find(|at| {
        let marks = body[at + 1..].split(' ').next().unwrap_or_default();
        marks.len() <= level.len()
    });
    &body[..end.unwrap_or(body.len())]
}

/// The blocks of a text, in order.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut run = |goes_on: &dyn Fn(&str) -> bool| {
            let mut run = vec![line];
            while let Some(next) = lines.next_if(|next| goes_on(next)) {
                run.push(next);
            }
            run
        };
        blocks.push(if line.is_empty() {
            continue;
        } else if line.starts_with("```") {
            let mut code = run(&|next| next != "```");
            code.remove(0);
            lines.next();
            Block::Code(code)
        } else if line.starts_with("    ") {
            let mut code = run(&|next| next.is_empty() || next.starts_with("    "));
            while code.last().is_some_and(|line| line.is_empty()) {
                code.pop();
            }
            Block::Code(code.into_iter().map(|line| line.get(4..).unwrap_or_default()).collect())
        } else if let Some((_, title)) = line.split_once(' ').filter(|_| line.starts_with('#')) {
            Block::Heading(title)
        } else if line.starts_with('|') {
            let mut rows: Vec<_> =
                run(&|next| next.starts_with('|')).into_iter().map(cells).collect();
            let head = rows.remove(0);
            rows.remove(0);
            Block::Table { head, rows }
        } else if item(line).is_some() {
            let mut items: Vec<(String, String)> = Vec::new();
            for line in run(&|next| item(next).is_some() || next.starts_with("  ")) {
                match (item(line), items.last_mut()) {
                    (None, Some((_, last))) => *last = format!("{last} {}", line.trim()),
                    (begun, _) => items.extend(begun),
                }
            }
            Block::Items(items)
        } else {
            let text = run(&|next| {
                !next.is_empty() && !next.starts_with(['|', '#']) && item(next).is_none()
            });
            Block::Paragraph(text.join(" "))
        });
    }
    blocks
}

/// What an item of a list begins with, and its first words.
fn item(line: &str) -> Option<(String, String)> {
    let (mark, words) = line.split_once(' ')?;
    let number = mark.strip_suffix('.').and_then(|number| number.parse::<u32>().ok());
    let mark = match number {
        Some(number) => format!("{number}."),
        None if mark == "-" => "\\(bu".to_owned(),
        None => return None,
    };
    Some((mark, words.to_owned()))
}

/// Puts a text on a page; its headings become subsections.
pub(super) fn put(page: &mut Page, text: &str) {
    for block in blocks(text) {
        match block {
            Block::Heading(title) => page.subsection(title),
            Block::Paragraph(text) => page.paragraph(&text),
            Block::Code(lines) => page.example(lines),
            Block::Items(items) => {
                items.iter().for_each(|(mark, text)| page.item(mark, text));
            }
            Block::Table { head, rows } => put_table(page, &head, &rows),
        }
    }
}

/// Columns that say what they are about by their names alone.
const NAMED: [&str; 2] = ["default", "vars that it needs"];

/// The first column is what it is about. The others are said of it: that which is called `what`, or else the second one,
/// as it is, and the rest by their names.
fn put_table(page: &mut Page, head: &[String], rows: &[Vec<String>]) {
    if !page.follows_a_heading() && !["key", "when"].contains(&head[0].as_str()) {
        page.paragraph(&format!("**{}:**", capital(&head[0]).replace('`', "")));
    }
    let main = head.iter().position(|name| name == "what").unwrap_or(1);
    let named = |name: &str, cell: &str| sentence(&format!("{name}: {cell}"));
    for row in rows {
        let is_named = NAMED.contains(&head[main].as_str());
        let mut sentences =
            vec![if is_named { named(&head[main], &row[main]) } else { sentence(&row[main]) }];
        for (column, (cell, name)) in row.iter().zip(head).enumerate().skip(1) {
            if column != main && !cell.is_empty() {
                sentences.push(named(name, cell));
            }
        }
        sentences.retain(|text| !text.is_empty());
        page.item(&inline(&row[0]), &sentences.join(" "));
    }
}

/// With a capital letter, if it begins with a letter, and a full stop.
fn sentence(text: &str) -> String {
    let end = if text.is_empty() || text.ends_with(['.', '!', '?']) { "" } else { "." };
    capital(text) + end
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// The cells of a table's line; `\|` is no border.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|');
    let line = line.strip_suffix('|').unwrap_or(line).replace("\\|", "\0");
    line.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}
