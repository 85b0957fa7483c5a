"""The stage: a compound figure becomes its panels, or stays whole for a reason that is counted."""

import io
from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image

from data_prep.draft import Draft
from data_prep.stages import apply_stages
from data_prep.stages.images import check_images
from data_prep.stages.split_panels import panel_key, split_panels
from data_prep.vocabulary.text import tidy
from medvlp.shards import Conversation, Sample, Turn, make_key, to_members
from tests.data_prep.panels.compound import Compound, compose, read_rocov2, share_of_overlap, synthetic_picture

CAPTIONS = ["Frontal radiograph of the chest", "Axial CT", "Coronal MRI", "Doppler sonogram"]


def figure(count=3, seed=0, style="(A) x.", **options) -> Compound:
    pictures = [synthetic_picture(seed + number) for number in range(count)]
    return compose(
        pictures, CAPTIONS[:count], Random(seed), **{"ground": "white", "gutter": 10, **options}, style=style
    )


def sample_of(data, caption, name="jpg", **metadata) -> Sample:
    return Sample(
        make_key("atlas", "PMC1", "f2"),
        {name: data},
        {"caption": caption, "references": "See Fig. 2."},
        {"modality": "unknown"},
        metadata={"group": "PMC1", "original_name": "f2.jpg", "authors": ["A"], **metadata},
    )


def as_format(data, kind, mode=None):
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(data))
    (picture.convert(mode) if mode else picture).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def outcome(draft):
    result = split_panels(draft)
    assert result is draft
    return dict(draft.counts)


def test_a_figure_becomes_a_sample_a_panel():
    made = figure()
    draft = Draft(sample_of(made.data, made.caption))
    panels = split_panels(draft)
    assert [panel.sample.key for panel in panels] == [f"atlas__PMC1__f2__{label}" for label in "ABC"]
    assert [panel.sample.texts["caption"] for panel in panels] == made.texts
    assert all(panel.counts is draft.counts for panel in panels)
    assert draft.counts == {("split_panels", "figures split"): 1, ("split_panels", "panels"): 3}
    for number, (panel, box) in enumerate(zip(panels, made.boxes, strict=True), 1):
        metadata = panel.sample.metadata
        assert panel.sample.texts["figure_caption"] == made.caption
        assert panel.sample.texts["references"] == "See Fig. 2."
        assert panel.sample.labels == {"modality": "unknown"}
        assert metadata["figure_key"] == "atlas__PMC1__f2__0"
        assert (metadata["panel"], metadata["panels"], metadata["panel_label"]) == (number, 3, "ABC"[number - 1])
        assert share_of_overlap(metadata["panel_box"], box) > 0.95
        x0, y0, x1, y1 = metadata["panel_box"]
        assert panel.pictures["jpg"].size == (x1 - x0, y1 - y0)
        assert (metadata["group"], metadata["original_name"]) == ("PMC1", "f2.jpg")
        to_members(panel.sample)  # it keeps the shard contract
    assert panels[0].sample.metadata["authors"] is not panels[1].sample.metadata["authors"]
    assert draft.sample.key == "atlas__PMC1__f2__0"


def test_pixels_of_a_jpeg_barely_change_and_those_of_others_not_at_all():
    made = figure()
    for kind, name, expected in (("JPEG", "jpg", "jpg"), ("PNG", "png", "png"), ("WEBP", "fig.webp", "fig.png")):
        data = made.data if kind == "JPEG" else as_format(made.data, kind)
        for panel in split_panels(Draft(sample_of(data, made.caption, name))):
            assert list(panel.sample.images) == [expected]
            crop = Image.open(io.BytesIO(data)).crop(panel.sample.metadata["panel_box"])
            off = np.subtract(np.asarray(panel.pictures[expected], int), np.asarray(crop, int))
            assert np.abs(off).mean() <= (0.8 if kind == "JPEG" else 0)
            if kind == "JPEG":
                assert panel.pictures["jpg"].layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)]  # no subsampling


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16", "1"])
def test_modes_of_png(mode):
    made = figure(style="(A) x.")
    picture = Image.open(io.BytesIO(made.data)).convert("L")
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    buffer = io.BytesIO()
    (picture if mode == "I;16" else picture.convert(mode)).save(buffer, "PNG")
    panels = split_panels(Draft(sample_of(buffer.getvalue(), made.caption, "png")))
    assert isinstance(panels, list)
    assert [panel.pictures["png"].mode for panel in panels] == [Image.open(buffer).mode] * 3


