"""Compound figures made from single pictures and captions, with all that was put where."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

Box = tuple[int, int, int, int]

LAYOUTS: dict[int, list[list[int]]] = {
    2: [[2], [1, 1]],
    3: [[3], [1, 1, 1], [1, 2], [2, 1]],
    4: [[2, 2], [4], [3, 1]],
    5: [[2, 3], [3, 2]],
    6: [[3, 3], [2, 2, 2]],
    7: [[3, 4], [2, 2, 3]],
    8: [[4, 4], [3, 2, 3]],
    9: [[3, 3, 3]],
}
"""Number of panels → rows, as numbers of panels in them."""

GROUNDS = {"white": "white", "black": "black", "none": "white"}
STYLES = ("(A) x.", "(a) x;", "x (A),", "A) x.", "A: x.", "A. x.", "A, x.", "a X.", "[a] x.")


@dataclass
class Compound:
    """A figure and the truth about it."""

    data: bytes
    boxes: list[Box]
    labels: list[str]
    caption: str
    texts: list[str]
    """What the caption of each panel should be."""
    ground: str
    gutter: int

    @property
    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.data))


def compose(
    pictures: list[Image.Image],
    captions: list[str],
    random: Random,
    ground: str | None = None,
    gutter: int | None = None,
    style: str | None = None,
    letters: bool = True,
) -> Compound:
    """One figure of all the pictures, on rows of one width; JPEG at a random quality from 75 to 95."""
    pictures = [without_light_margins(picture) for picture in pictures]
    count = len(pictures)
    ground = ground or random.choice(list(GROUNDS))
    gutter = gutter if gutter is not None else random.randint(3, 20)
    gutter = 0 if ground == "none" else gutter
    margin = {"white": random.choice([0, gutter, 10]), "black": 0, "none": 0}.get(ground, gutter)
    position = random.choice(["corner", "above", "below", "none"] if ground == "white" else ["corner", "none"])
    position = position if letters else "none"
    strip = 24 if position in ("above", "below") else 0
    style = style or random.choice(STYLES)
    labels = ["abcdefghi"[i] if "a" in style else "ABCDEFGHI"[i] for i in range(count)]
    width = random.randint(500, 900)

    canvas = Image.new("RGB", (width, 4000), GROUNDS.get(ground, ground))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(14)
    boxes: list[Box] = []
    y, remaining = margin, list(zip(pictures, labels, strict=True))
    for columns in random.choice(LAYOUTS[count]):
        row, remaining = remaining[:columns], remaining[columns:]
        edges = np.linspace(margin, width - margin + gutter, columns + 1)
        if random.random() < 0.3 and columns > 1:  # uneven columns
            edges[1:-1] += np.array([random.uniform(-0.05, 0.05) for _ in edges[1:-1]]) * width
        height = max(90, round(min((edges[1] - edges[0]) * random.uniform(0.7, 1.1), 500)))
        y += strip if position == "above" else 0
        for (picture, label), x0, x1 in zip(row, edges[:-1].astype(int), edges[1:].astype(int) - gutter, strict=True):
            canvas.paste(picture.convert("RGB").resize((x1 - x0, height)), (x0, y))
            boxes.append((int(x0), y, int(x1), y + height))
            if position == "corner":
                draw.rectangle((x0 + 4, y + 4, x0 + 20, y + 22), fill="white")
                draw.text((x0 + 8, y + 5), label, "black", font)
            elif position != "none":
                spot = ((x0 + x1) // 2 - 8, y - strip if position == "above" else y + height + 1)
                draw.text(spot, f"({label})", "black", font)
        y += height + gutter + (strip if position == "below" else 0)
    canvas = canvas.crop((0, 0, width, max(y - gutter + margin, 1)))
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=random.randint(75, 95))
    caption, texts = compose_caption(captions, labels, style, random)
    return Compound(buffer.getvalue(), boxes, labels, caption, texts, ground, gutter)


def without_light_margins(picture: Image.Image) -> Image.Image:
    """On white paper nobody can say where a picture's own white margin ends."""
    dark_HW = np.asarray(picture.convert("L")) < 230
    rows, columns = (np.flatnonzero(dark_HW.mean(axis=axis) > 0.02) for axis in (1, 0))
    return picture.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)) if rows.size else picture


LEADS = ("Imaging of the patient.", "A 65-year-old woman with abdominal pain.", "")


def compose_caption(captions: list[str], labels: list[str], style: str, random: Random) -> tuple[str, list[str]]:
    """The figure's caption in a style, and each panel's."""
    lead = random.choice(LEADS)
    texts = [caption.strip().rstrip(".,;:") for caption in captions]
    before, separator = style.startswith("x"), style[-1]
    written = []
    for text, label in zip(texts, labels, strict=True):
        sign = style[: style.index(" ")] if not before else "(A)"
        sign = sign.replace("A", label).replace("a", label)
        written.append(f"{text} {sign}" if before else f"{sign} {text}")
    body = f"{separator} ".join(written) + "."
    return f"{lead} {body}".strip(), [f"{lead} {text}.".strip() for text in texts]


def synthetic_picture(seed: int, side: int = 200, light: float = 1) -> Image.Image:
    """Smooth noise to its last pixel, for lack of a radiograph."""
    noise = np.random.default_rng(seed).integers(60, 210, (12, 12)) * light
    return Image.fromarray(noise.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)


def share_of_overlap(first: Sequence[int], second: Sequence[int]) -> float:
    """Intersection over union of two boxes."""
    width = max(min(first[2], second[2]) - max(first[0], second[0]), 0)
    height = max(min(first[3], second[3]) - max(first[1], second[1]), 0)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second)]
    return width * height / (sum(areas) - width * height)


def read_rocov2(test_data: Path, tidy: Callable[[str], str]) -> list[tuple[Path, str]]:
    """(image, caption) of the real figures; skips the test where they are absent."""
    pairs = []
    for split in ("train", "valid", "test"):
        table = test_data / "rocov2" / f"{split}_captions.csv"
        if not table.is_file():
            pytest.skip(f"needs {table}")
        with table.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
        pairs += [(table.parent / split / f"{row['ID']}.jpg", tidy(row["Caption"])) for row in rows]
    return pairs
