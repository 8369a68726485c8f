//! Writes the manual pages and the completions of shells: `cargo run --example generate -- DIR` makes `DIR/man` and
//! `DIR/completions`.
//!
//! They are made of what the help texts are made of and of the tables in docs, so that nobody keeps a second list. The date on
//! the pages is that of `SOURCE_DATE_EPOCH`, else of the newest release in CHANGELOG.md: the same sources make the same bytes.

#[path = "files.rs"]
mod files;

use std::{
    fs,
    io::{Error, Result},
    path::Path,
};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else {
        return Err(Error::other("usage: generate DIR"));
    };
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    for (path, text) in files::all(&files::date(epoch.as_deref()).map_err(Error::other)?) {
        let path = Path::new(&directory).join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)
            .map_err(|error| Error::other(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(())
}
