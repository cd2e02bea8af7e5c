use super::super::fixtures::{failure, folder, options, png, read_all};
use crate::data::{Dataset, OnBadSample};

fn images() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a/1.png", png(2, 2, [10, 20, 30])),
        ("a/2.png", png(2, 2, [40, 50, 60])),
        ("a, b.png", png(2, 2, [70, 80, 90])),
    ]
}

#[test]
fn rows_are_samples_in_their_order() {
    let path_label = b"a/2.png,7\n./a/1.png,3\n\"a, b.png\",7\n";
    let named = b"\xef\xbb\xbfid,Label,Path,split\r\n1,dog,a/2.png,x\r\n2,cat,a/1.png,x\r\n3,dog,\"a, b.png\",x\r\n";
    struct Case {
        caption: &'static str,
        name: &'static str,
        table: &'static [u8],
        labels: Option<Vec<usize>>,
        names: Option<Vec<&'static str>>,
    }
    let cases = [
        Case {
            caption: "class numbers without a header",
            name: "t.csv",
            table: path_label,
            labels: Some(vec![7, 3, 7]),
            names: None,
        },
        Case {
            caption: "named columns and named classes",
            name: "t.CSV",
            table: named,
            labels: Some(vec![1, 0, 1]),
            names: Some(vec!["cat", "dog"]),
        },
        Case {
            caption: "tabs",
            name: "t.tsv",
            table: b"path\tlabel\na/2.png\t1\na/1.png\t0\na, b.png\t1\n",
            labels: Some(vec![1, 0, 1]),
            names: None,
        },
        Case {
            caption: "paths alone",
            name: "t.csv",
            table: b"a/2.png\na/1.png\n\"a, b.png\"",
            labels: None,
            names: None,
        },
        Case {
            caption: "a header without labels",
            name: "t.csv",
            table: b"path,width\na/2.png,2\na/1.png,2\n\"a, b.png\",2",
            labels: None,
            names: None,
        },
    ];
    for case in cases {
        let caption = case.caption;
        let mut files = images();
        files.push((case.name, case.table.to_vec()));
        let folder = folder(&files);
        let path = folder.path().join(case.name);
        let data = Dataset::open(&path, &options(&[3, 2, 2])).unwrap();
        assert_eq!(
            data.labels().map(<[usize]>::to_vec),
            case.labels,
            "{caption}"
        );
        let names = data.class_names().map(<[String]>::to_vec);
        let expected = case.names;
        assert_eq!(
            names,
            expected.map(|names| names.into_iter().map(str::to_owned).collect()),
            "{caption}"
        );
        let batch = data.read(&[0, 1, 2]).unwrap();
        let first: Vec<f32> = batch.values.iter().step_by(12).map(|v| v * 255.0).collect();
        assert_eq!(first, [40.0, 10.0, 70.0], "{caption}");
    }
}

#[test]
fn broken_tables_are_refused() {
    let cases: [(&str, &[u8], &str); 13] = [
        ("empty", b"", "is empty"),
        ("header alone", b"path,label\n", "has a header and no rows"),
        (
            "climbs out",
            b"../a.png,0\n",
            "row 1: \"../a.png\" leaves the folder",
        ),
        (
            "climbs out later",
            b"a/../../a.png,0\n",
            "leaves the folder",
        ),
        (
            "absolute",
            b"/etc/a.png,0\n",
            "\"/etc/a.png\" leaves the folder",
        ),
        (
            "no such columns",
            b"width,height\n1,2\n",
            "which column holds the paths",
        ),
        (
            "three columns, no header",
            b"a.png,1,2\n",
            "which column holds the paths",
        ),
        (
            "no label",
            b"path,label\na.png,1\nb.png\n",
            "row 3 has nothing in column 2",
        ),
        (
            "no path",
            b"path,label\n,1\n",
            "row 2 has nothing in column 1",
        ),
        (
            "negative class",
            b"a.png,1\nb.png,-1\n",
            "has the label \"-1\"",
        ),
        (
            "class that is no whole number",
            b"a.png,0.5\n",
            "has the label \"0.5\"",
        ),
        (
            "a name among numbers",
            b"a.png,1\nb.png,cat\n",
            "has the label \"cat\"",
        ),
        ("not UTF-8", b"a.png,1\nb\xff.png,0\n", "row 2 is not UTF-8"),
    ];
    for (caption, table, part) in cases {
        let message = failure("t.csv", table.to_vec(), &options(&[3, 2, 2]));
        assert!(message.contains(part), "{caption}: {message}");
    }
}

#[test]
fn files_that_are_not_there_are_bad_samples() {
    let mut files = images();
    let rows: String = (0..13).map(|i| format!("gone/{i:02}.png,1\n")).collect();
    files.push((
        "t.csv",
        format!("a/1.png,0\n{rows}a/2.png,2\n").into_bytes(),
    ));
    let folder = folder(&files);
    let path = folder.path().join("t.csv");
    let mut options = options(&[3, 2, 2]);
    let error = Dataset::open(&path, &options).err().unwrap().to_string();
    for part in [
        "13 of 15 images cannot be used",
        "gone/09.png: ",
        "and 3 more",
    ] {
        assert!(error.contains(part), "{error}");
    }
    options.on_bad_sample = OnBadSample::Skip;
    let data = Dataset::open(&path, &options).unwrap();
    assert_eq!(data.labels(), Some([0, 2].as_slice()));
    let skipped = data.skipped().unwrap();
    assert_eq!(
        (skipped.count, skipped.of, skipped.first.len()),
        (13, 15, 10)
    );
    assert_eq!(skipped.first[0].name, "gone/00.png");
    assert_eq!(read_all(&path, &options).unwrap().shape, [2, 3, 2, 2]);
    assert_eq!(data.state().unwrap().len(), 64);
}
