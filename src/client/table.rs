//! Tables: aligned columns with two spaces or more between them, and a line of titles.
//!
//! In a file or pipe a table is whole: every column, every letter. On a terminal that is too narrow for it,
//! columns in which nothing stands out go first, then those that are least needed, then long texts lose
//! their middle; the claim's id never does, for people copy it.

use super::terminal::{Terminal, Tone};

/// Letters that are enough of a long text, so that no column has to go for more of them.
const SHRUNK_WELL: usize = 24;

/// What a column may lose on a narrow terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Nothing.
    Keep,
    /// The column: gladly if every cell is this text, and as the last resort.
    DropIfAll(&'static str),
    /// The column.
    Drop,
    /// Letters, down to so many.
    Shrink(usize),
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    right: bool,
    fit: Fit,
    ages: bool,
}

impl Column {
    /// A column of texts.
    pub(super) const fn text(title: &'static str, fit: Fit) -> Column {
        Column { title, right: false, fit, ages: false }
    }

    /// A column of numbers.
    pub(super) const fn number(title: &'static str, fit: Fit) -> Column {
        Column { title, right: true, fit, ages: false }
    }

    /// A column of lengths of time, which change by themselves.
    pub(super) const fn time(title: &'static str, fit: Fit) -> Column {
        Column { title, right: true, fit, ages: true }
    }
}

/// A cell: what stands in it, and how it is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text; an empty one is shown as a dash, so that columns can be counted.
    pub(super) fn new(text: impl Into<String>) -> Cell {
        let text = text.into();
        Cell { text: if text.is_empty() { "-".to_owned() } else { text }, tone: Tone::Plain }
    }

    /// Nothing at all, before the cells that are set in.
    pub(super) fn indent() -> Cell {
        Cell::default()
    }

    /// With this tone, if `applies`.
    pub(super) fn toned(self, tone: Tone, applies: bool) -> Cell {
        if applies { Cell { tone, ..self } } else { self }
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Its columns.
    pub(super) columns: &'static [Column],
    /// Its rows, each with a cell for each column.
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// What it says, without what changes by itself: to tell a change from the passing of time.
    pub(super) fn fingerprint(&self) -> String {
        let lasting = |row: &Vec<Cell>| -> Vec<String> {
            let cells = row.iter().zip(self.columns).filter(|(_, column)| !column.ages);
            cells.map(|(cell, _)| cell.text.clone()).collect()
        };
        self.rows.iter().map(|row| lasting(row).join("\t") + "\n").collect()
    }

    /// Its lines, with the titles first if there is to be a `header`.
    pub(super) fn lines(&self, terminal: Terminal, header: bool) -> Vec<String> {
        let columns = self.layout(terminal.width(), header);
        let titles = columns.iter().map(|&(index, width)| {
            let column = &self.columns[index];
            (column, Cell { text: column.title.to_owned(), tone: Tone::Strong }, width)
        });
        let mut lines = Vec::new();
        if header {
            lines.push(line(titles.collect(), terminal));
        }
        lines.extend(self.rows.iter().map(|row| {
            let cells = columns.iter().map(|&(index, width)| {
                (&self.columns[index], row.get(index).cloned().unwrap_or_default(), width)
            });
            line(cells.collect(), terminal)
        }));
        lines
    }

    /// The columns that are shown, and how wide each is.
    fn layout(&self, room: Option<usize>, header: bool) -> Vec<(usize, usize)> {
        let width = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| width(&cell.text)).max().unwrap_or(0);
            if header { widest.max(width(self.columns[index].title)) } else { widest }
        };
        let mut shown: Vec<(usize, usize)> =
            (0..self.columns.len()).map(|index| (index, width(index))).collect();
        let Some(room) = room else { return shown };
        type Pick = fn(&Table, usize) -> bool;
        let rounds: [(Pick, usize); 3] = [
            (Table::says_nothing, SHRUNK_WELL),
            (Table::is_least_needed, SHRUNK_WELL),
            (Table::may_go, 0),
        ];
        for (pick, enough) in rounds {
            let needed = |shown: &[(usize, usize)]| {
                total(shown.iter().map(|&(index, width)| match self.columns[index].fit {
                    Fit::Shrink(least) => width.min(least.max(enough)),
                    _ => width,
                }))
            };
            while needed(&shown) > room {
                let last = shown.iter().rposition(|&(index, _)| pick(self, index));
                let Some(last) = last else { break };
                shown.remove(last);
            }
        }
        while total(shown.iter().map(|(_, width)| *width)) > room {
            let shrinkable = shown.iter_mut().filter(|(index, width)| {
                matches!(self.columns[*index].fit, Fit::Shrink(least) if *width > least)
            });
            let Some((_, width)) = shrinkable.max_by_key(|(_, width)| *width) else { break };
            *width -= 1;
        }
        shown
    }

    fn says_nothing(&self, index: usize) -> bool {
        let Fit::DropIfAll(text) = self.columns[index].fit else { return false };
        self.rows.iter().all(|row| row.get(index).is_none_or(|cell| cell.text == text))
    }

    fn may_go(&self, index: usize) -> bool {
        matches!(self.columns[index].fit, Fit::DropIfAll(_))
    }

    fn is_least_needed(&self, index: usize) -> bool {
        self.columns[index].fit == Fit::Drop
    }
}

