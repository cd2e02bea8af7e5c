use super::*;
use crate::data::fixtures::{folder, gzip, tar, tar_header};

/// Names, offsets and contents of all members.
fn seen(name: &str, archive: Vec<u8>) -> Read<Vec<(String, u64, Vec<u8>)>> {
    let folder = folder(&[(name, archive)]);
    let path = folder.path().join(name);
    let packing = packing(&path).unwrap();
    let mut found = vec![];
    walk(&path, packing, 1 << 20, |member, bytes| {
        let mut content = vec![];
        bytes.read_to_end(&mut content)?;
        found.push((member.name.clone(), member.offset, content));
        Ok(())
    })?;
    Ok(found)
}

fn message<T: std::fmt::Debug>(found: Read<T>) -> String {
    found.unwrap_err().text()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.resize(bytes.len().next_multiple_of(512), 0);
    all
}

#[test]
fn members_are_found_with_their_places_plain_and_gzipped() {
    let long = format!("{}/x.png", "deep".repeat(60));
    let archive = tar(&[("a.png", b"first"), (&long, b"second"), ("./b", b"")]);
    let plain = seen("a.tar", archive.clone()).unwrap();
    let sizes: Vec<usize> = plain.iter().map(|(.., content)| content.len()).collect();
    assert_eq!(sizes, [5, 6, 0]);
    let names: Vec<&str> = plain.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["a.png", &long, "./b"]);
    for (_, offset, content) in &plain {
        let at = *offset as usize;
        assert_eq!(&archive[at..at + content.len()], content.as_slice());
    }
    assert_eq!(seen("a.tar.gz", gzip(&archive)).unwrap(), plain);
    // What it is follows from its first block, not from its name.
    assert_eq!(seen("whatever", gzip(&archive)).unwrap(), plain);
}

#[test]
fn pax_headers_carry_names() {
    let record = |text: &str| {
        let length = text.len() + 3;
        format!("{length} {text}\n").into_bytes()
    };
    let pax = record("path=long/name.jpg");
    let archive = |pax: &[u8]| {
        [
            tar_header(EntryType::XHeader, "pax", pax.len() as u64),
            padded(pax),
            tar_header(EntryType::Regular, "short", 2),
            padded(b"ab"),
            vec![0; 1024],
        ]
        .concat()
    };
    let found = seen("a.tar", archive(&pax)).unwrap();
    assert_eq!(found, [("long/name.jpg".to_owned(), 1536, b"ab".to_vec())]);
    let cases: [(&[u8], &str); 4] = [
        (b"99 path=x\n", "broken pax header"),
        (b"x path=y\n", "broken pax header"),
        (b"1 ", "broken pax header"),
        (&record("size=99999999999"), "more than 8 GiB"),
    ];
    for (pax, part) in cases {
        let message = message(seen("a.tar", archive(pax)));
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn hostile_archives_are_refused() {
    let whole = tar(&[("a.png", &[7; 700]), ("b.png", &[8; 700])]);
    let mut checksum = whole.clone();
    checksum[150] ^= 1;
    let end = vec![0; 1024];
    let huge = |kind, size| [tar_header(kind, "a.png", size), end.clone()].concat();
    let packed = gzip(&whole);
    let cases = [
        ("cut in a header", whole[..100].to_vec(), "truncated"),
        ("cut in a member", whole[..900].to_vec(), "truncated"),
        (
            "cut in the last member",
            whole[..2200].to_vec(),
            "truncated",
        ),
        ("without its end", whole[..3072].to_vec(), "truncated"),
        ("gzip cut", packed[..packed.len() - 9].to_vec(), "truncated"),
        ("wrong checksum", checksum, "no readable tar archive"),
        (
            "climbs out",
            [
                tar_header(EntryType::Regular, "../../etc/passwd", 0),
                end.clone(),
            ]
            .concat(),
            "climbs out of the archive",
        ),
        (
            "size of 8 GiB",
            huge(EntryType::Regular, 0o77_777_777_777),
            "truncated",
        ),
        (
            "a name of 2 GiB",
            huge(EntryType::GNULongName, 1 << 31),
            "a name of 2.0 GiB, the limit is 64.0 KiB",
        ),
        (
            "bomb",
            gzip(
                &[
                    tar_header(EntryType::Regular, "a.png", 3 << 20),
                    vec![0; 3 << 20],
                    end,
                ]
                .concat(),
            ),
            "unpacks to more than the limit of 1.0 MiB",
        ),
    ];
    for (caption, archive, part) in cases {
        let message = message(seen("a.tar", archive));
        assert!(message.contains(part), "{caption}: {message}");
    }
}

#[test]
fn links_and_devices_are_passed_over() {
    let kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::GNUSparse,
    ];
    let mut archive: Vec<u8> = kinds
        .iter()
        .flat_map(|&kind| tar_header(kind, "x.png", 0))
        .collect();
    archive.extend(tar(&[("y.png", b"1")]));
    let found = seen("a.tar", archive).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "y.png");
}

#[test]
fn a_section_is_a_stream_of_its_own() {
    let folder = folder(&[("a", (0..100).collect())]);
    let open = || File::open(folder.path().join("a")).unwrap();
    let mut section = Section::new(open(), 10, 5).unwrap();
    let mut bytes = vec![];
    section.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [10, 11, 12, 13, 14]);
    assert_eq!(section.seek(SeekFrom::End(-2)).unwrap(), 3);
    bytes.clear();
    section.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [13, 14]);
    assert_eq!(section.seek(SeekFrom::Current(-5)).unwrap(), 0);
    assert!(section.seek(SeekFrom::Current(-1)).is_err());
}
