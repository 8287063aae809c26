//! Follows paths to the files that define what they name, and finds circles among the files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::{Definition, Module, Path, Source, read};

/// The longest chain of re-exports that is followed; a longer one is a loop.
const MAX_ALIASES: usize = 16;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Module(Path),
    /// An item, with the module that defines it.
    Item(Path),
}

/// One file names an item of another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Import {
    pub(crate) from: String,
    pub(crate) to: String,
    /// The path as written.
    pub(crate) path: String,
}

/// The source files of a crate, by their paths below `src/`.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    sources: BTreeMap<String, Source>,
    /// The file of each module that is a file.
    files: BTreeMap<Path, String>,
}

impl Crate {
    /// Reads the files, unit tests apart.
    pub(crate) fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut all = Self::default();
        for (path, text) in files.into_iter().filter(|(path, _)| !is_test_file(path)) {
            let module = module_of(path);
            let source = read(&module, text).expect(path);
            all.sources.insert(path.to_owned(), source);
            all.files.insert(module, path.to_owned());
        }
        all
    }

    /// All imports between different files, unsorted.
    pub(crate) fn imports(&self) -> Vec<Import> {
        let mut imports = Vec::new();
        for (from, source) in &self.sources {
            for (module, path) in &source.paths {
                for target in self.resolve(module, path, MAX_ALIASES) {
                    if let Target::Item(definer) = target
                        && let Some(to) = self.file(&definer)
                        && to != from
                    {
                        let path = path.join("::");
                        imports.push(Import { from: from.clone(), to: to.to_owned(), path });
                    }
                }
            }
        }
        imports
    }

    /// The circles of imports: the shortest through each import, each set of files once. A
    /// file's own child modules and its parent do not count.
    pub(crate) fn circles(&self) -> Vec<Vec<Import>> {
        let mut next: BTreeMap<String, Vec<Import>> = BTreeMap::new();
        for import in self.imports() {
            let imports = next.entry(import.from.clone()).or_default();
            if !are_parent_and_child(&import) && imports.iter().all(|known| known.to != import.to) {
                imports.push(import);
            }
        }
        let mut circles: BTreeMap<BTreeSet<String>, Vec<Import>> = BTreeMap::new();
        for circle in next.values().flatten().filter_map(|import| circle_through(import, &next)) {
            let files = circle.iter().map(|import| import.from.clone()).collect();
            circles.entry(files).or_insert(circle);
        }
        circles.into_values().collect()
    }

    /// The paths into this crate that lead to nothing: their imports are invisible here.
    pub(crate) fn unresolved(&self) -> Vec<String> {
        let named = self.sources.iter().flat_map(|(file, source)| {
            source.paths.iter().map(move |(module, path)| (file, module, path))
        });
        named
            .filter(|(_, module, path)| {
                anchor(module, path).0.is_some()
                    && self.resolve(module, path, MAX_ALIASES).is_empty()
            })
            .map(|(file, _, path)| format!("{file}: {}", path.join("::")))
            .collect()
    }

    /// The file that holds a module: its own, or the one around an inline module.
    fn file(&self, module: &[String]) -> Option<&str> {
        let start = (0..=module.len()).rev();
        start.filter_map(|length| self.files.get(module.get(..length)?)).map(String::as_str).next()
    }

    fn module(&self, path: &[String]) -> Option<&Module> {
        self.sources.get(self.file(path)?)?.modules.get(path)
    }

    /// What `path`, named in `module`, leads to; nothing for another crate's items.
    fn resolve(&self, module: &[String], path: &[String], aliases: usize) -> BTreeSet<Target> {
        let (start, rest) = anchor(module, path);
        let (mut targets, rest) = match (start, rest) {
            (Some(start), rest) => (BTreeSet::from([Target::Module(start)]), rest),
            (None, [name, rest @ ..]) => (self.look_up(module, name, aliases), rest),
            (None, []) => return BTreeSet::new(),
        };
        for name in rest {
            let modules: Vec<&Path> = targets
                .iter()
                .filter_map(|target| match target {
                    Target::Module(module) => Some(module),
                    Target::Item(_) => None,
                })
                .collect();
            if modules.is_empty() {
                // What follows an item is its method, variant or associated constant.
                break;
            }
            targets = modules.iter().flat_map(|m| self.look_up(m, name, aliases)).collect();
        }
        targets
    }

    fn look_up(&self, module: &[String], name: &str, aliases: usize) -> BTreeSet<Target> {
        let mut targets = BTreeSet::new();
        let (Some(known), Some(aliases)) = (self.module(module), aliases.checked_sub(1)) else {
            return targets;
        };
        for definition in known.names.get(name).into_iter().flatten() {
            match definition {
                Definition::Here => targets.extend([Target::Item(module.to_vec())]),
                Definition::Module => {
                    let inner = module.iter().cloned().chain([name.to_owned()]).collect();
                    targets.extend([Target::Module(inner)]);
                }
                Definition::Alias(path) => targets.extend(self.resolve(module, path, aliases)),
            }
        }
        if !targets.iter().any(|target| matches!(target, Target::Item(_))) {
            for glob in &known.globs {
                for target in self.resolve(module, glob, aliases) {
                    if let Target::Module(inner) = target {
                        targets.extend(self.look_up(&inner, name, aliases));
                    }
                }
            }
        }
        targets
    }
}