/// Letters of a line on the screen, without the sequences that colour it.
pub(super) fn width_on_screen(line: &str) -> usize {
    let parts = line.split("\x1b[").enumerate();
    let letters = |(at, part): (usize, &str)| match part.split_once('m') {
        Some((_, rest)) if at > 0 => width(rest),
        _ => width(part),
    };
    parts.map(letters).sum()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn total(widths: impl Iterator<Item = usize>) -> usize {
    widths.map(|width| width + 2).sum::<usize>().saturating_sub(2)
}

/// One line: cells padded to their columns' widths, without spaces at its end.
fn line(cells: Vec<(&Column, Cell, usize)>, terminal: Terminal) -> String {
    let mut line = String::new();
    let mut pending = 0;
    for (column, cell, width) in cells {
        let text = shorten(&cell.text, width);
        let padding = width - text.chars().count();
        let (before, after) = if column.right { (padding, 0) } else { (0, padding) };
        line.extend(std::iter::repeat_n(' ', pending + before));
        line.push_str(&terminal.paint(&text, cell.tone));
        pending = after + 2;
    }
    line
}

/// The text in so many letters: where it is longer, more of its end is kept than of its start, for the
/// end of a job's URL is what tells it from others.
pub(super) fn shorten(text: &str, letters: usize) -> String {
    let length = width(text);
    if length <= letters {
        return text.to_owned();
    }
    let kept = letters.saturating_sub(1);
    let start = kept / 3;
    let head = text.chars().take(start);
    let tail = text.chars().skip(length - (kept - start));
    head.chain(std::iter::once('…')).chain(tail).take(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::text("ID", Fit::Keep),
        Column::number("N", Fit::DropIfAll("0")),
        Column::time("WAITED", Fit::Drop),
        Column::text("HOLDER", Fit::Shrink(6)),
    ];

    fn table(rows: &[[&str; 4]]) -> Table {
        let rows = rows.iter().map(|row| row.iter().map(|text| Cell::new(*text)).collect());
        Table { columns: COLUMNS, rows: rows.collect() }
    }

    fn check(rows: &[[&str; 4]], room: Option<usize>, expected: &[&str]) {
        let terminal = Terminal { size: room.map(|room| (room, 24)), colour: false };
        assert_eq!(table(rows).lines(terminal, true), expected);
    }

    #[test]
    fn a_table_is_whole_where_there_is_room() {
        let rows = [["a", "0", "3m 20s", "job 1"], ["bc", "10", "", "https://gitlab/1"]];
        let expected =
            ["ID   N  WAITED  HOLDER", "a    0  3m 20s  job 1", "bc  10       -  https://gitlab/1"];
        check(&rows, None, &expected);
        check(&rows, Some(32), &expected);
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters() {
        let rows = [["a", "0", "3m", "https://gitlab/jobs/412"]];
        check(&rows, Some(36), &["ID  WAITED  HOLDER", "a       3m  https://gitlab/jobs/412"]);
        check(&rows, Some(30), &["ID  HOLDER", "a   https://gitlab/jobs/412"]);
        check(&rows, Some(20), &["ID  HOLDER", "a   https…b/jobs/412"]);
        check(&rows, Some(5), &["ID  HOLDER", "a   h…/412"]);
    }

    #[test]
    fn time_that_passes_is_no_change() {
        let [then, now] = ["1s", "2s"].map(|time| table(&[["a", "0", time, "x"]]).fingerprint());
        assert_eq!(then, now);
        assert_ne!(then, table(&[["a", "1", "1s", "x"]]).fingerprint());
    }

    #[test]
    fn colours_do_not_move_columns() {
        let colour = Terminal { size: Some((80, 24)), colour: true };
        let mut table = table(&[["a", "0", "1s", "x"]]);
        table.rows[0][1] = Cell::new("0").toned(Tone::Bad, true);
        assert_eq!(table.lines(colour, false), ["a  \x1b[31m0\x1b[0m  1s  x"]);
        assert_eq!(width_on_screen("a  \x1b[31mm0\x1b[0m  1m"), 9);
    }
}
