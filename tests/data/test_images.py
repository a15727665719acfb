import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from zoo.data.images import (
    VOID_COLOUR,
    Preprocess,
    colourize,
    overlay,
    read_image,
    read_mask,
    resize_image,
    write_atomically,
    write_ids,
    write_rgb,
)

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)
GREY = RGB[..., 0]
Image.init()  # Old ones of Pillow know no AVIF.
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 128, 255))


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def luma(rgb):
    """ITU-R BT.601 by hand."""
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


def grey_png(path, ids, bits):
    """A PNG of 1, 2 or 4 bits a pixel, put together from the specification's chunks."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    planes = (ids[..., None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(planes.reshape(len(ids), -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )
    return path


def test_reads_grey_and_rgb_as_either(tmp_path):
    rgb, grey = save(tmp_path / "rgb.png", RGB), save(tmp_path / "grey.png", GREY)
    np.testing.assert_array_equal(read_image(rgb, 3), RGB)
    np.testing.assert_array_equal(read_image(grey, 1), GREY[..., None])
    np.testing.assert_array_equal(read_image(grey, 3), np.repeat(GREY[..., None], 3, -1))
    np.testing.assert_allclose(read_image(rgb, 1)[..., 0], luma(RGB), atol=1)
    with pytest.raises(ValueError, match="1 or 3 channels, not 4"):
        read_image(rgb, 4)


def test_agrees_with_opencv_on_jpeg(tmp_path):
    smooth = cv2.resize(RGB, (64, 48), interpolation=cv2.INTER_CUBIC)
    path = save(tmp_path / "a.jpg", smooth, quality=95)
    want = cv2.imread(str(path))[..., ::-1].astype(int)
    assert np.abs(read_image(path, 3).astype(int) - want).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bit_grey_is_divided_by_257(tmp_path, suffix):
    deep = np.array([[0, 128, 129, 257, 30000, 65535]], np.uint16)
    path = tmp_path / f"deep.{suffix}"
    assert cv2.imwrite(str(path), deep)
    np.testing.assert_array_equal(read_image(path, 1)[..., 0], [[0, 0, 1, 1, 117, 255]])
    np.testing.assert_array_equal(read_image(path, 3)[0, -1], [255, 255, 255])


def test_sixteen_bit_colour(tmp_path):
    path = tmp_path / "deep.png"
    assert cv2.imwrite(str(path), RGB[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_allclose(read_image(path, 3).astype(int), RGB, atol=1)


def test_transparency_is_laid_on_black(tmp_path):
    alpha = RNG.integers(0, 256, GREY.shape, dtype=np.uint8)
    alpha[0] = 255
    path = save(tmp_path / "rgba.png", np.dstack([RGB, alpha]))
    want = RGB.astype(float) * alpha[..., None] / 255
    np.testing.assert_allclose(read_image(path, 3), want, atol=1)
    np.testing.assert_array_equal(read_image(path, 3)[0], RGB[0])
    np.testing.assert_allclose(read_image(path, 1)[..., 0], luma(want), atol=2)
    path = save(tmp_path / "la.png", np.dstack([GREY, alpha]))
    np.testing.assert_allclose(read_image(path, 1)[..., 0], GREY * (alpha / 255), atol=1)


def test_palettes_with_and_without_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "p.png")
    want = [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    np.testing.assert_array_equal(read_image(tmp_path / "p.png", 3), want)
    image.save(tmp_path / "t.png", transparency=1)
    want[0][1] = [0, 0, 0]
    np.testing.assert_array_equal(read_image(tmp_path / "t.png", 3), want)


@pytest.mark.parametrize("mode", ["1", "CMYK", "LAB"])
def test_other_modes_become_grey_or_rgb(tmp_path, mode):
    path = tmp_path / "a.tiff"
    image = Image.new(mode, (5, 7))
    image.save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    for channels in (1, 3):
        assert read_image(path, channels).shape == (7, 5, channels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_as_opencv_does(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = cv2.resize(RGB, (40, 56), interpolation=cv2.INTER_CUBIC)
    path = save(tmp_path / "a.jpg", smooth, quality=100, subsampling=0, exif=exif)
    want = cv2.imread(str(path))[..., ::-1].astype(int)
    got = read_image(path, 3)
    assert got.shape == want.shape == ((56, 40, 3) if orientation < 5 else (40, 56, 3))
    assert np.abs(got.astype(int) - want).max() <= 3


def test_refuses_what_is_no_picture_and_names_it(tmp_path):
    good = save(tmp_path / "good.png", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-2000])
    save(tmp_path / "whole.jpg", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-1000])
    save(tmp_path / "float.tiff", np.ones((3, 3), np.float32))
    save(tmp_path / "wide.tiff", np.full((3, 3), 70000, np.int32))
    pages = [Image.fromarray(GREY)] * 2
    pages[0].save(tmp_path / "stack.tiff", save_all=True, append_images=pages[1:])
    for name, why in {
        "missing.png": "not a file",
        "empty.png": "empty file",
        "text.png": "cannot be read as a picture",
        "cut.png": "cut short",
        "cut.jpg": "cut short",
        "float.tiff": "floating-point",
        "wide.tiff": "from 70000 to 70000, outside 16 bits",
        "stack.tiff": "holds several pages or frames; save each as a file",
    }.items():
        with pytest.raises(ValueError, match=f"{name}.*{why}"):
            read_image(tmp_path / name, 3)
    with pytest.raises(ValueError, match="not a file"):
        read_image(tmp_path, 3)


def test_any_damage_reads_or_is_a_value_error(tmp_path):
    rng = np.random.default_rng(1)
    for form in ("PNG", "JPEG", "TIFF", "GIF", "BMP"):
        buffer = io.BytesIO()
        Image.fromarray(RGB).save(buffer, form)
        for _ in range(60):
            data = np.frombuffer(buffer.getvalue(), np.uint8).copy()
            data[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
            (tmp_path / "a").write_bytes(data[: rng.integers(1, len(data) + 1)].tobytes())
            try:
                assert read_image(tmp_path / "a", 3).shape[-1] == 3
            except ValueError as error:
                assert str(tmp_path / "a") in str(error)
            except Warning:  # Pillow's own remarks on odd files are errors under pytest only.
                pass


@pytest.mark.parametrize("form", sorted({"GIF", "PNG", "WEBP", "AVIF"} & Image.SAVE_ALL.keys()))
def test_of_an_animation_no_frame_is_the_picture(tmp_path, form):
    """A mask's, too; a file of one frame is a picture as any other."""
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "one", form)
    assert read_image(tmp_path / "one", 3).shape == RGB.shape
    frames[0].save(tmp_path / "two", form, save_all=True, append_images=frames[1:])
    for read in (read_mask, lambda path: read_image(path, 3)):
        with pytest.raises(ValueError, match="two holds several pages or frames; save each"):
            read(tmp_path / "two")


