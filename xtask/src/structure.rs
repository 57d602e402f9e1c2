//! What the architecture promises about crates and about the top of the repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata};

use crate::{process, workspace};

/// Crates that parse what strangers send, or may one day, and so never come near the kernel.
const WITHOUT_BPF: [&str; 2] = ["xlb-control", "xlb-gateway"];
const BPF: [&str; 3] = ["aya", "aya-obj", "xlb-agent"];

/// What may stand at the top of the repository.
const TOP_LEVEL: [&str; 19] = [
    ".cargo",
    ".ci",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "docs",
    "packaging",
    "rustfmt.toml",
    "tests",
    "xlb-agent",
    "xlb-common",
    "xlb-control",
    "xlb-ebpf",
    "xlb-gateway",
];

/// xtask is apart from the list above only because it is what reads it.
const OWN: &str = "xtask";

/// A package's name and the names of those that it is built with.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Every crate of `WITHOUT_BPF` that depends on one of `BPF`, over however many others.
pub(crate) fn forbidden_dependencies(metadata: &Metadata) -> Result<Vec<String>> {
    let graph = graph(metadata)?;
    Ok(forbidden(&graph))
}

/// What stands at the top of the repository and should not.
pub(crate) fn stray_entries() -> Result<Vec<String>> {
    Ok(strays(top_level()?))
}

fn forbidden(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for from in WITHOUT_BPF {
        let reached = reachable(graph, from);
        for to in BPF.iter().filter(|to| reached.contains(**to)) {
            found.push(format!("{from} depends on {to}"));
        }
    }
    found
}

fn reachable<'a>(graph: &'a Graph, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    // Bounded by the number of packages: each is opened once.
    while let Some(name) = open.pop() {
        for next in graph.get(name).into_iter().flatten() {
            if reached.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    reached
}

/// Tests may use what they like, so their dependencies do not count.
fn graph(metadata: &Metadata) -> Result<Graph> {
    let resolve = metadata
        .resolve
        .as_ref()
        .context("cargo resolved nothing")?;
    let mut graph = Graph::new();
    for node in &resolve.nodes {
        let edges = graph
            .entry(metadata[&node.id].name.to_string())
            .or_default();
        for dependency in &node.deps {
            let linked = |kind: DependencyKind| kind != DependencyKind::Development;
            if dependency.dep_kinds.iter().any(|info| linked(info.kind)) {
                edges.insert(metadata[&dependency.pkg].name.to_string());
            }
        }
    }
    Ok(graph)
}

fn strays(entries: BTreeSet<String>) -> Vec<String> {
    entries
        .into_iter()
        .filter(|entry| entry != OWN && !TOP_LEVEL.contains(&entry.as_str()))
        .collect()
}

/// What git tracks, or in a tree without git what is there.
fn top_level() -> Result<BTreeSet<String>> {
    let root = workspace::root();
    if root.join(".git").exists() {
        let mut command = Command::new("git");
        command.current_dir(&root).args(["ls-files", "-z"]);
        let files = process::output(&mut command)?;
        let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
        return Ok(files.split_terminator('\0').map(first).collect());
    }
    let entries = fs::read_dir(&root).with_context(|| format!("read {}", root.display()))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "target")
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph_of(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        graph
    }

    #[test]
    fn a_dependency_over_another_crate_is_found() {
        let graph = graph_of(&[("xlb-control", "a"), ("a", "b"), ("b", "a"), ("b", "aya")]);
        assert_eq!(forbidden(&graph), vec!["xlb-control depends on aya"]);
    }

    #[test]
    fn the_agent_may_depend_on_both() {
        let graph = graph_of(&[("xlb-agent", "aya"), ("xlb-agent", "xlb-control")]);
        assert_eq!(forbidden(&graph), Vec::<String>::new());
    }

    #[test]
    fn only_known_entries_stand_at_the_top() {
        let entries = ["Cargo.toml", "xtask", "notes.txt"].map(str::to_owned);
        assert_eq!(strays(entries.into()), vec!["notes.txt"]);
    }
}
