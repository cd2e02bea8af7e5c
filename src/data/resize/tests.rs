use sha2::{Digest, Sha256};

use super::*;
use crate::algebra::MOST;

/// Written by `pillow.py`, which says what the columns are.
const PILLOW: &str = include_str!("pillow.txt");

/// The same image as in `pillow.py`.
fn image(height: usize, width: usize, channels: usize) -> Vec<u8> {
    let mut state: u32 = 12_345;
    let mut values = vec![];
    for y in 0..height {
        for x in 0..width {
            for c in 0..channels {
                state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
                let smooth = ((3 * x + 5 * y + 40 * c) % 256) as u8;
                let edge = if (x / 3 + y / 4) % 2 == 1 { 255 } else { 0 };
                values.push([smooth, edge, (state >> 16) as u8][(x / 8 + y / 8) % 3]);
            }
        }
    }
    values
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_filter_gives_pillows_bytes() {
    // Whatever the processor has.
    for most in [16, 8, 4] {
        MOST.set(most);
        check_pillows_bytes();
    }
}

fn check_pillows_bytes() {
    let mut wrong = vec![];
    let mut seen = 0;
    for line in PILLOW.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let filter: Interpolation = words[0].parse().unwrap();
        let sizes: Vec<usize> = words[1..6].iter().map(|w| w.parse().unwrap()).collect();
        let [height, width, channels, new_height, new_width] = sizes[..] else {
            panic!("{line}")
        };
        let source = image(height, width, channels);
        let out = resize(
            &source,
            (height, width, channels),
            (new_height, new_width),
            filter,
        );
        let result = if out.len() <= 32 {
            hexadecimal(&out)
        } else {
            hexadecimal(&Sha256::digest(&out))
        };
        if result != words[6] {
            wrong.push(format!("{line}\n  got {result}"));
        }
        seen += 1;
    }
    assert_eq!(seen, 6 * 24);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn filters_read_back_what_they_print() {
    for (filter, name, id) in Interpolation::ALL {
        assert_eq!(
            name.to_uppercase().parse::<Interpolation>().unwrap(),
            filter
        );
        assert_eq!(Interpolation::from_pillow(id), Some(filter));
        assert_eq!(filter.name(), name);
    }
    assert!("cubic-ish".parse::<Interpolation>().is_err());
    assert_eq!(Interpolation::from_pillow(6), None);
}

#[test]
fn a_part_holds_the_pixels_of_the_whole() {
    for channels in [1, 2, 3] {
        let bytes: Vec<u8> = (0..37 * 23 * channels)
            .map(|at| (at * 31 % 251) as u8)
            .collect();
        for (height, width) in [(16, 21), (37, 11), (50, 23), (37, 23), (80, 90)] {
            let part = Part {
                rows: height / 5..height - 2,
                columns: width / 3..width - 1,
            };
            for (filter, ..) in Interpolation::ALL {
                let from = (37, 23, channels);
                let whole = resize(&bytes, from, (height, width), filter);
                let expected: Vec<u8> = (part.rows.clone())
                    .flat_map(|y| part.columns.clone().map(move |x| y * width + x))
                    .flat_map(|pixel| whole[pixel * channels..(pixel + 1) * channels].to_vec())
                    .collect();
                let seen = resize_part(&bytes, from, (height, width), &part, filter);
                assert!(
                    seen == expected,
                    "{filter:?} to {height}x{width}x{channels}"
                );
            }
        }
    }
}
