//! The YAML of the recipes has the form that each CI system asks for.
//!
//! Sources of the keys: docs.gitlab.com/ci/yaml; the schema `action_yaml.json` of github.com/actions/runner and
//! docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax;
//! buildkite.com/docs/pipelines/configure/step-types/command-step.

use std::{collections::BTreeSet, fs};

use regex_lite::Regex;
use yaml_rust2::Yaml;

use super::{blocks, lines, members, recipe, root, yaml};

/// Members of a GitLab pipeline that are no jobs.
const GITLAB_GLOBAL: &[&str] = &["stages", "include", "variables", "default", "workflow"];
const GITLAB_JOB: &[&str] = &[
    "extends",
    "stage",
    "needs",
    "when",
    "rules",
    "variables",
    "before_script",
    "script",
    "after_script",
    "resource_group",
    "timeout",
];
const WORKFLOW: &[&str] = &["name", "on", "jobs", "env", "permissions", "concurrency"];
const WORKFLOW_JOB: &[&str] =
    &["runs-on", "steps", "env", "concurrency", "timeout-minutes", "strategy", "if", "needs"];
const WORKFLOW_STEP: &[&str] =
    &["name", "id", "if", "uses", "with", "run", "shell", "env", "working-directory"];
/// Of a composite action, whose steps have to say their shell.
const ACTION_STEP: &[&str] = &["name", "id", "if", "run", "env", "working-directory", "shell"];
const BUILDKITE_STEP: &[&str] = &[
    "label",
    "key",
    "command",
    "commands",
    "env",
    "secrets",
    "timeout_in_minutes",
    "concurrency",
    "concurrency_group",
    "agents",
    "depends_on",
];

type Checked = Result<(), String>;

fn need(holds: bool, fault: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(fault.into()) }
}

/// Nothing but these members, and at least one.
fn check_keys(value: &Yaml, known: &[&str], of: &str) -> Checked {
    let members = members(value);
    need(!members.is_empty(), format!("{of} has no members"))?;
    let unknown = members.keys().find(|key| !key.as_str().is_some_and(|key| known.contains(&key)));
    need(unknown.is_none(), format!("{of} has {unknown:?}"))
}

fn check_gitlab(document: &Yaml, hidden: &Yaml) -> Checked {
    for (name, job) in members(document) {
        let name = name.as_str().unwrap_or_default().to_owned();
        if GITLAB_GLOBAL.contains(&name.as_str()) {
            continue;
        }
        check_keys(&job, GITLAB_JOB, &name)?;
        let base = match job["extends"].as_str() {
            Some(base) => {
                need(base.starts_with('.'), format!("{base} would run by itself"))?;
                need(
                    !hidden[base].is_badvalue(),
                    format!("{name} extends {base}, which is not there"),
                )?;
                let variables = members(&hidden[base]["variables"]);
                let unknown = members(&job["variables"])
                    .keys()
                    .find(|key| !variables.contains_key(key))
                    .cloned();
                need(unknown.is_none(), format!("{base} has no variable {unknown:?}"))?;
                &hidden[base]
            }
            None => &Yaml::BadValue,
        };
        let script = !lines(&job["script"]).is_empty() || !lines(&base["script"]).is_empty();
        need(script || name.starts_with('.'), format!("{name} has no script"))?;
    }
    Ok(())
}

fn check_action(action: &Yaml) -> Checked {
    check_keys(action, &["name", "description", "inputs", "runs", "outputs"], "the action")?;
    check_keys(&action["runs"], &["using", "steps"], "runs")?;
    need(action["runs"]["using"].as_str() == Some("composite"), "it is not composite")?;
    for (name, input) in members(&action["inputs"]) {
        check_keys(&input, &["description", "default", "required"], &format!("{name:?}"))?;
    }
    for step in action["runs"]["steps"].as_vec().into_iter().flatten() {
        check_keys(step, ACTION_STEP, "a step")?;
        need(step["shell"].as_str() == Some("bash"), format!("{step:?} has no shell"))?;
        need(!lines(&step["run"]).is_empty(), format!("{step:?} runs nothing"))?;
        // In the text of a script an input could be code.
        need(
            !lines(&step["run"]).contains("${{"),
            format!("{step:?} has an expression in its script"),
        )?;
        let used =
            [lines(&step["if"]), members(&step["env"]).values().map(lines).collect()].concat();
        for input in Regex::new(r"inputs\.([a-z-]+)").unwrap().captures_iter(&used) {
            need(!action["inputs"][&input[1]].is_badvalue(), format!("no input {}", &input[1]))?;
        }
    }
    Ok(())
}

fn check_workflow(workflow: &Yaml, action: &Yaml) -> Checked {
    check_keys(workflow, WORKFLOW, "the workflow")?;
    need(!workflow["on"].is_badvalue(), "it does not say when it runs")?;
    need(!members(&workflow["jobs"]).is_empty(), "it has no jobs")?;
    for (_, job) in members(&workflow["jobs"]) {
        check_keys(&job, WORKFLOW_JOB, "a job")?;
        need(!job["runs-on"].is_badvalue(), "a job does not say where it runs")?;
        for step in job["steps"].as_vec().into_iter().flatten() {
            check_keys(step, WORKFLOW_STEP, "a step")?;
            let uses = step["uses"].as_str();
            need(
                uses.is_some() != step["run"].as_str().is_some(),
                format!("{step:?}: run or uses"),
            )?;
            if uses == Some("./.github/actions/with-permit") {
                let inputs = members(&action["inputs"]);
                let unknown =
                    members(&step["with"]).keys().find(|key| !inputs.contains_key(key)).cloned();
                need(unknown.is_none(), format!("the action has no input {unknown:?}"))?;
            }
        }
    }
    Ok(())
}

