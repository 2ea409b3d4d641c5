//! The checkout is tidy, and every check notices the breach it is there for.

use super::*;
use metadata::Package;
use std::collections::BTreeSet;

/// A small tree in which every rule is kept.
fn model() -> Tree {
    let mut tree = Tree { setuid_lines: 10, ..Tree::default() };
    for (path, text) in [
        ("ARCHITECTURE.md", ARCHITECTURE),
        ("README.md", "See `runtime/src/sys.rs`, `docs/` and [the walk](ARCHITECTURE.md#walk).\n"),
        ("docs/api.md", "Codes: `not-found`.\n"),
        ("docs/admin.md", "Keys: `imagePath`.\n"),
        ("crates/gateway-api/src/error.rs", "//! E.\n\ncodes! {\n    A = \"not-found\", 404;\n}\n"),
        (
            "udiroot-conf/src/conf.rs",
            "//! C.\n\npub(crate) const KEYS: &[(&str, Form)] = &[\"imagePath\"];\n",
        ),
        ("gateway/Cargo.toml", "[lints]\nworkspace = true\n"),
        ("gateway/src/service/images.rs", "//! Rules.\nuse crate::store::Store;\n"),
        ("gateway/src/store/mod.rs", "//! The trait.\npub trait Store {}\n"),
        ("runtime/Cargo.toml", "[lints]\nworkspace = true\n"),
        ("runtime/src/sys.rs", "//! Calls.\nfn g() { unsafe { f() } }\n"),
        ("crates/image-ref/Cargo.toml", "[lints]\nworkspace = true\n"),
        ("crates/image-ref/src/lib.rs", "//! Names.\n#![forbid(unsafe_code)]\n"),
    ] {
        put(&mut tree, path, text);
    }
    put(&mut tree, "SECURITY.md", &rules(|number| format!("| R-{number} | rule | `g` |\n")));
    put(&mut tree, "runtime/tests/cases.rs", &cases());
    for (name, directory, uses) in [
        ("gateway", "gateway", vec!["image-ref", "axum"]),
        ("runtime", "runtime", vec!["image-ref", "libc"]),
        ("image-ref", "crates/image-ref", vec![]),
    ] {
        let package = Package {
            directory: directory.into(),
            dependencies: names(&uses),
            test_dependencies: BTreeSet::new(),
        };
        tree.packages.insert(name.into(), package);
    }
    tree.closures.insert("runtime".into(), names(&["image-ref", "libc"]));
    tree.closures.insert("spank-plugin".into(), names(&["image-ref", "nix"]));
    tree
}

const ARCHITECTURE: &str = "# Architecture

## The walk of `--image`

| step | who runs it | room (file) | in -> out |
|---|---|---|---|
| 1 | root | `runtime/src/{sys}.rs` | a -> b |

## Arrows

| crate | may use |
|---|---|
| `gateway`, `runtime` | `image-ref` |
| `image-ref` | nothing of ours |

## Where `unsafe` may stand

| file | for what |
|---|---|
| `runtime/src/sys.rs` | system calls |
";

/// SECURITY.md with a row for each rule, and one for each case.
fn rules(row: impl Fn(usize) -> String) -> String {
    let rows: String = (1..=48).map(row).collect();
    let mut text =
        format!("# Security\n\n## Rules\n\n| rule | says | shown by |\n|---|---|---|\n{rows}\n");
    for (heading, letter, last) in CASES {
        text += &format!("## {heading}\n\n| case | what | shown by |\n|---|---|---|\n");
        for number in 1..=last {
            let test = format!("{}{number:02}_g", letter.to_lowercase());
            text += &format!("| {letter}{number:02} | case | `{test}`, `g` |\n");
        }
        text.push('\n');
    }
    text
}

/// A test for each case.
fn cases() -> String {
    let of_letter = |(_, letter, last): (&str, &str, usize)| {
        let head = format!("fn {}", letter.to_lowercase());
        (1..=last).map(|number| format!("{head}{number:02}_g() {{}}\n")).collect::<String>()
    };
    format!("//! Cases.\n\n{}", CASES.map(of_letter).concat())
}

const CASES: [(&str, &str, usize); 3] =
    [("Runtime", "R", 50), ("Plugin", "P", 13), ("Hostile layers", "C", 18)];

/// The document with one more crate that may use nothing.
fn with_row_for(name: &str) -> String {
    ARCHITECTURE.replace("| `image-ref` | nothing", &format!("| `image-ref`, `{name}` | nothing"))
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(ToString::to_string).collect()
}

