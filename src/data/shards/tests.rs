use super::*;

#[test]
fn braces_mean_what_they_mean_in_a_shell() {
    let cases: [(&str, &[&str]); 7] = [
        ("a.tar", &["a.tar"]),
        ("a-{0..2}.tar", &["a-0.tar", "a-1.tar", "a-2.tar"]),
        ("a-{08..10}.tar", &["a-08.tar", "a-09.tar", "a-10.tar"]),
        ("{b,a}/x", &["b/x", "a/x"]),
        ("{0..1}-{a,b}", &["0-a", "0-b", "1-a", "1-b"]),
        ("a-{7..7}", &["a-7"]),
        ("a}b{", &["a}b{"]),
    ];
    for (path, expected) in cases {
        let found = expand(Path::new(path)).unwrap();
        let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn ranges_that_go_nowhere_or_on_for_ever_are_refused() {
    let cases = [
        ("{2..1}", "no list and no range"),
        ("{}", "no list and no range"),
        ("{a}", "no list and no range"),
        ("{1..}", "no list and no range"),
        ("{-1..2}", "no list and no range"),
        ("{0..18446744073709551615}", "more than 100,000 files"),
        ("{0..999}{0..999}", "more than 100,000 files"),
        (
            "{18446744073709551615..18446744073709551615}{0..100001}",
            "more than 100,000 files",
        ),
    ];
    for (path, part) in cases {
        let error = expand(Path::new(path)).unwrap_err().to_string();
        assert!(error.contains(part), "{path}: {error}");
    }
}
