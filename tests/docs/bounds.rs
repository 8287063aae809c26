//! The table of bounds in docs/security.md against the constants and the tests.

use syn::{BinOp, Expr, Item, Lit};
use wylis_harness::bounds::{Bound, documented};

use super::{read, root};

/// The value of a constant's expression: products, shifts and durations of literals.
fn value(expression: &Expr) -> Option<f64> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().ok(),
            Lit::Float(number) => number.base10_parse().ok(),
            _ => None,
        },
        Expr::Binary(binary) => {
            let (left, right) = (value(&binary.left)?, value(&binary.right)?);
            match binary.op {
                BinOp::Mul(_) => Some(left * right),
                BinOp::Shl(_) => Some(left * right.exp2()),
                _ => None,
            }
        }
        Expr::Call(call) => {
            let Expr::Path(function) = &*call.func else { return None };
            let argument = value(call.args.first()?)?;
            match function.path.segments.last()?.ident.to_string().as_str() {
                "from_secs" => Some(argument),
                "from_millis" => Some(argument / 1000.0),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The value of a constant at the top level of a file.
fn constant(text: &str, name: &str) -> Option<f64> {
    let file = syn::parse_file(text).ok()?;
    let found = file.items.iter().find_map(|item| match item {
        Item::Const(item) if item.ident == name => Some(&item.expr),
        _ => None,
    });
    value(found?)
}

/// The text of the test `TARGET::…::NAME`, or of `lib::…::NAME` in `src/`; modules are files.
fn test_body(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split("::").collect();
    let (name, target) = (parts.pop()?, parts.first().copied()?);
    let modules = parts.get(1..).unwrap_or_default().join("/");
    let candidates = if target == "lib" {
        let module = modules.strip_suffix("/tests").unwrap_or(&modules).to_owned();
        vec![format!("src/{module}.rs"), format!("src/{modules}.rs")]
    } else if modules.is_empty() {
        vec![format!("tests/{target}/main.rs")]
    } else {
        vec![format!("tests/{target}/{modules}.rs")]
    };
    let texts = candidates.iter().filter(|file| root().join(file).exists()).map(|file| read(file));
    texts.into_iter().find_map(|text| {
        let start = text.find(&format!("fn {name}("))?;
        let before = text.get(..start)?.trim_end();
        let attributes = before.rsplit_once("\n\n").map_or(before, |(_, attributes)| attributes);
        attributes.contains("#[test]").then_some(())?;
        // A test at the top level ends with a brace in its own column.
        let body = text.get(start..)?;
        let indent = before.lines().last()?.len() - before.lines().last()?.trim_start().len();
        let end = body.find(&format!("\n{}}}", " ".repeat(indent)))?;
        Some(body.get(..end)?.to_owned())
    })
}

fn fault(bound: &Bound) -> Option<String> {
    let Bound { constant: name, file, value, worst, test, .. } = bound;
    let text = read(file);
    let Some(actual) = constant(&text, name) else {
        return Some(format!("{file} has no constant {name} with a value that can be read"));
    };
    if (actual - value).abs() > value * 1e-9 {
        return Some(format!("{name} is {actual} in {file}, {value} in the document"));
    }
    if worst > value {
        return Some(format!("{name}: the worst case {worst} exceeds the bound {value}"));
    }
    let Some(body) = test_body(test) else { return Some(format!("{name}: no test {test}")) };
    let asserts = body.contains(&format!("worst_case(\"{name}\")"));
    (!asserts).then(|| format!("{test} does not compare with worst_case(\"{name}\")"))
}

#[test]
fn each_bound_has_its_constant_and_a_test_that_measures_it() {
    let faults: Vec<String> = documented().iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_wrong_row_is_found() {
    let row = documented().into_iter().next().unwrap();
    let with = |change: fn(&mut Bound)| {
        let mut row = row.clone();
        change(&mut row);
        fault(&row).is_some()
    };
    assert!(!with(|_| {}));
    assert!(with(|row| row.value *= 2.0));
    assert!(with(|row| row.worst = row.value + 1.0));
    assert!(with(|row| row.constant.push('X')));
    assert!(with(|row| row.test.push('x')));
    assert!(with(|row| row.test = "docs::bounds::a_wrong_row_is_found".to_owned()));
}

#[test]
fn constants_are_evaluated() {
    let text = "const A: usize = 64 * 1024; pub const B: Duration = Duration::from_millis(500); \
                const C: u64 = 1 << 20; const D: usize = f();";
    assert_eq!(constant(text, "A"), Some(65_536.0));
    assert_eq!(constant(text, "B"), Some(0.5));
    assert_eq!(constant(text, "C"), Some(1_048_576.0));
    assert_eq!(constant(text, "D"), None);
}
