//! The structure that the code promises: dependencies point one way, no module needs itself over others, and what decides does not
//! act. Read from the syntax of every file of `src`, without its tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use syn::visit::{self, Visit};

use crate::common::files;

/// What a folder of `src` may use of the others.
const LAYERS: [(&str, &[&str]); 5] = [
    ("api", &[]),
    ("core", &["api"]),
    ("controller", &["api", "core"]),
    ("runner", &["api", "core"]),
    ("plugin", &["api", "core"]),
];

/// What the pure folders must not mention: clients, clocks, the environment, files, tasks and logs.
const IMPURE: [&str; 12] = [
    "tokio",
    "kube::Client",
    "kube::client",
    "kube::Api",
    "kube::api::Api",
    "std::env",
    "std::fs",
    "std::process",
    "tracing",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
];

/// The rooms of `core`: each may use only those that stand after it.
const ROOMS: [&str; 15] = [
    "overview", "doctor", "decide", "steps", "plan", "gates", "repair", "rollout", "helm", "allowed", "outbound",
    "report", "rights", "object", "text",
];

/// The rooms of `runner`: each may use only those that stand after it. The files beside them (context, errors, reports) are everybody's.
const RUNNER_ROOMS: [&str; 7] = ["preview", "steps", "repair", "rollout", "coder", "helm", "cluster"];

/// Where the runner writes what is no part of a release, and needs no Lease of it: its report, the Lease itself, plans, backups and
/// questions that change nothing.
const WITHOUT_LEASE: [&str; 6] =
    ["report", "cluster::lease", "cluster::highest_version", "steps::plan", "steps::backup", "preview"];

/// Requests of the client that change something, with the number of their arguments.
const CHANGES: [(&str, usize); 8] = [
    ("create", 2),
    ("delete", 2),
    ("delete_collection", 2),
    ("patch", 3),
    ("patch_metadata", 3),
    ("patch_scale", 3),
    ("patch_status", 3),
    ("evict", 2),
];

/// Types of `src` that have a namesake, each with the reason why.
const NAMESAKES: [(&str, &str); 1] =
    [("Context", "what a pass of the controller has, and what a step of the runner has: no file sees both")];

/// Most lines of code in a file.
const LONGEST: usize = 400;

/// Names on the way to a module; `crate` is the first.
type Name = Vec<String>;

/// A file of `src`.
struct Source {
    path: PathBuf,
    module: Name,
    /// Every path that it names outside of its tests. Those into this crate begin with `crate`.
    paths: BTreeSet<Name>,
    /// The types that it declares outside of its tests.
    types: Vec<String>,
    /// The code without comments and tests.
    code: String,
}

impl Source {
    fn read(path: PathBuf, root: &Path) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut module = vec!["crate".to_owned()];
        module.extend(
            path.strip_prefix(root).unwrap().with_extension("").iter().map(|name| name.to_str().unwrap().into()),
        );
        if module.last().is_some_and(|name| ["mod", "lib"].contains(&name.as_str())) {
            module.pop();
        }
        let mut paths = Paths { module: module.clone(), found: BTreeSet::new() };
        let file = syn::parse_file(&text).unwrap();
        paths.visit_file(&file);
        Self { path, module, paths: paths.found, types: types(&file), code: code(&text) }
    }

    fn is_in(&self, folder: &str) -> bool {
        self.module.get(1).is_some_and(|name| name == folder)
    }
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{')) {
            lines.by_ref().find(|line| *line == "}");
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

/// Collects the paths of a file.
struct Paths {
    module: Name,
    found: BTreeSet<Name>,
}

impl Paths {
    fn add(&mut self, names: &[String]) {
        let upward = |name: &&String| ["self", "super"].contains(&name.as_str());
        let ups = names.iter().take_while(upward).count();
        let levels = names[..ups].iter().filter(|name| *name == "super").count();
        let base = if ups == 0 { &[] } else { &self.module[..self.module.len() - levels] };
        self.found.insert([base, &names[ups..]].concat());
    }

    fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
        }
    }
}

