use super::*;

fn message(pickle: &[u8]) -> String {
    match Pickle::read(pickle) {
        Ok(read) => format!("no failure: {:?}", read.root()),
        Err(problem) => problem.text(),
    }
}

#[test]
fn values_come_out_as_python_means_them() {
    let int = |value| Value::Int(value);
    let cases: [(&[u8], Value); 12] = [
        (b"\x80\x02N.", Value::Nothing),
        (b"K\xff.", int(255)),
        (b"M\x10\x27.", int(10_000)),
        (b"J\xfe\xff\xff\xff.", int(-2)),
        (b"\x8a\x02\x00\xff.", int(-256)),
        (b"\x8a\x00.", int(0)),
        (b"\x88.", Value::Bool(true)),
        (b"U\x02ab.", Value::Bytes(2..4)),
        (b"X\x01\x00\x00\x00a.", Value::Bytes(5..6)),
        (b"K\x01K\x02\x86.", Value::Tuple(vec![Id(0), Id(1)])),
        (b"](K\x01K\x02e.", Value::List(vec![Id(1), Id(2)])),
        (
            b"cnumpy\ndtype\n.",
            Value::Global("numpy".to_owned(), "dtype".to_owned()),
        ),
    ];
    for (pickle, expected) in cases {
        let read = Pickle::read(pickle).unwrap();
        assert_eq!(read.root(), &expected, "{pickle:?}");
    }
}

#[test]
fn what_is_kept_is_recalled_and_keys_are_found() {
    // {"a": x, "b": x} with x = [5], as protocols 2 and 4 write it
    for pickle in [
        b"\x80\x02}q\x00(U\x01aq\x01]q\x02K\x05aU\x01bq\x03h\x02u.".as_slice(),
        b"\x80\x04}\x94(\x8c\x01a\x94]\x94K\x05a\x8c\x01b\x94h\x02u.",
    ] {
        let read = Pickle::read(pickle).unwrap();
        let a = read.entry(read.root(), "a").unwrap();
        assert!(matches!(a, Value::List(items) if read.value(items[0]) == &Value::Int(5)));
        assert_eq!(Some(a), read.entry(read.root(), "b"));
        assert_eq!(read.entry(read.root(), "c"), None);
    }
}

#[test]
fn calls_are_never_made() {
    // What `pickle.loads` would do: os.system("echo")
    let pickle = b"cos\nsystem\n(U\x04echotR.";
    let read = Pickle::read(pickle).unwrap();
    let Value::Called {
        function, state, ..
    } = read.root()
    else {
        panic!("{:?}", read.root());
    };
    assert_eq!(read.global(*function), Some(("os", "system")));
    assert_eq!(*state, None);
}

#[test]
fn broken_programs_are_refused() {
    let many = [b"(".as_slice(), &[b'N'; MOST_VALUES + 2], b"t."].concat();
    let again = [
        b"Nq\x00".as_slice(),
        &b"h\x00".repeat(MOST_VALUES + 2),
        b".",
    ]
    .concat();
    let cases: [(&[u8], &str); 13] = [
        (b"", "truncated"),
        (b"\x80", "truncated"),
        (b"U\x05ab.", "truncated"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.", "truncated"),
        (b"cnumpy", "truncated"),
        (b".", "takes more from its stack"),
        (b"K\x01\x86.", "takes more from its stack"),
        (b"t.", "takes more from its stack"),
        (b"h\x07.", "recalls the value 7 that it never kept"),
        (b"K\x01K\x02a.", "a value of the wrong kind"),
        (b"\x82\x01.", "opcode 0x82 at byte 0"),
        (&many, "more than 1048576 values"),
        (&again, "more than 1048576 values"),
    ];
    for (pickle, part) in cases {
        let message = message(pickle);
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn changed_bytes_never_end_the_run() {
    let whole = std::fs::read(crate::data::fixtures::repository(
        "tests/data/cifar-batch.pickle",
    ));
    let whole = whole.unwrap();
    let mut state = 5_u32;
    for _ in 0..3000 {
        let mut changed = whole[..400.min(whole.len())].to_vec();
        changed.extend(&whole[whole.len() - 60..]);
        for _ in 0..2 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (state >> 8) as usize % changed.len();
            changed[at] = (state >> 1) as u8;
        }
        // Either outcome will do.
        let _ = Pickle::read(&changed).is_ok();
    }
}
