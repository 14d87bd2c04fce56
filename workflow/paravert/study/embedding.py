"""Pictures inside an HTML file: as data URIs, previews reduced."""

import base64
import io
from pathlib import Path

from PIL import Image

LARGEST_SVG_BYTES = 1_500_000  # above this the PNG is taken: browsers grow slow
PREVIEW_WIDTH_PX, PREVIEW_QUALITY = 760, 72


def figure_uri(folder: Path, stem: str) -> str:
    """Return a figure as data URI: the SVG, or the PNG where the SVG is very large."""
    svg = folder / f"{stem}.svg"
    if svg.stat().st_size <= LARGEST_SVG_BYTES:
        return _uri(svg.read_bytes(), "image/svg+xml")
    return _uri((folder / f"{stem}.png").read_bytes(), "image/png")


def preview_uri(path: Path) -> str:
    """Return a picture as data URI: JPEG, at most PREVIEW_WIDTH_PX wide, without metadata."""
    with Image.open(path) as picture:
        reduced = picture.convert("RGB")
    reduced.thumbnail((PREVIEW_WIDTH_PX, 10 * PREVIEW_WIDTH_PX))
    buffer = io.BytesIO()
    reduced.save(buffer, format="JPEG", quality=PREVIEW_QUALITY, optimize=True)
    return _uri(buffer.getvalue(), "image/jpeg")


def _uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