/// The types that stand at the top of a file.
fn types(file: &syn::File) -> Vec<String> {
    let name = |item: &syn::Item| match item {
        syn::Item::Enum(item) => Some(item.ident.to_string()),
        syn::Item::Struct(item) => Some(item.ident.to_string()),
        syn::Item::Trait(item) => Some(item.ident.to_string()),
        syn::Item::Type(item) => Some(item.ident.to_string()),
        _ => None,
    };
    file.items.iter().filter_map(name).collect()
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let of_test = |attribute: &syn::Attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    };
    attributes.iter().any(of_test)
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.add_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        visit::visit_path(self, path);
    }
}

/// All files that are part of the program; `main.rs` uses the library like any other program.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let tests = |path: &PathBuf| path.iter().any(|name| name == "tests" || name == "tests.rs" || name == "sample.rs");
    let files = files(&root).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let sources: Vec<_> =
        files.filter(|path| !tests(path) && !path.ends_with("main.rs")).map(|path| Source::read(path, &root)).collect();
    assert!(sources.len() > 200, "the files of src are not there");
    sources
}

/// Which modules each module uses, each by the file in which the used thing stands.
fn uses(sources: &[Source]) -> BTreeMap<&[String], BTreeSet<&[String]>> {
    let modules: BTreeSet<&[String]> = sources.iter().map(|source| source.module.as_slice()).collect();
    let file = |path: &Name| (1..=path.len()).rev().find_map(|length| modules.get(&path[..length]).copied());
    let of = |source: &Source| -> BTreeSet<&[String]> {
        let used = source.paths.iter().filter(|path| path[0] == "crate").filter_map(file);
        // What a folder's files share stands in its mod.rs: that they use it is no circle.
        used.filter(|used| !source.module.starts_with(used)).collect()
    };
    sources.iter().map(|source| (source.module.as_slice(), of(source))).collect()
}

/// A circle in a graph, if there is one: what remains when everything is taken away that needs nothing of the rest.
fn circle<'a, T: Ord + Copy + 'a>(graph: &BTreeMap<T, BTreeSet<T>>) -> BTreeMap<T, BTreeSet<T>> {
    let mut rest = graph.clone();
    loop {
        let free: Vec<T> = rest
            .iter()
            .filter(|(name, used)| {
                let needs = used.iter().any(|other| rest.contains_key(other));
                let needed = rest.iter().any(|(other, used)| other != *name && used.contains(name));
                !needs || !needed
            })
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            return rest;
        }
        for name in free {
            rest.remove(&name);
        }
    }
}

#[test]
fn dependencies_point_one_way() {
    for (folder, allowed) in LAYERS {
        for source in sources().iter().filter(|source| source.is_in(folder)) {
            for path in source.paths.iter().filter(|path| path[0] == "crate" && path.len() > 1) {
                let other = path[1].as_str();
                let layer = LAYERS.iter().any(|(name, _)| *name == other);
                let fits = other == folder || allowed.contains(&other) || !layer;
                assert!(fits, "{} uses {}: src/{folder} may use {allowed:?}", source.path.display(), path.join("::"));
            }
        }
    }
}

#[test]
fn rooms_are_used_from_above() {
    // In the runner, what stands in no folder is in no room.
    for (folder, rooms, folders_only) in [("core", ROOMS.as_slice(), false), ("runner", &RUNNER_ROOMS, true)] {
        let place = |room: &str| rooms.iter().position(|name| *name == room);
        for source in sources().iter().filter(|source| source.is_in(folder) && source.module.len() > 2) {
            let Some(own) = place(&source.module[2]) else {
                assert!(folders_only && source.module.len() == 3, "{} stands in no room", source.path.display());
                continue;
            };
            for path in source.paths.iter().filter(|path| path.len() > 2 && path[0] == "crate" && path[1] == folder) {
                let fits = place(&path[2]).is_none_or(|used| used >= own);
                assert!(fits, "{} uses {}, which stands above it: {rooms:?}", source.path.display(), path.join("::"));
            }
        }
    }
}