fn put(tree: &mut Tree, path: &str, text: &str) {
    let mut parent = path;
    while let Some((directory, _)) = parent.rsplit_once('/') {
        tree.directories.insert(directory.to_string());
        parent = directory;
    }
    tree.files.insert(path.to_string(), text.to_string());
}

/// Breaks the model with `breach` and expects one error that contains `expected`, and no other.
fn assert_found(breach: impl FnOnce(&mut Tree), expected: &str) {
    let mut tree = model();
    breach(&mut tree);
    let errors: Vec<String> =
        check(&tree).iter().filter(|finding| !finding.warning).map(ToString::to_string).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains(expected), "`{expected}` is not in `{}`", errors[0]);
}

fn depend(tree: &mut Tree, from: &str, to: &str) {
    tree.packages.get_mut(from).unwrap().dependencies.insert(to.into());
}

#[test]
fn the_checkout_is_tidy() {
    let tree = Tree::load(&crate::command::workspace_root()).unwrap();
    let findings = check(&tree);
    let errors: Vec<String> =
        findings.iter().filter(|finding| !finding.warning).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn a_model_that_keeps_every_rule_has_no_findings() {
    assert_eq!(check(&model()), []);
}

#[test]
fn an_arrow_that_the_table_lacks_is_found() {
    let back = |tree: &mut Tree| {
        tree.packages.insert(
            "munge".into(),
            Package { directory: "crates/munge".into(), ..Package::default() },
        );
        put(tree, "crates/munge/Cargo.toml", "[lints]\nworkspace = true\n");
        put(tree, "ARCHITECTURE.md", &with_row_for("munge"));
        depend(tree, "image-ref", "munge");
    };
    assert_found(back, "the arrow `image-ref -> munge` is not in ARCHITECTURE.md");
}

#[test]
fn an_arrow_that_nobody_draws_is_found() {
    let erase = |tree: &mut Tree| {
        tree.packages.get_mut("gateway").unwrap().dependencies.remove("image-ref");
    };
    assert_found(erase, "the arrow `gateway -> image-ref` is drawn by nobody");
}

#[test]
fn a_dependency_on_a_product_is_found_in_tests_too() {
    let tests_use_a_product = |tree: &mut Tree| {
        let package = tree.packages.get_mut("image-ref").unwrap();
        package.test_dependencies.insert("gateway".into());
    };
    assert_found(tests_use_a_product, "depends on `gateway`: products are run as programs");
}

#[test]
fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
    assert_found(
        |tree| {
            let package = Package { directory: "xtask".into(), ..Package::default() };
            tree.packages.insert("xtask".into(), package);
            put(tree, "xtask/Cargo.toml", "[lints]\nworkspace = true\n");
        },
        "its arrows leave out `xtask`",
    );
    assert_found(
        |tree| {
            put(tree, "ARCHITECTURE.md", &with_row_for("ghost"));
        },
        "its arrows name `ghost`",
    );
}

#[test]
fn a_crate_too_many_in_the_guarded_programs_is_found() {
    let extend = |guarded: &'static str, name: &'static str| {
        move |tree: &mut Tree| {
            tree.closures.get_mut(guarded).unwrap().insert(name.into());
        }
    };
    assert_found(extend("runtime", "nix"), "`nix` may not be linked into `runtime`");
    assert_found(extend("spank-plugin", "tokio"), "`tokio` may not be linked into `spank-plugin`");
}

#[test]
fn a_look_back_inside_the_gateway_is_found() {
    let write =
        |path: &'static str, text: &'static str| move |tree: &mut Tree| put(tree, path, text);
    assert_found(
        write("gateway/src/store/mod.rs", "//! S.\nuse crate::{service::Images};\n"),
        "gateway/src/store/mod.rs:2: `store` may not name `crate::service`",
    );
    assert_found(
        write("gateway/src/service/images.rs", "//! S.\nuse axum::Json;\n"),
        "`service` may not name `axum`",
    );
}

#[test]
fn a_path_that_is_not_there_is_found() {
    assert_found(
        |tree| put(tree, "README.md", "See `runtime/src/gone.rs`.\n"),
        "`runtime/src/gone.rs`",
    );
    assert_found(|tree| put(tree, "README.md", "See [it](docs/gone.md).\n"), "`docs/gone.md`");
    assert_found(
        |tree| {
            put(
                tree,
                "ARCHITECTURE.md",
                &ARCHITECTURE.replace("`runtime/src/{sys}.rs`", "the runtime"),
            )
        },
        "step 1 of the walk names no file",
    );
}

