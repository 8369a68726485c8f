//! The pipelines in the documentation are what CI systems take. What each asks for beyond that: `recipes/structure.rs`.

use std::path::{Path, PathBuf};

use yaml_rust2::{Yaml, YamlLoader, yaml::Hash};

/// Keys whose values say what a CI system runs: a text, or a list of texts.
const SCRIPTS: [&str; 8] =
    ["script", "before_script", "after_script", "extends", "run", "uses", "command", "commands"];
/// Stages that a GitLab pipeline has without a list of its own.
const STAGES: [&str; 5] = [".pre", "build", "test", "deploy", ".post"];

/// Each block of YAML, with the file that it is in.
fn blocks() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = ["docs", "docs/recipes"].map(|path| std::fs::read_dir(root.join(path)).unwrap());
    let pages = pages.into_iter().flatten().map(|entry| entry.unwrap().path());
    let files = pages.chain([root.join("README.md")]);
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut blocks = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = text.split("\n```yaml\n").skip(1);
        blocks.extend(
            found.map(|rest| (path.clone(), rest.split("\n```").next().unwrap().to_owned())),
        );
    }
    blocks
}

/// What is wrong with a script: GitLab refuses a pipeline in which one is not made of texts.
fn check_script(key: &str, value: &Yaml) -> Result<usize, String> {
    match value {
        Yaml::String(_) => Ok(1),
        Yaml::Array(items) if items.iter().all(|item| matches!(item, Yaml::String(_))) => {
            Ok(items.len())
        }
        other => Err(format!("`{key}` is not made of texts: {other:?}")),
    }
}

/// Counts the lines that are run, anywhere in a document.
fn check_scripts(value: &Yaml) -> Result<usize, String> {
    let mut lines = 0;
    match value {
        Yaml::Hash(members) => {
            for (key, value) in members {
                let key = key.as_str().unwrap_or_default();
                lines += if SCRIPTS.contains(&key) {
                    check_script(key, value)?
                } else {
                    check_scripts(value)?
                };
            }
        }
        Yaml::Array(items) => {
            for item in items {
                lines += check_scripts(item)?;
            }
        }
        _ => {}
    }
    Ok(lines)
}

/// Every job is in a stage that there is.
fn check_stages(document: &Hash) -> Result<(), String> {
    let text = |value: &Yaml| value.as_str().map(str::to_owned);
    let own = document.get(&Yaml::String("stages".into())).and_then(Yaml::as_vec);
    let stages: Vec<String> = match own {
        Some(own) => own.iter().filter_map(text).collect(),
        None => STAGES.map(str::to_owned).into(),
    };
    let used = document.values().filter_map(|job| text(&job["stage"]));
    match used.into_iter().find(|stage| !stages.contains(stage)) {
        Some(stage) => Err(format!("there is no stage {stage} among {stages:?}")),
        None => Ok(()),
    }
}

fn check(text: &str) -> Result<usize, String> {
    let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
    let [Yaml::Hash(document)] = &documents[..] else {
        return Err(format!("not one document of members: {documents:?}"));
    };
    check_stages(document)?;
    check_scripts(&documents[0])
}

#[test]
fn every_pipeline_in_the_documentation_is_one() {
    let (mut pipelines, mut faults) = (0, Vec::new());
    for (path, text) in blocks() {
        match check(&text) {
            Ok(0) => faults.push(format!("{}: nothing is run:\n{text}", path.display())),
            Ok(_) => pipelines += 1,
            Err(fault) => faults.push(format!("{}: {fault}\n{text}", path.display())),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    assert!(pipelines >= 10, "the documentation has {pipelines} pipelines");
}

#[test]
fn what_gitlab_refuses_is_found() {
    for (text, expected) in [
        ("a:\n  script:\n    - curl -H \"A: b\"", "not made of texts"),
        ("a:\n  script: { b: c }", "not made of texts"),
        ("a:\n  before_script: [1]\n  script: x", "not made of texts"),
        ("a:\n  stage: prepare\n  script: x", "there is no stage prepare"),
        ("stages: [b]\na:\n  stage: test\n  script: x", "there is no stage test"),
        ("- a", "not one document"),
        ("a: [", "while parsing"),
    ] {
        let fault = check(text).unwrap_err();
        assert!(fault.contains(expected), "{text}: {fault}");
    }
    let good = "stages: [b]\na:\n  stage: b\n  script:\n    - |\n      curl -H \"A: b\"\n    - x";
    assert_eq!(check(good), Ok(2));
}
