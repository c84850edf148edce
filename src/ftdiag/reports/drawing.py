"""A picture of a few shapes, as SVG text or as a PNG file.

In: shapes in a plane whose origin is at the top left. Out: SVG, made here; or PNG, painted by Pillow, which
is an extra (`ftdiag[png]`): it knows fonts and compression, and nothing else of ftdiag needs it.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import UsageError
from ftdiag.reports.escaping import visible

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Place = tuple[float, float]

FINER: Final = 3
"""A PNG is painted so many times as large and made smaller: smooth edges."""
DASH: Final = (6.0, 4.0)
MAX_TEXT: Final = 120
NO_PILLOW: Final = "pip install 'ftdiag[png]'   brings what paints PNG files; .svg needs nothing"


@dataclass(frozen=True, slots=True)
class Line:
    """Straight lines from place to place."""

    places: tuple[Place, ...]
    colour: str
    width: float = 1.5
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Area:
    """A filled polygon; `opacity` from 0 to 1."""

    places: tuple[Place, ...]
    colour: str
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A filled circle, or a ring."""

    centre: Place
    radius: float
    colour: str
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """One line of text; `anchor` is "start", "middle" or "end"."""

    place: Place
    text: str
    size: float = 12.0
    anchor: str = "start"
    colour: str = "#333333"


Shape = Line | Area | Dot | Words


@dataclass(frozen=True, slots=True)
class Drawing:
    """Shapes, the first at the bottom, on a white ground; `title` is for who cannot see it."""

    width: int
    height: int
    shapes: tuple[Shape, ...]
    title: str


# --- SVG -----------------------------------------------------------------------------------------------


def to_svg(drawing: Drawing) -> str:
    """SVG that stands alone or in a page; it runs nothing and loads nothing."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {drawing.width} {drawing.height}"'
        f' width="{drawing.width}" height="{drawing.height}" role="img" font-family="system-ui,sans-serif">',
        f"<title>{_text(drawing.title)}</title>",
        f'<rect width="{drawing.width}" height="{drawing.height}" fill="#ffffff"/>',
        *(_svg(shape) for shape in drawing.shapes),
        "</svg>",
    ]
    return "\n".join(parts)


def _svg(shape: Shape) -> str:
    if isinstance(shape, Line):
        dashed = f' stroke-dasharray="{DASH[0]:g} {DASH[1]:g}"' if shape.dashed else ""
        return (
            f'<polyline points="{_places(shape.places)}" fill="none" stroke="{shape.colour}"'
            f' stroke-width="{shape.width:g}"{dashed}/>'
        )
    if isinstance(shape, Area):
        fill = f'fill="{shape.colour}" fill-opacity="{shape.opacity:g}"'
        return f'<polygon points="{_places(shape.places)}" {fill}/>'
    if isinstance(shape, Dot):
        x, y = shape.centre
        fill = "#ffffff" if shape.hollow else shape.colour
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{shape.radius:g}" fill="{fill}"'
            f' stroke="{shape.colour}" stroke-width="1.5"/>'
        )
    x, y = shape.place
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{shape.size:g}" text-anchor="{shape.anchor}"'
        f' style="fill:{shape.colour};font-size:{shape.size:g}px">{_text(shape.text)}</text>'
    )


def _places(places: Sequence[Place]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _text(text: str) -> str:
    return html.escape(visible(text, limit=MAX_TEXT)).encode("ascii", "xmlcharrefreplace").decode("ascii")


# --- PNG -----------------------------------------------------------------------------------------------


def check_png() -> None:
    """Raise UsageError where no PNG can be painted: before anything is measured."""
    try:
        import PIL.ImageDraw  # noqa: F401
    except ImportError:
        raise UsageError("a .png needs Pillow, which is not installed", NO_PILLOW) from None


def to_png(drawing: Drawing) -> bytes:
    """The bytes of a PNG file, twice as large as the SVG. Raises UsageError without Pillow."""
    check_png()
    import io

    from PIL import Image, ImageDraw

    fine = 2 * FINER
    image: Image.Image = Image.new("RGB", (drawing.width * fine, drawing.height * fine), "#ffffff")
    for shape in drawing.shapes:
        if isinstance(shape, Area) and shape.opacity < 1:
            image = _tinted(image, shape, fine)
        else:
            _paint(ImageDraw.Draw(image), shape, fine)
    image = image.resize((drawing.width * 2, drawing.height * 2), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _tinted(image: Image, area: Area, fine: float) -> Image:
    from PIL import Image as Images
    from PIL import ImageDraw

    above = Images.new("L", image.size, 0)
    places = [(x * fine, y * fine) for x, y in area.places]
    ImageDraw.Draw(above).polygon(places, fill=round(255 * area.opacity))
    return Images.composite(Images.new("RGB", image.size, area.colour), image, above)


def _paint(draw: ImageDraw, shape: Shape, fine: float) -> None:
    if isinstance(shape, Line):
        for places in _dashes(shape.places) if shape.dashed else [shape.places]:
            draw.line(
                [(x * fine, y * fine) for x, y in places],
                fill=shape.colour,
                width=max(1, round(shape.width * fine)),
                joint="curve",
            )
    elif isinstance(shape, Area):
        draw.polygon([(x * fine, y * fine) for x, y in shape.places], fill=shape.colour)
    elif isinstance(shape, Dot):
        x, y, radius = shape.centre[0] * fine, shape.centre[1] * fine, shape.radius * fine
        fill = "#ffffff" if shape.hollow else shape.colour
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=fill,
            outline=shape.colour,
            width=max(1, round(1.5 * fine)),
        )
    else:
        from PIL import ImageFont

        font = ImageFont.load_default(shape.size * fine)
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
        text = visible(shape.text, ascii_only=True, limit=MAX_TEXT)
        draw.text(
            (shape.place[0] * fine, shape.place[1] * fine), text, fill=shape.colour, font=font, anchor=anchor
        )


def _dashes(places: Sequence[Place]) -> list[list[Place]]:
    """A line as pieces with gaps between them."""
    pieces: list[list[Place]] = []
    drawn, left = True, DASH[0]
    piece: list[Place] = [places[0]]
    for (x0, y0), (x1, y1) in pairwise(places):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        done = 0.0
        while length - done > left:
            done += left
            here = (x0 + (x1 - x0) * done / length, y0 + (y1 - y0) * done / length)
            if drawn:
                pieces.append([*piece, here])
            piece = [here]
            drawn = not drawn
            left = DASH[0] if drawn else DASH[1]
        left -= length - done
        if drawn:
            piece.append((x1, y1))
    if drawn and len(piece) > 1:
        pieces.append(piece)
    return pieces
