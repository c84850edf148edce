"""Pictures made smaller with Pillow, in C."""

from __future__ import annotations

import io

from PIL import Image, ImageFilter
from pool import pooled

from throughput import parse_options

made = io.BytesIO()
Image.effect_noise((1600, 1200), 80).convert("RGB").save(made, "JPEG", quality=85)
PICTURE = made.getvalue()


def shrink(number: int) -> int:
    """One picture."""
    picture = Image.open(io.BytesIO(PICTURE)).resize((800, 600), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.filter(ImageFilter.GaussianBlur(2)).save(out, "JPEG")
    return len(out.getvalue())


if __name__ == "__main__":
    pooled(shrink, parse_options(__doc__), unit="pictures")
