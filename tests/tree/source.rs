//! Reads one source file with `syn`: the modules and items it defines, and the paths it names.
//!
//! Unit tests are left out. A path inside a macro's tokens counts as written there.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A path or the name of a module, segment by segment.
pub(crate) type Path = Vec<String>;

/// What a name in a module stands for.
#[derive(Debug, PartialEq)]
pub(crate) enum Definition {
    /// An item of the module itself.
    Here,
    /// A module inside the module.
    Module,
    /// A `use` of this path.
    Alias(Path),
}

/// The names of one module. A name may stand for a module, a type, a value and a macro at once.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) names: BTreeMap<String, Vec<Definition>>,
    /// The paths before `::*`.
    pub(crate) globs: Vec<Path>,
}

#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The file's module and the inline modules in it.
    pub(crate) modules: BTreeMap<Path, Module>,
    /// Each path with the module that names it: `use crate::{a::B, c}` gives `crate::a::B` and `crate::c`.
    pub(crate) paths: Vec<(Path, Path)>,
    pub(crate) unsafe_code: bool,
    /// Attributes such as `#[unsafe(no_mangle)]`, which replace what others link to.
    pub(crate) unsafe_attributes: bool,
}

/// Reads `text`, the file of `module`.
pub(crate) fn read(module: &[String], text: &str) -> Result<Source, syn::Error> {
    let file = syn::parse_file(text)?;
    let mut source = Source::default();
    read_module(&mut source, module.to_vec(), &file.items);
    Ok(source)
}

fn read_module(source: &mut Source, path: Path, items: &[Item]) {
    let mut module = Module::default();
    for item in items.iter().filter(|item| !is_test(attributes(item))) {
        if let Item::Use(item) = item {
            let mut uses = Uses::default();
            uses.add(&item.tree, &mut Vec::new());
            for (name, path) in uses.names {
                module.names.entry(name).or_default().push(Definition::Alias(path));
            }
            module.globs.extend(uses.globs);
        }
        for name in defined_names(item) {
            let inside = matches!(item, Item::Mod(_));
            let definition = if inside { Definition::Module } else { Definition::Here };
            module.names.entry(name).or_default().push(definition);
        }
        if let Item::Mod(item) = item
            && let Some((_, items)) = &item.content
        {
            let mut inner = path.clone();
            inner.push(item.ident.to_string());
            read_module(source, inner, items);
        } else {
            Names { module: &path, source }.visit_item(item);
        }
    }
    source.modules.insert(path, module);
}

fn defined_names(item: &Item) -> Vec<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        // `label_set! { … enum Name { … } }` defines Name, and so does a macro whose body has it.
        Item::Macro(item) => {
            let mut names = names_in_macro(item.mac.tokens.clone());
            names.extend(item.ident.as_ref().map(ToString::to_string));
            return names;
        }
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return Vec::new(),
    };
    vec![ident.to_string()]
}