def test_a_phone_s_preview_is_no_second_page(tmp_path):
    """An MPO, a JPEG with further ones behind it, as many phones write."""
    frames = [Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in (40, 200)]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO" and image.n_frames == 2
    assert (read_image(tmp_path / "a.jpg", 1) == 40).all()


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "bomb.png", RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match="bomb.png is larger than 20 pixels"):
        read_image(path, 3)


def test_masks_are_ids(tmp_path):
    ids = np.array([[0, 1, 2], [3, 11, 255]], np.uint8)
    image = Image.fromarray(ids)
    image.save(tmp_path / "grey.png")
    Image.fromarray(ids.astype(np.uint16)).save(tmp_path / "deep.png")
    image.putpalette(RNG.integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(tmp_path / "palette.png")
    for name in ("grey.png", "deep.png", "palette.png"):
        got = read_mask(tmp_path / name)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits_keep_their_ids(tmp_path, bits):
    ids = RNG.integers(0, 2**bits, (4, 8))
    np.testing.assert_array_equal(read_mask(grey_png(tmp_path / "a.png", ids, bits)), ids)


@pytest.mark.parametrize("kind", ["P2", "P5"])
def test_masks_keep_their_ids_whatever_maximum_their_file_names(tmp_path, kind):
    path = tmp_path / "a.pgm"
    for most in (*range(1, 256), 256, 300, 4095, 65534, 65535):
        ids = np.arange(min(most, 255) + 1, dtype=np.uint8)
        raw = ids.astype(">u2" if most > 255 else np.uint8).tobytes()
        body = raw if kind == "P5" else " ".join(map(str, ids)).encode()
        path.write_bytes(f"{kind} {len(ids)} 1 {most}\n".encode() + body)
        np.testing.assert_array_equal(read_mask(path), ids[None], err_msg=str(most))
    path.write_bytes(b"P2 2 1 300 7 256")
    with pytest.raises(ValueError, match=r"a.pgm holds ids from 7 to 256"):
        read_mask(path)
    path.with_suffix(".pbm").write_bytes(b"P1 2 1 1 0")
    np.testing.assert_array_equal(read_mask(path.with_suffix(".pbm")), [[0, 1]])


def test_masks_that_hold_no_ids_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"rgb.png has the mode RGB.*convert its colours to ids"):
        read_mask(save(tmp_path / "rgb.png", RGB))
    with pytest.raises(ValueError, match=r"a.jpg is a JPEG"):
        read_mask(save(tmp_path / "a.jpg", GREY))
    with pytest.raises(ValueError, match=r"a.png holds ids from 7 to 256"):
        read_mask(save(tmp_path / "a.png", np.array([[7, 256]], np.uint16)))
    with pytest.raises(ValueError, match="not a file"):
        read_mask(tmp_path / "missing.png")