fn check_buildkite(pipeline: &Yaml) -> Checked {
    check_keys(pipeline, &["steps", "env", "agents"], "the pipeline")?;
    for step in pipeline["steps"].as_vec().into_iter().flatten() {
        check_keys(step, BUILDKITE_STEP, "a step")?;
        let one = step["command"].is_badvalue() != step["commands"].is_badvalue();
        need(one, format!("{step:?}: command or commands"))?;
        need(
            step["concurrency"].is_badvalue() == step["concurrency_group"].is_badvalue(),
            "concurrency needs its group",
        )?;
    }
    Ok(())
}

/// The YAML of a page.
fn documents(page: &str, count: usize) -> Vec<Yaml> {
    let documents: Vec<_> = blocks(page, "yaml").iter().map(|text| yaml(text)).collect();
    assert_eq!(documents.len(), count, "{page} has another number of pipelines");
    documents
}

#[test]
fn gitlab_takes_the_jobs() {
    let hidden = yaml(&recipe("gitlab/semaphore.yml"));
    for name in members(&hidden).keys() {
        assert!(name.as_str().unwrap().starts_with('.'), "{name:?} runs in each pipeline");
    }
    assert_eq!(check_gitlab(&hidden, &hidden), Ok(()));
    for document in documents("gitlab.md", 4) {
        assert_eq!(check_gitlab(&document, &hidden), Ok(()));
    }
    for (broken, fault) in [
        ("a:\n  extends: with-permit", "would run by itself"),
        ("a:\n  extends: .with-permits", "is not there"),
        ("a:\n  extends: .with-permit", "no script"),
        ("a:\n  extends: .with-permit\n  variables: {X: y}\n  script: z", "no variable"),
        ("a:\n  scripts: x", "scripts"),
    ] {
        assert!(check_gitlab(&yaml(broken), &hidden).unwrap_err().contains(fault), "{broken}");
    }
}

#[test]
fn github_takes_the_action_and_the_workflows() {
    let text = recipe("github/action.yml");
    let action = yaml(&text);
    assert_eq!(check_action(&action), Ok(()));
    assert_eq!(action["runs"]["steps"].as_vec().map(Vec::len), Some(1));
    for (from, to) in [
        ("using: composite", "using: composit"),
        ("    - shell: bash\n      run:", "    - run:"),
        ("inputs.claim }}", "inputs.clam }}"),
        ("\"$PERMIT_COMMANDS\"", "\"${{ inputs.run }}\""),
        ("    - shell: bash", "    - post: release\n      shell: bash"),
        ("description: The semaphore's", "text: The semaphore's"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(check_action(&yaml(&text.replacen(from, to, 1))).is_err(), "{to} is not found");
    }
    for document in documents("github.md", 4) {
        assert_eq!(check_workflow(&document, &action), Ok(()));
    }
    let head = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n";
    for (broken, fault) in [
        ("      - uses: ./.github/actions/with-permit\n        with: {sempahore: A}", "no input"),
        ("      - uses: a/b\n        run: c", "run or uses"),
        ("      - uses: a/b\n        post: c", "post"),
    ] {
        let found = check_workflow(&yaml(&format!("{head}{broken}")), &action).unwrap_err();
        assert!(found.contains(fault), "{broken}: {found}");
    }
}

#[test]
fn buildkite_takes_the_steps() {
    assert_eq!(check_buildkite(&yaml(&recipe("buildkite/pipeline.yml"))), Ok(()));
    for document in documents("buildkite.md", 2) {
        assert_eq!(check_buildkite(&document), Ok(()));
    }
    for broken in [
        "steps:\n  - comand: x",
        "steps:\n  - command: x\n    commands: [y]",
        "steps:\n  - command: x\n    concurrency: 1",
    ] {
        assert!(check_buildkite(&yaml(broken)).is_err(), "{broken}");
    }
}

/// Every link of the pages to a file of this repository goes to one, with the heading that it names.
#[test]
fn links_of_the_pages_go_somewhere() {
    let pages = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<_> =
        pages.filter(|path| path.extension().is_some_and(|is| is == "md")).collect();
    assert_eq!(pages.len(), 6);
    let link = Regex::new(r"\]\(([^)]+)\)").unwrap();
    let mut links = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for found in link.captures_iter(&text).filter(|found| !found[1].starts_with("https://")) {
            let (file, anchor) = found[1].split_once('#').unwrap_or((&found[1], ""));
            let target = root().join(file);
            assert!(target.is_file(), "{} links to {file}", page.display());
            let headings = headings(&fs::read_to_string(target).unwrap());
            assert!(
                anchor.is_empty() || headings.contains(anchor),
                "{}: #{anchor}",
                page.display()
            );
            links += 1;
        }
    }
    assert!(links >= 20, "{links} links");
}

/// The anchors of a page, as forges make them.
fn headings(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let names = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    names.map(|name| name.chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}