/// The names that follow a keyword of an item among the tokens.
fn names_in_macro(tokens: TokenStream) -> Vec<String> {
    let mut names = Vec::new();
    let mut after_keyword = false;
    for tree in tokens {
        match tree {
            TokenTree::Group(group) => names.extend(names_in_macro(group.stream())),
            TokenTree::Ident(word) if after_keyword => names.push(word.to_string()),
            TokenTree::Ident(word) => {
                let keywords = ["const", "enum", "fn", "static", "struct"];
                after_keyword = keywords.iter().any(|keyword| word == keyword);
                continue;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        after_keyword = false;
    }
    names
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

/// The leaves of a `use` tree.
#[derive(Default)]
struct Uses {
    /// The name in the module, and the path behind it.
    names: Vec<(String, Path)>,
    globs: Vec<Path>,
}

impl Uses {
    fn add(&mut self, tree: &UseTree, start: &mut Path) {
        match tree {
            UseTree::Path(tree) => {
                start.push(tree.ident.to_string());
                self.add(&tree.tree, start);
                start.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.add(item, start)),
            UseTree::Glob(_) => self.globs.push(start.clone()),
            UseTree::Name(leaf) => self.leaf(&leaf.ident.to_string(), None, start),
            UseTree::Rename(leaf) => {
                self.leaf(&leaf.ident.to_string(), Some(leaf.rename.to_string()), start);
            }
        }
    }

    fn leaf(&mut self, last: &str, rename: Option<String>, start: &Path) {
        let mut path = start.clone();
        // `a::{self}` names `a`.
        if last != "self" || path.is_empty() {
            path.push(last.to_owned());
        }
        let name = rename.or_else(|| path.last().cloned()).unwrap_or_default();
        self.names.push((name, path));
    }
}

/// Collects what an item names.
struct Names<'a> {
    module: &'a Path,
    source: &'a mut Source,
}

impl Names<'_> {
    fn add(&mut self, path: Path) {
        self.source.paths.push((self.module.clone(), path));
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Path::new();
        // Colons since the path's last segment: two of them continue it.
        let mut colons = 0;
        for tree in tokens {
            match tree {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(word) => {
                    self.source.unsafe_code |= word == "unsafe";
                    if colons != 2 {
                        self.add(std::mem::take(&mut path));
                    }
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Group(group) => {
                    self.add(std::mem::take(&mut path));
                    self.tokens(group.stream());
                    colons = 0;
                }
                _ => {
                    self.add(std::mem::take(&mut path));
                    colons = 0;
                }
            }
        }
        self.add(path);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        self.source.unsafe_code |= match item {
            Item::ForeignMod(item) => item.unsafety.is_some(),
            Item::Impl(item) => item.unsafety.is_some(),
            Item::Trait(item) => item.unsafety.is_some(),
            _ => false,
        };
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_const(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut uses = Uses::default();
        uses.add(&item.tree, &mut Vec::new());
        let named = uses.names.into_iter().map(|(_, path)| path);
        named.chain(uses.globs).for_each(|path| self.add(path));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.source.unsafe_code = true;
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        self.source.unsafe_attributes |= attribute.path().is_ident("unsafe");
        visit::visit_attribute(self, attribute);
    }

    fn visit_safety(&mut self, safety: &'ast syn::Safety) {
        self.source.unsafe_code |= matches!(safety, syn::Safety::Unsafe(_));
    }

    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        self.tokens(tokens.clone());
    }

    // `pub(in crate::a)` names no item.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let paths = read(&[], text).unwrap().paths.into_iter();
        paths.map(|(_, path)| path.join("::")).filter(|path| !path.is_empty()).collect()
    }

    #[test]
    fn a_use_tree_is_flattened() {
        let found = paths("use crate::{name::{Instance, NodeName as N}, peer::*, wire::{self}};");
        assert_eq!(
            found,
            ["crate::name::Instance", "crate::name::NodeName", "crate::wire", "crate::peer"]
        );
    }

    #[test]
    fn paths_in_expressions_types_and_macros_are_found() {
        let found = paths(
            "#[derive(serde::Serialize)] struct A;
             fn f(a: &crate::gate::Gate) -> Option<super::B> {
                 ::ureq::get(std::env::var(\"A\"));
                 format!(\"{}\", [crate::wire::NODE, c]);
                 use crate::local::Name;
             }",
        );
        for path in [
            "serde::Serialize",
            "crate::gate::Gate",
            "super::B",
            "ureq::get",
            "std::env::var",
            "crate::wire::NODE",
            "crate::local::Name",
        ] {
            assert!(found.iter().any(|one| one == path), "{path} in {found:?}");
        }
    }

    #[test]
    fn comments_literals_and_unit_tests_name_nothing() {
        let text = r####"
            //! unsafe crate::a
            /* crate::b /* unsafe */ crate::c */
            const A: &str = "crate::d \" unsafe"; const B: &[u8] = br##"crate::e "# unsafe"##;
            const C: (char, char) = ('"', '\''); fn f<'a>(x: &'a str) {}
            pub(in crate::visible) struct D;
            impl D { #[cfg(test)] fn f() { unsafe { crate::f::g() } } }
            #[cfg(test)]
            mod tests { fn f() { unsafe { crate::g::h() } } }
            #[cfg(test)] mod more;
            use crate::last;
            "####;
        let source = read(&[], text).unwrap();
        let found: Vec<_> = paths(text).into_iter().filter(|p| p.starts_with("crate")).collect();
        assert_eq!(found, ["crate::last"]);
        assert!(!source.unsafe_code);
    }

    #[test]
    fn each_kind_of_unsafe_code_is_found() {
        for text in [
            "fn f() { unsafe { g() } }",
            "unsafe fn f() {}",
            "unsafe impl Send for A {}",
            "unsafe trait A {}",
            "unsafe extern \"C\" { fn f(); }",
            "fn f() { vec![unsafe { g() }]; }",
            "#[cfg_attr(unix, unsafe(no_mangle))] fn f() {}",
        ] {
            assert!(read(&[], text).unwrap().unsafe_code, "{text}");
        }
        for text in [
            "#[unsafe(no_mangle)] fn f() {}",
            "#[unsafe(link_section = \".init_array\")] static A: u8 = 0;",
            "impl A { #[unsafe(export_name = \"g\")] fn f() {} }",
        ] {
            assert!(read(&[], text).unwrap().unsafe_attributes, "{text}");
        }
    }

    #[test]
    fn a_module_knows_what_its_names_stand_for() {
        let text = "use a::b as c; mod d; struct E; macro_rules! m { () => { pub enum J {} } } mod f { fn g() {} }
                    label_set! { /// Doc.
                    pub enum H { I = \"i\", } } fn d() {}";
        let source = read(&["x".to_owned()], text).unwrap();
        let module = &source.modules[&vec!["x".to_owned()]];
        let alias = Definition::Alias(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(module.names["c"], [alias]);
        assert_eq!(module.names["d"], [Definition::Module, Definition::Here]);
        for name in ["E", "m", "H", "J"] {
            assert_eq!(module.names[name], [Definition::Here], "{name}");
        }
        let inner = &source.modules[&vec!["x".to_owned(), "f".to_owned()]];
        assert_eq!(inner.names["g"], [Definition::Here]);
    }
}
