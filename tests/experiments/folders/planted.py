"""Clean folders of tiny pictures, and faults planted in them by hand.

A fault is a function that spoils a clean folder and returns what `check` must say of it: the kind,
the file to be named and whether it must be mended. Nothing of zoo is used.
"""

import numpy as np
from PIL import Image

RNG = np.random.default_rng
SIZE = (48, 40)  # (w, h)


def picture(seed, size=SIZE):
    """Coarse noise, enlarged: no two are alike."""
    coarse = RNG(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def ids(seed):
    """Two rectangles, of the classes 1 and 2, on 0."""
    label = np.zeros(SIZE[::-1], np.uint8)
    top, left = RNG(seed).integers(0, 8, 2)
    label[top : top + 12, left : left + 14] = 1
    label[20 + top : 31 + top, 20 + left : 32 + left] = 2
    return label


def save(label, file):
    Image.fromarray(label).save(file)


def clean(root, splits=("train", "val"), count=5):
    """ROOT/split/images/pN.png and ROOT/split/masks/pN.png."""
    for s, split in enumerate(splits):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for i in range(count):
            picture(10 * s + i).save(root / split / "images" / f"p{s}{i}.png")
            save(ids(10 * s + i), root / split / "masks" / f"p{s}{i}.png")
    return root


def clean_classes(root, splits=("train", "val")):
    """ROOT/split/class/N.png, four pictures of two classes in each."""
    for s, split in enumerate(splits):
        for c, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                picture(100 * s + 10 * c + i).save(root / split / name / f"{i}.png")
    return root


def image(root, n=1, split=0):
    return root / ("train", "val")[split] / "images" / f"p{split}{n}.png"


def mask(root, n=1, split=0):
    return root / ("train", "val")[split] / "masks" / f"p{split}{n}.png"


def empty_file(root):
    image(root).write_bytes(b"")
    return "unreadable", image(root)


def truncated_picture(root):
    file = image(root, 2)
    file.write_bytes(file.read_bytes()[:-200])
    return "unreadable", file


def text_for_a_picture(root):
    image(root, 3).write_text("no picture")
    return "unreadable", image(root, 3)


def truncated_mask(root):
    file = mask(root, 2, 1)
    file.write_bytes(file.read_bytes()[:60])
    return "unreadable", file


def text_for_a_mask(root):
    mask(root, 4).write_text("no mask")
    return "unreadable", mask(root, 4)


def small_mask(root):
    save(ids(1)[:-3], mask(root))
    return "size", mask(root)


def large_picture(root):
    picture(3, (50, 40)).save(image(root, 3))
    return "size", mask(root, 3)


def coloured_mask(root):
    colours = np.array([(0, 0, 0), (200, 0, 0), (0, 200, 0)], np.uint8)
    save(colours[ids(2)], mask(root, 2))
    return "values", mask(root, 2)


def float_mask(root):
    mask(root, 3).unlink()
    file = mask(root, 3).with_suffix(".tif")
    save(ids(3).astype(np.float32), file)
    return "mode", file


def float_picture(root):
    image(root, 4).unlink()
    file = image(root, 4).with_suffix(".tif")
    save(np.asarray(picture(4).convert("L"), np.float32), file)
    return "mode", file


def jpeg_mask(root):
    mask(root).unlink()
    file = mask(root).with_suffix(".jpg")
    Image.fromarray(ids(1) * 100).save(file, quality=60)
    return "mode", file


def sixteen_bit_mask(root):
    save(ids(2).astype(np.uint16) * 4000, mask(root, 2))
    return "mode", mask(root, 2)


def picture_without_mask(root):
    mask(root, 1, 1).unlink()
    return "unmatched", image(root, 1, 1)


def mask_without_picture(root):
    image(root, 0).unlink()
    return "unmatched", mask(root, 0)


def two_of_one_name(root):
    picture(77).save(image(root).with_suffix(".jpg"))
    return "name", image(root)


def smooth_edges(root):
    large = Image.fromarray(ids(3) * 100).resize((2 * SIZE[0], 2 * SIZE[1]))
    large.resize(SIZE, Image.Resampling.BICUBIC).rotate(20, Image.Resampling.BICUBIC).save(
        mask(root, 3)
    )
    return "values", mask(root, 3)


def one_wrong_pixel(root):
    label = ids(4)
    label[0, 0] = 200
    save(label, mask(root, 4))
    return "values", mask(root, 4)


def id_not_in_the_table(root):
    (root / "classes.csv").write_text("name,id\nground,0\nhouse,1\ntree,2\n")
    label = ids(0)
    label[label == 2] = 7
    save(label, mask(root, 0, 1))
    return "values", mask(root, 0, 1)


def empty_mask(root):
    save(np.zeros_like(ids(0)), mask(root, 2))
    return "empty", mask(root, 2), "warning"


def class_of_validation_alone(root):
    label = ids(12)
    label[label == 2] = 3
    save(label, mask(root, 2, 1))
    return "split", mask(root, 2, 1)


def class_of_training_alone(root):
    label = ids(2)
    label[label == 1] = 3
    save(label, mask(root, 2))
    return "split", mask(root, 2), "warning"


def rare_class(root):
    for split in (0, 1):
        label = ids(10 * split)
        label[38:40, 0:2] = 4
        save(label, mask(root, 0, split))
    return "imbalance", mask(root, 0), "warning"


def picture_in_two_splits(root):
    image(root, 2, 1).write_bytes(image(root, 3).read_bytes())
    return "duplicate", image(root, 3)


def nearly_one_in_two_splits(root):
    """Brighter, a little smaller than it was and back, and through a JPEG."""
    changed = picture(1).point(lambda v: 0.85 * v + 20).resize((44, 37)).resize(SIZE)
    file = image(root, 0, 1)
    file.unlink()
    changed.save(file.with_suffix(".jpg"), quality=85)
    return "duplicate", image(root, 1)


def twice_in_one_split(root):
    picture(1).save(image(root, 3))
    return "duplicate", image(root, 1), "warning"


def with_exif(file, orientation, pixels):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels.save(file, exif=exif)


def turned_by_exif(root):
    """Stored lying, shown upright; the mask was drawn on what is stored."""
    with_exif(image(root, 3), 6, picture(3))
    return "exif", image(root, 3)


def upside_down_by_exif(root):
    with_exif(image(root, 4), 3, picture(4))
    return "exif", image(root, 4), "warning"


def another_palette(root):
    for n, colours in ((0, (9, 9, 9, 200, 0, 0, 0, 200, 0)), (1, (9, 9, 9, 0, 200, 0, 200, 0, 0))):
        paletted = Image.fromarray(ids(n))
        paletted.putpalette(colours)
        paletted.save(mask(root, n))
    return "classes", mask(root, 1)


def of_two_values(root, odd):
    """All masks of 0 and 255, but for one with `odd` of a 1 in its corner."""
    for split in (0, 1):
        for n in range(5):
            save((ids(10 * split + n) > 0).astype(np.uint8) * 255, mask(root, n, split))
    label = (ids(2) > 0).astype(np.uint8) * 255
    label[:odd, :odd] = 1
    save(label, mask(root, 2))


def one_speck_beside_255(root):
    of_two_values(root, 1)
    return "values", mask(root, 2)


def one_mask_of_1_among_255(root):
    of_two_values(root, 0)
    save((ids(2) > 0).astype(np.uint8), mask(root, 2))
    return "classes", mask(root, 2)


def one_id_twice_in_the_table(root):
    (root / "classes.csv").write_text("name,id\nground,0\nhouse,1\ntree,1\nroad,2\n")
    return "classes", root / "classes.csv"


MASKS = [
    empty_file, truncated_picture, text_for_a_picture, truncated_mask, text_for_a_mask, small_mask,
    large_picture, coloured_mask, float_mask, float_picture, jpeg_mask, sixteen_bit_mask,
    picture_without_mask, mask_without_picture, two_of_one_name, smooth_edges, one_wrong_pixel,
    id_not_in_the_table, empty_mask, class_of_validation_alone, class_of_training_alone,
    rare_class, picture_in_two_splits, nearly_one_in_two_splits, twice_in_one_split,
    turned_by_exif, upside_down_by_exif, another_palette,
    one_speck_beside_255, one_mask_of_1_among_255, one_id_twice_in_the_table,
]  # fmt: skip


def class_of_one(root):
    for n in (1, 2, 3):
        (root / "train" / "dog" / f"{n}.png").unlink()
    return "class", root / "train" / "dog" / "0.png"


def unreadable_in_a_class(root):
    (root / "val" / "cat" / "2.png").write_bytes(b"\x89PNG")
    return "unreadable", root / "val" / "cat" / "2.png"


def picture_of_two_classes(root):
    picture(12).save(root / "train" / "cat" / "3.png")  # The third of the dogs.
    return "duplicate", root / "train" / "cat" / "3.png"


def nearly_one_of_two_classes(root):
    picture(12).point(lambda v: 0.7 * v + 30).save(root / "train" / "cat" / "3.png")
    return "duplicate", root / "train" / "cat" / "3.png", "warning"


def picture_of_two_splits(root):
    picture(101).save(root / "train" / "cat" / "2.png")
    return "duplicate", root / "train" / "cat" / "2.png"


def class_of_none(root):
    (root / "bird").mkdir()
    return "class", root / "bird"


CLASSES = [class_of_one, unreadable_in_a_class, picture_of_two_classes, nearly_one_of_two_classes,
           picture_of_two_splits, class_of_none]  # fmt: skip
# Folders with several faults at once, which leave one another's files alone.
SEVERAL = [
    (empty_file, truncated_picture, truncated_mask, text_for_a_mask, picture_without_mask),
    (small_mask, coloured_mask, one_wrong_pixel, id_not_in_the_table, mask_without_picture),
    (jpeg_mask, sixteen_bit_mask, smooth_edges, float_picture, empty_file),
    (picture_in_two_splits, empty_mask, nearly_one_in_two_splits, text_for_a_mask),
    (turned_by_exif, upside_down_by_exif, rare_class, small_mask, class_of_validation_alone),
]
