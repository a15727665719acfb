"""Pictures as requests bring them, and class ids as answers give them."""

import base64
import io

import numpy as np
from fastapi import HTTPException, UploadFile
from PIL import Image

from zoo.data.images import ids_image, read_image
from zoo.data.info import Info

MAX_PIXELS = 2**25  # 100 MB when decoded.
MAX_SCANS = 1000  # Of a JPEG; each takes 50 bytes and a pass over all pixels. libjpeg writes 10.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # By content; others can start programs.


def read(upload: UploadFile, channels: int) -> np.ndarray:
    """As `read_image`; raises HTTPException with the status that fits."""
    name, file = upload.filename, upload.file
    try:
        with Image.open(file, formats=FORMATS) as header:
            if header.width * header.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if header.format in ("JPEG", "MPO"):
                file.seek(0)
                if file.read().count(b"\xff\xda") > MAX_SCANS:
                    raise ValueError(f"{name} has more than {MAX_SCANS} scans; save it anew.")
        return read_image(file, channels)
    except Image.DecompressionBombError as error:
        raise HTTPException(413, f"{name} has more than {MAX_PIXELS} pixels.") from error
    except ValueError as error:
        raise HTTPException(422, str(error).replace(str(file), name)) from error
    except Exception as error:
        raise HTTPException(415, f"{name} is none of {', '.join(FORMATS)} inside.") from error


def segmented(ids: np.ndarray, info: Info) -> dict:
    """[h, w] class ids as the API gives them."""
    file, shares = io.BytesIO(), np.bincount(ids.ravel(), minlength=info.num_classes) / ids.size
    # Laid over the picture, a background, which is black, would darken it.
    seen = bytes(255 * any(colour) for colour in info.colours)
    ids_image(ids, info.colours, info.ignore_label).save(file, "PNG", transparency=seen)
    rows = zip(info.class_names, info.colours, shares.tolist(), strict=True)
    classes = [
        {"id": n, "name": name, "colour": f"#{bytes(colour).hex()}", "share": share}
        for n, (name, colour, share) in enumerate(rows)
    ]
    return {"classes": classes, "ids_png": base64.b64encode(file.getvalue()).decode()}