def test_preprocess_normalises():
    prepare = Preprocess(3, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    want = (RGB / 255.0 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]
    got = prepare(RGB)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(prepare(RGB.astype(np.float32)), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_preprocess_shrinks_by_areas_and_grows_linearly(channels):
    image = RNG.integers(0, 256, (8, 12, channels), dtype=np.uint8)
    mean, std = (0.0,) * channels, (1.0,) * channels
    # Halving is the mean of 2x2 squares.
    got = Preprocess(channels, mean, std, (4, 6))(image)
    want = image.reshape(4, 2, 6, 2, channels).mean((1, 3)) / 255
    np.testing.assert_allclose(got, want, atol=1e-6)
    # Half the height by areas, then double the width: half-pixel centres weigh 1/4 and 3/4.
    got = Preprocess(channels, mean, std, (4, 24))(image)
    tall = image.reshape(4, 2, 12, channels).mean(1) / 255
    edged = np.pad(tall, ((0, 0), (1, 1), (0, 0)), "edge")
    want = np.empty((4, 24, channels))
    want[:, 0::2] = 0.25 * edged[:, :-2] + 0.75 * tall
    want[:, 1::2] = 0.75 * tall + 0.25 * edged[:, 2:]
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_image_keeps_the_dtype_and_the_channels(channels):
    image = np.full((6, 8, channels), 77, np.uint8)
    got = resize_image(image, (3, 10))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.full((3, 10, channels), 77))


def test_preprocess_refuses_what_does_not_fit():
    for wrong in ((0.5,), (0.3,) * 3), ((0.5,) * 3, (0.3, 0.0, 0.3)), ((0.5,) * 3, (0.3, 0.3)):
        with pytest.raises(ValueError, match="data.std must be 3 numbers each, std > 0; got"):
            Preprocess(3, *wrong)
    with pytest.raises(ValueError, match="at least 1x1"):
        Preprocess(1, (0.5,), (0.5,), (0, 4))
    for wrong in (RGB, GREY):
        with pytest.raises(ValueError, match=r"needs a picture \[h, w, 1\]"):
            Preprocess(1, (0.5,), (0.5,))(wrong)


def test_colourize_and_overlay_by_hand():
    ids = np.array([[0, 1], [2, 255]])
    want = np.array([[COLOURS[0], COLOURS[1]], [COLOURS[2], VOID_COLOUR]])
    np.testing.assert_array_equal(colourize(ids, COLOURS, 255), want)
    grey = np.full((2, 2, 1), 100, np.uint8)
    mixed = overlay(grey, ids, COLOURS, 255)
    assert mixed.dtype == np.uint8
    # Bare where void, and where black: a background is not to be darkened.
    np.testing.assert_array_equal(mixed, [[[100] * 3, [178, 50, 50]], [[50, 114, 178], [100] * 3]])
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=rf"ids \[{wrong}\] are neither one of the 3 classes"):
            colourize(np.array([[wrong]]), COLOURS, 255)


def test_written_ids_are_read_back_and_coloured(tmp_path):
    ids = RNG.choice([0, 1, 2, 11], (9, 6))
    path = tmp_path / "ids.png"
    write_ids(path, ids, COLOURS, ignore_label=11)
    np.testing.assert_array_equal(read_mask(path), ids)
    with Image.open(path) as image:
        assert image.mode == "P"
    np.testing.assert_array_equal(read_image(path, 3), colourize(ids, COLOURS, 11))
    write_rgb(tmp_path / "rgb.png", RGB)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "rgb.png"))[..., ::-1], RGB)
    with pytest.raises(ValueError, match="neither"):
        write_ids(path, np.array([[7]]), COLOURS, 11)
    assert sorted(os.listdir(tmp_path)) == ["ids.png", "rgb.png"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, lambda file: file.write(b"old"))

    def full(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]