#[test]
fn an_oversized_file_is_found_unless_it_holds_tests_alone() {
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(600));
    assert_found(|tree| put(tree, "gateway/src/main.rs", &long), "601 lines; the limit is 600");
    let mut tree = model();
    put(&mut tree, "gateway/src/main/tests.rs", &long);
    put(&mut tree, "gateway/src/ask.rs", &format!("//! Ask.\n{}", "fn f() {}\n".repeat(400)));
    let findings = check(&tree);
    assert!(matches!(findings.as_slice(), [only] if only.warning), "{findings:#?}");
}

#[test]
fn a_stray_unsafe_is_found_and_a_word_in_a_comment_is_not() {
    assert_found(
        |tree| put(tree, "gateway/src/main.rs", "//! M.\n// unsafe\nfn f() { unsafe { g() } }\n"),
        "gateway/src/main.rs:3: `unsafe` may not stand here",
    );
    assert_found(
        |tree| put(tree, "runtime/src/sys.rs", "//! Safe now.\nfn g() {}\n"),
        "and it has none",
    );
}

#[test]
fn a_file_without_a_header_and_a_crate_without_lints_are_found() {
    assert_found(
        |tree| put(tree, "gateway/src/main.rs", "fn main() {}\n"),
        "does not open with `//!`",
    );
    assert_found(|tree| put(tree, "gateway/Cargo.toml", "[package]\n"), "has no `[lints]`");
}

#[test]
fn a_drawer_is_found() {
    assert_found(|tree| put(tree, "gateway/src/utils.rs", "//! U.\n"), "`utils` says nothing");
    assert_found(
        |tree| put(tree, "tests/tests/common/mod.rs", "//! U.\n"),
        "`common` says nothing",
    );
}

#[test]
fn a_set_user_id_set_over_its_budget_is_found() {
    let code = format!("//! Long.\n{}", "fn f() {}\n".repeat(10));
    assert_found(|tree| put(tree, "runtime/src/plan.rs", &code), "code lines; the cap is 10");
    let comments = format!("//! Long.\n{}", "// why\n".repeat(10));
    let mut tree = model();
    put(&mut tree, "runtime/src/plan.rs", &comments);
    put(&mut tree, "runtime/src/plan/tests.rs", &code);
    assert_eq!(check(&tree), []);
}

#[test]
fn code_that_the_set_user_id_program_is_built_without_is_not_counted_and_never_linked_into_it() {
    let code = format!("//! Long.\n{}", "fn f() {}\n".repeat(10));
    let declare = |attribute: &str| {
        let mut tree = model();
        let lib = format!("//! Names.\n#![forbid(unsafe_code)]\n{attribute}\nmod names;\n");
        put(&mut tree, "crates/image-ref/src/lib.rs", &lib);
        put(&mut tree, "crates/image-ref/src/names.rs", &code);
        put(&mut tree, "crates/image-ref/src/names/more.rs", &code);
        check(&tree).len()
    };
    assert_eq!(declare("#[cfg(feature = \"unprivileged\")]"), 0);
    assert_eq!(declare("#[cfg(feature = \"other\")]"), 1);
    assert_found(
        |tree| {
            let linked = tree.closures.get_mut("runtime").unwrap();
            linked.insert("image-ref/unprivileged".into());
        },
        "`image-ref/unprivileged` may not be linked into `runtime`",
    );
}

#[test]
fn a_word_of_the_code_that_the_documents_leave_out_is_found() {
    assert_found(
        |tree| put(tree, "docs/api.md", "Codes.\n"),
        "leaves out the error code `not-found`",
    );
    assert_found(
        |tree| put(tree, "udiroot-conf/src/conf.rs", "//! Moved.\n"),
        "tidy finds no list of every key of udiRoot.conf there",
    );
}

#[test]
fn a_rule_without_a_test_and_a_test_that_is_gone_are_found() {
    let document = |of_seven: &'static str| {
        move |tree: &mut Tree| {
            let text = rules(|number| match number {
                7 => of_seven.to_string(),
                _ => format!("| R-{number} | rule | `g` |\n"),
            });
            put(tree, "SECURITY.md", &text);
        }
    };
    assert_found(document(""), "leaves out R-7");
    assert_found(document("| R-7 | rule | by review |\n"), "R-7 names no test");
    assert_found(document("| R-7 | rule | `gone` |\n"), "R-7 names the test `gone`");
    let of_case = |old: &'static str, new: &'static str| {
        move |tree: &mut Tree| {
            let text = tree.text("SECURITY.md").replace(old, new);
            put(tree, "SECURITY.md", &text);
        }
    };
    assert_found(of_case("| P13 |", "| P14 |"), "leaves out P13");
    assert_found(of_case("`r50_g`, ", ""), "R50 names no test of its number");
    let gone = of_case("`c09_g`, `g`", "`c09_g`, `h`");
    assert_found(gone, "C09 names the test `h`, which is not there");
}