def test_what_is_transparent_is_white():
    opaque = Image.open(io.BytesIO(figure().data)).convert("L")
    clear = Image.merge(
        "LA", (opaque.point(lambda v: 0 if v > 240 else v), opaque.point(lambda v: 0 if v > 240 else 255))
    )
    buffer = io.BytesIO()
    clear.save(buffer, "PNG")
    assert len(split_panels(Draft(sample_of(buffer.getvalue(), figure().caption, "png")))) == 3


def test_a_large_figure_is_looked_at_reduced_and_cut_at_its_own_size():
    made = figure(2)
    large = made.picture.resize((made.picture.width * 4, made.picture.height * 4))
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    panels = split_panels(Draft(sample_of(buffer.getvalue(), made.caption, "png")))
    for panel, box in zip(panels, made.boxes, strict=True):
        assert share_of_overlap(panel.sample.metadata["panel_box"], [4 * edge for edge in box]) > 0.95


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A chest radiograph.", {}),
        ("", {}),
        ("(A) One. (B) Two.", {("split_panels", "unsplit: counts differ"): 1}),
        ("CT (A) showing a mass and MRI (B) showing more.", {("split_panels", "unsplit: unclear caption"): 1}),
    ],
)
def test_why_a_figure_stays_whole(caption, expected):
    assert outcome(Draft(sample_of(figure(3).data, caption))) == expected


@pytest.mark.parametrize(
    ("layout", "caption", "splits"),
    [
        ("row", "Frontal (left panel) and oblique (right panel) views.", True),
        ("column", "Frontal (left panel) and oblique (right panel) views.", False),
        ("column", "Top: frontal view. Bottom: oblique view.", True),
        ("row", "Top: frontal view. Bottom: oblique view.", False),
    ],
)
def test_words_of_place_have_to_fit_the_layout(layout, caption, splits):
    size = (410, 200) if layout == "row" else (200, 410)
    page = Image.new("L", size, "white")
    page.paste(synthetic_picture(1), (0, 0))
    page.paste(synthetic_picture(2), (210, 0) if layout == "row" else (0, 210))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    draft = Draft(sample_of(buffer.getvalue(), caption, "png"))
    if splits:
        first, second = split_panels(draft)
        assert first.sample.texts["caption"].lower().startswith("frontal view")
        assert second.sample.key.rpartition("__")[2] == ("right" if layout == "row" else "bottom")
    else:
        assert outcome(draft) == {("split_panels", "unsplit: layout differs"): 1}


def test_what_is_never_split():
    made = figure()
    talk = sample_of(made.data, made.caption)
    talk.conversations = [Conversation([Turn("user", "What is in A?")])]
    several = sample_of(made.data, made.caption)
    several.images = {"a.jpg": made.data, "b.jpg": made.data}
    volume = sample_of(b"a volume", made.caption, "nii.gz")
    text = Sample("k", texts={"caption": made.caption})
    panel = sample_of(made.data, made.caption, panel=1)
    assert [outcome(Draft(sample)) for sample in (talk, several, volume, text, panel)] == [{}] * 5


