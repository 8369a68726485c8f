//! What the commands that look show: tables and facts, once or again and again.

use super::{
    Failure,
    args::{ServiceArgs, ViewArgs},
    ask::Service,
    environment::Environment,
    http::Answer,
    options::{PATIENCE_LONG, PATIENCE_NONE, ServiceOptions},
    output,
    progress::Reporter,
    table::{Cell, Table},
    terminal::{Terminal, Tone},
    watch,
};

/// Something to look at.
pub(super) trait Look: Send + 'static {
    /// The path that tells of changes: of one semaphore, or of all.
    fn path(&self) -> String;

    /// What there is to see. `seen` is the answer of [`Look::path`]; `look` asks for what else is needed.
    ///
    /// # Errors
    /// Those of `look`, and when an answer cannot be read.
    fn see(
        &self,
        seen: &Answer,
        look: &mut dyn FnMut(&str) -> Result<Answer, Failure>,
    ) -> Result<View, Failure>;
}

/// What is seen.
#[derive(Debug, Default)]
pub(super) struct View {
    /// In the service's JSON.
    pub(super) json: Vec<u8>,
    /// For people.
    pub(super) blocks: Vec<Block>,
}

/// A part of it.
#[derive(Debug)]
pub(super) struct Block {
    /// What stands above it, where there is more than one.
    pub(super) title: Option<String>,
    /// What is in it.
    pub(super) content: Content,
}

/// What a part consists of.
#[derive(Debug)]
pub(super) enum Content {
    /// A table, and what to say where it has no rows.
    Table(Table, String),
    /// Names and values.
    Facts(Vec<(&'static str, Cell)>),
}

impl Block {
    /// A table that stands alone.
    pub(super) fn of_table(table: Table, empty: impl Into<String>) -> Block {
        Block { title: None, content: Content::Table(table, empty.into()) }
    }

    /// With a title.
    pub(super) fn titled(self, title: impl Into<String>) -> Block {
        Block { title: Some(title.into()), ..self }
    }

    fn lines(&self, terminal: Terminal, header: bool) -> Vec<String> {
        let mut lines: Vec<_> =
            self.title.iter().map(|title| terminal.paint(title, Tone::Strong)).collect();
        match &self.content {
            Content::Table(table, empty) if table.rows.is_empty() && self.title.is_some() => {
                lines.push(format!("({empty})"));
            }
            Content::Table(table, _) => lines.extend(table.lines(terminal, header)),
            Content::Facts(facts) => lines.extend(fact_lines(facts, terminal)),
        }
        lines
    }
}

fn fact_lines(facts: &[(&'static str, Cell)], terminal: Terminal) -> Vec<String> {
    use super::table::{Column, Fit};
    const COLUMNS: &[Column] = &[
        Column::text("", Fit::Keep),
        Column::text("", Fit::Keep),
        Column::text("", Fit::Shrink(10)),
    ];
    let row = |(name, value): &(&'static str, Cell)| {
        vec![Cell::indent(), Cell::new(*name), value.clone()]
    };
    let table = Table { columns: COLUMNS, rows: facts.iter().map(row).collect() };
    table.lines(terminal, false)
}

impl View {
    /// Its lines.
    pub(super) fn lines(&self, terminal: Terminal, header: bool) -> Vec<String> {
        let blocks: Vec<_> =
            self.blocks.iter().map(|block| block.lines(terminal, header)).collect();
        blocks.join(&String::new())
    }

    /// What it says, without what changes by itself.
    pub(super) fn fingerprint(&self) -> String {
        let parts = self.blocks.iter().map(|block| match &block.content {
            Content::Table(table, _) => table.fingerprint(),
            Content::Facts(facts) => format!("{facts:?}"),
        });
        parts.collect()
    }

    /// What to say where there is nothing to see.
    pub(super) fn emptiness(&self) -> Option<&str> {
        match self.blocks.as_slice() {
            [Block { content: Content::Table(table, empty), .. }] if table.rows.is_empty() => {
                Some(empty)
            }
            _ => None,
        }
    }
}

/// Shows it once, or with `--watch` until a signal comes; returns the exit code.
///
/// # Errors
/// Wrong options, a service out of reach or that refuses, and output that cannot be written.
pub(super) fn show(look: impl Look, args: &ViewArgs, service: &ServiceArgs) -> Result<u8, Failure> {
    let patience = if args.watch { PATIENCE_LONG } else { PATIENCE_NONE };
    let options = ServiceOptions::new(service, patience, &Environment::of_process())?;
    if args.watch {
        return watch::watch(look, args, &options);
    }
    let mut service = Service::new(&options);
    let seen = service.look(&look.path())?;
    let view = look.see(&seen, &mut |path| service.look(path))?;
    if args.json {
        return output::write_json(&view.json);
    }
    let terminal = Terminal::of_output();
    let empty = view.emptiness();
    if let Some(words) = empty {
        Reporter::new(false).note(words);
    }
    // The titles of no columns at all help a program, and nobody else.
    if empty.is_some() && terminal.size.is_some() {
        return Ok(crate::cli::exit::OK);
    }
    output::write(&text(&view.lines(terminal, !args.no_header)))
}

/// Lines as a text.
pub(super) fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}