/// The module in which a path starts (none: a name in scope), and the rest of the path.
pub(crate) fn anchor<'a>(module: &[String], path: &'a [String]) -> (Option<Path>, &'a [String]) {
    let Some((first, mut rest)) = path.split_first() else { return (None, path) };
    let mut start = match first.as_str() {
        "crate" if module.first().is_some_and(|name| name == "main") => vec!["main".to_owned()],
        "crate" | "wylis" => Vec::new(),
        "self" => module.to_vec(),
        "super" => parent(module),
        _ => return (None, path),
    };
    while let Some((_, after)) = rest.split_first().filter(|(word, _)| *word == "super") {
        start = parent(&start);
        rest = after;
    }
    (Some(start), rest)
}

fn parent(module: &[String]) -> Path {
    module.split_last().map(|(_, parent)| parent.to_vec()).unwrap_or_default()
}

/// The module of the file at `path` below `src/`; `main.rs` is a crate of its own.
pub(crate) fn module_of(path: &str) -> Path {
    let parts =
        path.trim_end_matches(".rs").split('/').filter(|part| !["lib", "mod"].contains(part));
    parts.map(str::to_owned).collect()
}

/// A file of unit tests: `FILE/tests.rs` and the files in `FILE/tests/`.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.split(['/', '.']).any(|part| part == "tests")
}

fn are_parent_and_child(import: &Import) -> bool {
    let (from, to) = (module_of(&import.from), module_of(&import.to));
    parent(&from) == to || parent(&to) == from
}

/// The shortest circle that contains `import`.
fn circle_through(import: &Import, next: &BTreeMap<String, Vec<Import>>) -> Option<Vec<Import>> {
    let mut reached = BTreeSet::new();
    let mut queue = VecDeque::from([vec![import.clone()]]);
    while let Some(chain) = queue.pop_front() {
        for step in chain.last().and_then(|last| next.get(&last.to)).into_iter().flatten() {
            let chain = [&chain[..], std::slice::from_ref(step)].concat();
            if step.to == import.from {
                return Some(chain);
            }
            if reached.insert(&step.to) {
                queue.push_back(chain);
            }
        }
    }
    None
}

/// A circle as one line: each file with the path by which it imports the next.
pub(crate) fn describe(circle: &[Import]) -> String {
    let steps = circle.iter().map(|import| format!("{} -({})-> ", import.from, import.path));
    steps.chain(circle.first().map(|import| import.from.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        Crate::read(files.iter().copied()).circles().iter().map(|circle| describe(circle)).collect()
    }

    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let imports = Crate::read(files.iter().copied()).imports();
        imports.iter().map(|import| format!("{} {}", import.from, import.to)).collect()
    }

    #[test]
    fn a_circle_is_found_and_described() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B(crate::c::C);"),
            ("c.rs", "pub struct C; fn f() { println!(\"{}\", super::a::A::NEW) }"),
        ];
        let circle = "a.rs -(crate::b::B)-> b.rs -(crate::c::C)-> c.rs -(super::a::A::NEW)-> a.rs";
        assert_eq!(circles(&files), [circle]);
        assert_eq!(circles(&files[..3]), [""; 0]);
    }

    #[test]
    fn an_import_points_to_the_file_that_defines_the_item() {
        let room = [
            ("lib.rs", "mod room; mod user; pub use room::Deep as Root;"),
            (
                "room.rs",
                "pub mod inner; mod made { pub fn here() {} } pub use inner::*; pub use made::here;",
            ),
            (
                "room/inner.rs",
                "pub struct Deep; label_set! { pub enum Set { A = \"a\", } } pub fn inner() {}",
            ),
        ];
        for (text, definer) in [
            ("use crate::room::Deep;", "room/inner.rs"),
            ("use crate::Root as R;", "room/inner.rs"),
            ("use super::room::{self as r}; fn f() -> r::Set { r::Set::A }", "room/inner.rs"),
            ("use crate::room; fn f() { room::here() }", "room.rs"),
            ("use crate::room::*; fn f() { g(inner) }", "room/inner.rs"),
            ("fn f() { vec![wylis::room::inner::inner()]; }", "room/inner.rs"),
        ] {
            let found = imports(&[&room[..], &[("user.rs", text)]].concat());
            assert!(found.contains(&format!("user.rs {definer}")), "{text}: {found:?}");
            let wrong = found.iter().any(|import| {
                import.starts_with("user.rs") && *import != format!("user.rs {definer}")
            });
            assert!(!wrong, "{text}: {found:?}");
        }
    }

    #[test]
    fn parents_children_and_unit_tests_close_no_circle() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod c; pub struct A(c::C);"),
            ("a/c.rs", "use super::A; pub struct C;"),
            ("a/tests.rs", "use crate::b::B;"),
            ("b.rs", "pub struct B(crate::a::A); #[cfg(test)] mod tests;"),
            ("b/tests.rs", "use crate::a::A;"),
        ];
        assert_eq!(circles(&files), [""; 0]);
        let nephew = [&files[..], &[("a/d.rs", "use crate::b::B; pub struct D;")]].concat();
        assert_eq!(circles(&nephew), [""; 0]);
    }

    #[test]
    fn a_loop_of_re_exports_ends() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub use crate::b::X;"),
            ("b.rs", "pub use crate::a::X;"),
        ];
        assert_eq!(imports(&files), [""; 0]);
    }
}
