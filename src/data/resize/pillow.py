"""Writes the expected results of `tests.rs` with Pillow itself.

    pip install pillow==12.1.1
    python pillow.py > pillow.txt

Per line: filter, height, width, channels of the image, height and width asked for, result. The result is given
as hexadecimal bytes where it is short, else as its SHA-256.

Pillow 13.0.0 gives other bytes for some of these: see the head of `../resize.rs`.
"""

import hashlib

import PIL
from PIL import Image

SIZES = [
    # height, width, channels, new height, new width
    (1, 1, 1, 3, 2),
    (4, 5, 1, 2, 3),
    (3, 3, 3, 4, 2),
    (7, 5, 1, 7, 3),
    (5, 7, 1, 2, 7),
    (28, 28, 1, 32, 32),
    (32, 32, 3, 224, 224),
    (97, 61, 3, 64, 64),
    (375, 500, 3, 256, 341),
    (256, 341, 3, 28, 28),
    (600, 2, 1, 7, 96),
    (333, 500, 3, 299, 299),
    (13, 200, 3, 200, 13),
    # one pixel, one row, one column, huge ratios
    (1, 1, 3, 1, 1),
    (1, 1, 3, 16, 24),
    (1, 9, 1, 1, 4),
    (9, 1, 1, 4, 1),
    (1, 4000, 3, 8, 8),
    (4000, 1, 3, 8, 8),
    (2, 3000, 1, 300, 2),
    (3000, 2, 1, 2, 300),
    (31, 17, 3, 1, 1),
    (5, 5, 1, 400, 1),
    (1024, 1023, 1, 3, 1000),
]


def image(height, width, channels):
    """Smooth parts, edges from black to white and noise, so that clipping and rounding both happen."""
    values = bytearray()
    state = 12345
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                state = (state * 1103515245 + 12345) % 2**31
                smooth = (3 * x + 5 * y + 40 * c) % 256
                edge = 255 if (x // 3 + y // 4) % 2 else 0
                values.append([smooth, edge, state >> 16 & 255][(x // 8 + y // 8) % 3])
    return Image.frombytes("L" if channels == 1 else "RGB", (width, height), bytes(values))


def main():
    print(f"# Pillow {PIL.__version__}, by pillow.py")
    for filter in ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]:
        for height, width, channels, new_height, new_width in SIZES:
            source = image(height, width, channels)
            out = source.resize((new_width, new_height), Image.Resampling[filter.upper()]).tobytes()
            result = out.hex() if len(out) <= 32 else hashlib.sha256(out).hexdigest()
            print(filter, height, width, channels, new_height, new_width, result)


main()
