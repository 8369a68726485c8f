//! Text as troff reads it, with the macros of man(7).

/// Longest line of the source.
const LINE_BYTES_MAX: usize = 78;

/// A manual page as it grows.
#[derive(Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// A page with its title, `SEMAPHORED`, its section, 8, and what that is called.
    pub(super) fn new(title: &str, section: u8, date: &str, kind: &str) -> Page {
        let version = env!("CARGO_PKG_VERSION");
        let text = format!(
            ".\\\" Made by packaging/generate; changes belong into the help texts and docs.\n\
             .TH {} {section} \"{}\" \"semaphored {version}\" \"{kind}\"\n.nh\n.ad l\n",
            escaped(title),
            date,
        );
        Page { text }
    }

    /// `.SH`, in capitals.
    pub(super) fn section(&mut self, title: &str) {
        self.line(&format!(".SH {}", quoted(&title.to_uppercase())));
    }

    /// `.SS`
    pub(super) fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS {}", quoted(title)));
    }

    /// A paragraph of Markdown.
    pub(super) fn paragraph(&mut self, markdown: &str) {
        // Below a heading a paragraph begins by itself.
        if !self.follows_a_heading() {
            self.line(".PP");
        }
        self.words(&inline(markdown));
    }

    /// A term, as it is printed, and what it is, in Markdown.
    pub(super) fn item(&mut self, term: &str, markdown: &str) {
        self.line(".TP");
        // A term is one line.
        self.line(&guarded(term));
        self.words(&inline(markdown));
    }

    /// Lines as they are, indented.
    pub(super) fn example<'l>(&mut self, lines: impl IntoIterator<Item = &'l str>) {
        if !self.follows_a_heading() {
            self.line(".PP");
        }
        self.line(".RS 4\n.nf");
        for line in lines {
            self.line(&guarded(&escaped(line)));
        }
        self.line(".fi\n.RE");
    }

    /// The page's source.
    pub(super) fn source(self) -> String {
        self.text
    }

    /// Whether nothing stands below the last heading.
    pub(super) fn follows_a_heading(&self) -> bool {
        let last = self.text.lines().next_back().unwrap_or_default();
        last.starts_with(".SH") || last.starts_with(".SS")
    }

    /// Words of troff in lines of the usual length.
    fn words(&mut self, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > LINE_BYTES_MAX {
                self.line(&guarded(&line));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&guarded(&line));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// Bold, as what is typed.
pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escaped(text))
}

/// Italic, as what stands for something.
pub(super) fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", escaped(text))
}

/// Letters that troff prints as they are.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '"' => out.push_str("\\(dq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            letter if letter.is_ascii() => out.push(letter),
            letter => out.push_str(&format!("\\[u{:04X}]", u32::from(letter))),
        }
    }
    out
}

/// Markdown within a paragraph: code and what is strong are bold, a new word is italic, of a link its text stays.
pub(super) fn inline(markdown: &str) -> String {
    let mut out = String::new();
    let mut rest = markdown;
    while let Some(at) = rest.find(['`', '*', '[']) {
        out.push_str(&escaped(&rest[..at]));
        rest = &rest[at..];
        let found = if rest.starts_with('[') { link(rest) } else { marked(rest) };
        let (text, length) = found.unwrap_or_else(|| (escaped(&rest[..1]), 1));
        out.push_str(&text);
        rest = &rest[length..];
    }
    out + &escaped(rest)
}

/// `` `code` ``, `**strong**` or `*new*` at the beginning, and how long that is.
fn marked(text: &str) -> Option<(String, usize)> {
    for mark in ["``", "`", "**", "*"] {
        let Some(inner) = text.strip_prefix(mark) else { continue };
        let end = inner.find(mark).filter(|end| *end > 0)?;
        let font = if mark == "*" { italic } else { bold };
        return Some((font(inner[..end].trim()), end + 2 * mark.len()));
    }
    None
}

/// `[text](target)` at the beginning, and how long that is.
fn link(text: &str) -> Option<(String, usize)> {
    let (label, rest) = text[1..].split_once("](")?;
    let (target, _) = rest.split_once(')')?;
    let is_plain = !label.contains(['[', ']', '`']) && !target.contains(' ');
    is_plain.then(|| (inline(label), label.len() + target.len() + 4))
}

/// A line that begins with a control character is none.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}
