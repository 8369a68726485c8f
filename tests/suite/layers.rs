//! The layer rule of docs/ARCHITECTURE.md, kept by reading the source: a module names only modules to its
//! right, and each foreign package has its one place.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each module, and what it may name besides itself.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("storage", &["model"]),
    ("semaphore", &["storage", "model"]),
    ("callbacks", &["semaphore", "storage", "model"]),
    ("api", &["callbacks", "semaphore", "storage", "model"]),
    ("router", &["api", "callbacks", "semaphore", "storage", "model"]),
    ("http_interface", &["router", "api", "callbacks", "semaphore", "storage", "model"]),
    (
        "web_server",
        &["http_interface", "router", "api", "callbacks", "semaphore", "storage", "model"],
    ),
    (
        "application",
        &[
            "cli",
            "web_server",
            "http_interface",
            "router",
            "api",
            "callbacks",
            "semaphore",
            "storage",
            "model",
        ],
    ),
    ("cli", &["model"]),
    ("client", &["cli", "model"]),
];

/// Packages that only these modules may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("tiny_http", &["web_server"]),
    ("socket2", &["web_server"]),
    ("rusqlite", &["storage"]),
    ("postcard", &["storage"]),
    ("matchit", &["router", "http_interface"]),
    ("ureq", &["client", "callbacks"]),
    ("hmac", &["callbacks"]),
    ("ipnet", &["application", "http_interface", "callbacks"]),
    ("subtle", &["model"]),
    ("getrandom", &["api"]),
    ("base64", &["callbacks"]),
    ("toml", &["application"]),
    ("env_logger", &["application"]),
    ("signal_hook", &["application", "client"]),
    ("argh", &["application", "cli", "client"]),
    ("uuid", &["api", "client"]),
    ("libc", &["application"]),
    ("sd_notify", &["application"]),
    ("listenfd", &["application"]),
];

/// What the core may not name: it has no clock, IO, thread, lock, random source, log or serialization.
const NOT_IN_CORE: &[&str] = &[
    "Instant",
    "SystemTime",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::sync::atomic",
    "Mutex",
    "RwLock",
    "Condvar",
    "parking_lot",
    "crossbeam_channel",
    "log::",
    "serde",
    "uuid",
    "getrandom",
    "rand::",
    "jiff",
    "env!",
];

/// Longest file under src and tests, in lines.
const LINES_MAX: usize = 500;

struct Source {
    /// `semaphore/core/line.rs`
    path: String,
    /// `semaphore`
    module: String,
    /// Without comments.
    code: String,
    lines: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    files_below(&src)
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let path = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            let module = path.split(['/', '.']).next().unwrap().to_owned();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            Source {
                path,
                module,
                code: code.collect::<Vec<_>>().join("\n"),
                lines: text.lines().count(),
            }
        })
        .collect()
}

/// The top-level modules that come after `crate::` in the code, also in `use crate::{a, b::c}`.
fn names_of_own_modules(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for letter in group.chars() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(word(item.trim()));
                    item.clear();
                }
                _ => item.push(letter),
            }
        }
        names.insert(word(item.trim()));
    }
    names.remove("");
    names
}

#[test]
fn a_module_names_only_modules_to_its_right() {
    let mut checked = 0;
    for source in sources() {
        if source.module == "lib" || source.module == "bin" {
            continue;
        }
        let (_, allowed) = MAY_NAME
            .iter()
            .find(|(module, _)| *module == source.module)
            .unwrap_or_else(|| panic!("{} is in no layer: add it to MAY_NAME", source.path));
        for name in names_of_own_modules(&source.code) {
            let fits = name == source.module || allowed.contains(&name.as_str());
            assert!(fits, "{} may not name crate::{name}", source.path);
            checked += 1;
        }
    }
    assert!(checked > 100, "the test has read next to nothing: {checked}");
}

#[test]
fn the_core_is_pure() {
    let mut checked = 0;
    for source in sources() {
        if !source.path.starts_with("semaphore/core/") {
            continue;
        }
        for name in NOT_IN_CORE {
            assert!(!source.code.contains(name), "{} names {name}", source.path);
        }
        for name in names_of_own_modules(&source.code) {
            assert_eq!(name, "model", "{} may name the model alone", source.path);
        }
        checked += 1;
    }
    assert!(checked >= 10);
}

#[test]
fn a_package_is_named_in_its_place_alone() {
    for source in sources() {
        for (package, modules) in ONLY_IN {
            let named = source.code.contains(&format!("{package}::"))
                || source.code.contains(&format!("use {package}"));
            assert!(
                !named || modules.contains(&source.module.as_str()),
                "{} may not name {package}",
                source.path
            );
        }
    }
}

/// One small module with its proof: docs/decisions/0010-futex-slots.md.
#[test]
fn unsafe_code_stays_in_its_place() {
    let sources = sources();
    let unsafe_in = sources.iter().filter(|source| source.code.contains("unsafe "));
    let paths: Vec<_> = unsafe_in.map(|source| source.path.as_str()).collect();
    assert_eq!(paths, ["application/futexes.rs"]);
}

#[test]
fn folders_and_files_stay_small() {
    for source in sources() {
        assert!(source.lines <= LINES_MAX, "{} has {} lines", source.path, source.lines);
        assert!(source.path.matches('/').count() <= 2, "{} is too deep", source.path);
    }
    let others = ["tests", "packaging"].map(|folder| files_below(&root().join(folder)));
    for file in others.concat() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
    }
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let code = "use crate::{\n  model::{A, b::C},\n  storage,\n};\nuse crate::api::X;\nlet a = crate::cli::exit::OK;";
    let names: Vec<String> = names_of_own_modules(code).into_iter().collect();
    assert_eq!(names, ["api", "cli", "model", "storage"]);
}