def test_a_licence_without_derivatives_keeps_the_figure_whole():
    made = figure()
    for licence, splits in (("CC BY-NC-ND 4.0", False), ("CC-BY-ND", False), ("CC-BY-4.0", True)):
        draft = Draft(sample_of(made.data, made.caption, licence=licence))
        if splits:
            assert len(split_panels(draft)) == 3
        else:
            assert outcome(draft) == {("split_panels", "unsplit: licence without derivatives"): 1}


def test_the_same_bytes_every_time_and_nothing_left_to_split():
    made = figure(4)
    first, second = ([panel.sample for panel in split_panels(Draft(sample_of(made.data, made.caption)))] for _ in "12")
    assert [to_members(sample) for sample in first] == [to_members(sample) for sample in second]
    assert all(isinstance(split_panels(Draft(sample)), Draft) for sample in first)


def test_stages_after_it_see_every_panel():
    made = figure(2)
    stages = [split_panels, lambda draft: check_images(draft, max_pixels=10**6, min_side=16, max_aspect=10)]
    result = apply_stages(stages, Draft(sample_of(made.data, made.caption)))
    assert [draft.sample.key[-1] for draft in result if isinstance(draft, Draft)] == ["A", "B"]


@pytest.mark.parametrize(
    ("figure_key", "label", "expected"),
    [
        ("atlas__PMC1__f2__0", "a", "atlas__PMC1__f2__A"),
        ("atlas__PMC1__f2__0", "left", "atlas__PMC1__f2__left"),
        (make_key("atlas", "PMC1", "f.2"), "B", make_key("atlas", "PMC1", "f.2").replace("__0-", "__B-")),
    ],
)
def test_keys_of_panels(figure_key, label, expected):
    assert panel_key(figure_key, label) == expected


def test_keys_of_panels_of_a_shortened_key_stay_apart():
    long = make_key("atlas", "a" * 200)
    keys = {panel_key(long, label) for label in "ABC"} | {panel_key(make_key("atlas", "a" * 201), "A")}
    assert len(keys) == 4
    assert max(map(len, keys)) <= 150


@pytest.mark.parametrize(("ground", "recall", "exact"), [("white", 0.93, 0.88), ("black", 0.7, 0.65)])
def test_real_pictures_in_generated_figures(test_data, ground, recall, exact):
    """Of the panels, how many come out with IoU ≥ 0.9; of the split figures, how many with every panel where it was."""
    pairs = read_rocov2(test_data, lambda caption: tidy(caption.partition(".")[0]))
    random = Random(5)
    seen: Counter[str] = Counter()
    for _ in range(40):
        chosen = random.sample(pairs, random.randint(2, 6))
        made = compose(
            [Image.open(path) for path, _ in chosen],
            (CAPTIONS * 2)[: len(chosen)],
            random,
            ground=ground,
            style="(A) x.",
        )
        seen["panels"] += len(chosen)
        panels = split_panels(Draft(sample_of(made.data, made.caption)))
        if isinstance(panels, list):
            fits = [
                share_of_overlap(p.sample.metadata["panel_box"], b) for p, b in zip(panels, made.boxes, strict=True)
            ]
            seen["found"] += sum(fit >= 0.9 for fit in fits)
            seen["split"] += 1
            seen["exact"] += min(fits) >= 0.9
            seen["mistaken"] += min(fits) < 0.4  # a panel with another one's caption
    assert seen["found"] / seen["panels"] >= recall
    assert seen["exact"] / seen["split"] >= exact
    assert seen["mistaken"] == 0


def test_real_single_figures_stay_whole(test_data):
    """None of the first 200 is split: by eye, none is a compound figure whose caption labels the panels."""
    counts: Counter[tuple[str, str]] = Counter()
    for path, caption in read_rocov2(test_data, tidy)[:200]:
        draft = Draft(sample_of(path.read_bytes(), caption), counts=counts)
        assert split_panels(draft) is draft
    assert set(counts) <= {("split_panels", "unsplit: counts differ"), ("split_panels", "unsplit: unclear caption")}