/// Finds requests that change something and are not sent by `write` of a Lease.
#[derive(Default)]
struct Unheld {
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for Unheld {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let method = call.method.to_string();
        if method == "write" {
            return self.visit_expr(&call.receiver);
        }
        if CHANGES.contains(&(method.as_str(), call.args.len())) {
            self.found.push(method);
        }
        visit::visit_expr_method_call(self, call);
    }
}

#[test]
fn what_changes_a_release_has_its_lease() {
    for source in sources().iter().filter(|source| source.is_in("runner")) {
        let module = source.module[2..].join("::");
        if WITHOUT_LEASE.iter().any(|free| module == *free || module.starts_with(&format!("{free}::"))) {
            continue;
        }
        let mut unheld = Unheld::default();
        unheld.visit_file(&syn::parse_file(&std::fs::read_to_string(&source.path).unwrap()).unwrap());
        assert!(unheld.found.is_empty(), "{} calls {:?} without Held::write", source.path.display(), unheld.found);
    }
}

#[test]
fn a_change_without_its_lease_is_found() {
    let mut unheld = Unheld::default();
    let text = "fn f() { lease.write(d, || pods.delete(n, &p)); request(d, || pods.delete(n, &p)); map.delete(n); }";
    unheld.visit_file(&syn::parse_file(text).unwrap());
    assert_eq!(unheld.found, ["delete"]);
}

#[test]
fn no_module_needs_itself_over_others() {
    let sources = sources();
    let circle = circle(&uses(&sources));
    let lines: Vec<_> = circle
        .iter()
        .map(|(module, used)| {
            let used = used.iter().filter(|used| circle.contains_key(*used)).map(|used| used.join("::"));
            format!("{} -> {}", module.join("::"), used.collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert!(lines.is_empty(), "a circle is among these modules:\n{}", lines.join("\n"));
}

#[test]
fn what_decides_does_not_act() {
    for source in sources().iter().filter(|source| source.is_in("api") || source.is_in("core")) {
        for path in &source.paths {
            let path = path.join("::");
            let impure = IMPURE.iter().find(|word| {
                path == **word || path.starts_with(&format!("{word}::")) || path.ends_with(&format!("::{word}"))
            });
            assert!(impure.is_none(), "{} uses {path}: what is not async is pure", source.path.display());
        }
    }
}

#[test]
fn the_controller_knows_neither_helm_nor_secrets() {
    for source in sources().iter().filter(|source| source.is_in("controller")) {
        for word in ["Secret", "Command::new", "runner::"] {
            assert!(!source.code.contains(word), "{} mentions {word}", source.path.display());
        }
    }
}

#[test]
fn a_type_name_stands_for_one_thing() {
    let sources = sources();
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, source) in sources.iter().flat_map(|source| source.types.iter().map(move |name| (name, source))) {
        places.entry(name).or_default().push(source.path.display().to_string());
    }
    for (name, places) in places {
        let namesake = NAMESAKES.iter().any(|(known, _)| *known == name);
        assert_eq!(places.len() > 1, namesake, "{name} is declared in {}", places.join(" and in "));
    }
}

#[test]
fn files_have_one_subject() {
    for source in sources() {
        let lines = source.code.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines: split it", source.path.display());
    }
}

#[test]
fn tests_are_told_from_code() {
    let text = "use a::b;\n#[cfg(test)]\nmod tests;\n// c\nfn d() {}\n\n#[cfg(test)]\nmod more {\n    use tokio::e;\n}\nfn f() {}\n";
    assert_eq!(code(text), "use a::b;\n#[cfg(test)]\nmod tests;\nfn d() {}\n\nfn f() {}\n");
    let mut paths = Paths { module: vec!["crate".into(), "m".into()], found: BTreeSet::new() };
    paths.visit_file(
        &syn::parse_file("use super::{a, b::c as d};\n#[cfg(test)]\nmod t { use x::y; }\nfn f() { self::g::h() }")
            .unwrap(),
    );
    let found: Vec<_> = paths.found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a", "crate::b::c", "crate::m::g::h"]);
}
