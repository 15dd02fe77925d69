"""Five species from cotyledons to rosette, seen from above: the crop, sugar beet, and four of its weeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.synthetic.leaves import ALPHA, Canvas, Colour, FloatArray, Leaf, LeafAppearance

CLASS_NAMES = ("sugar_beet", "fat_hen", "chamomile", "thistle", "foxtail")
"""The labelled species in label order; the crop comes first."""

STAGES = ("cotyledon", "few_leaves", "rosette")

# The alpha from which a pixel belongs to the plant: thin leaflets never fill a pixel.
_OWN_ALPHA = 0.4
_GOLDEN_ANGLE = math.radians(137.5)


@dataclass(frozen=True, eq=False)
class Sprite:
    """A drawn plant, centred.

    Attributes:
        layers: float32 (h, w, CHANNELS), premultiplied; see `data.synthetic.leaves`.
        own: bool (h, w), the pixels that belong to the plant.
        own_px: how many these are.

    """

    layers: FloatArray
    own: NDArray[np.bool_]
    own_px: int


Rim = Callable[[FloatArray], FloatArray]


def _oval(skew: float, blunt: float, wavy: float = 0.0, phase: float = 0.0) -> Rim:
    """An egg-shaped blade: `skew` < 1 moves the widest place towards the base, `blunt` rounds the ends."""

    def half_width(q: FloatArray) -> FloatArray:
        body = np.sin(np.pi * q**skew).clip(0.0) ** blunt
        return np.asarray(0.5 * body * (1.0 + wavy * np.sin(24.0 * q + phase)), np.float32)

    return half_width


def _rhombic(teeth: float, depth: float) -> Rim:
    """A goosefoot blade: a diamond, widest below the middle, with coarse teeth pointing to the tip."""

    def half_width(q: FloatArray) -> FloatArray:
        body = np.minimum(q / 0.36, (1.0 - q) / 0.64).clip(0.0) ** 0.85
        saw = (q * teeth) % 1.0
        inside = np.clip((q - 0.2) / 0.1, 0.0, 1.0) * np.clip((0.95 - q) / 0.1, 0.0, 1.0)
        return np.asarray(0.5 * body * (1.0 - depth * inside * saw), np.float32)

    return half_width


def _lobed(lobes: float, depth: float) -> Rim:
    """A thistle's blade: long, with triangular lobes that end in spines."""

    def half_width(q: FloatArray) -> FloatArray:
        body = np.sin(np.pi * q**0.8).clip(0.0) ** 0.55
        spike = np.abs(2.0 * ((q * lobes + 0.15) % 1.0) - 1.0) ** 1.6
        return np.asarray(0.5 * body * (1.0 - depth + depth * spike), np.float32)

    return half_width


def _ribbon(q: FloatArray) -> FloatArray:
    """A grass blade: even at the base, tapering to a fine tip."""
    return np.asarray(0.5 * np.minimum(1.0, 0.55 + 3.0 * q) * (1.0 - q).clip(0.0) ** 0.55, np.float32)


def _feather(rng: np.random.Generator, length: float, width: float) -> tuple[FloatArray, ...]:
    """The strands of a bipinnate leaf: rachis, leaflets and their forks, in leaf coordinates."""
    strands = [np.array([[0.0, 0.0], [length, 0.0]], np.float32)]
    pairs = int(np.clip(length / 8.0, 3, 7))
    for index in range(pairs):
        start = length * (0.22 + 0.72 * index / pairs)
        reach = 0.5 * width * math.sin(math.pi * (0.25 + 0.62 * index / pairs))
        for sign in (-1.0, 1.0):
            foot = start + rng.uniform(-0.02, 0.02) * length
            lean = rng.uniform(0.45, 0.8)
            tip = np.array([foot + lean * reach, sign * reach * rng.uniform(0.85, 1.1)])
            root = np.array([foot, 0.0])
            strands.append(np.stack([root, tip]).astype(np.float32))
            if reach < 4.0:
                continue
            for share, turn in ((0.5, 0.7), (0.7, -0.65)):
                fork = root + share * (tip - root)
                angle = math.atan2(tip[1], tip[0] - foot) + turn * rng.uniform(0.8, 1.2)
                end = fork + 0.42 * reach * np.array([math.cos(angle), math.sin(angle)])
                strands.append(np.stack([fork, end]).astype(np.float32))
    return tuple(strands)


_BEET = LeafAppearance(
    (0.040, 0.170, 0.068), (0.20, 0.44, 0.28), (0.16, 0.36, 0.22),
    midrib_px=1.5, midrib_strength=0.8, veins=6.0,
    vein=0.20, fold=0.13, wave=0.07, waves=3.0, rise=0.45, droop=0.5, gloss=0.5, mottle=0.06,
)  # fmt: skip
_FAT_HEN = LeafAppearance(
    (0.085, 0.180, 0.105), (0.17, 0.30, 0.20), (0.16, 0.26, 0.20),
    midrib_px=0.8, midrib_strength=0.45, veins=4.0,
    vein=0.10, fold=0.16, rise=0.3, droop=0.3, mealy=0.14, gloss=0.05, mottle=0.08,
)  # fmt: skip
_CHAMOMILE = LeafAppearance(
    (0.030, 0.165, 0.082), (0.05, 0.24, 0.11), (0.05, 0.24, 0.11), midrib_strength=0.0, vein=0.0, fold=0.05,
    rise=0.3, droop=0.22, gloss=0.08, mottle=0.12,
)  # fmt: skip
_THISTLE = LeafAppearance(
    (0.032, 0.105, 0.040), (0.22, 0.34, 0.26), (0.20, 0.32, 0.24),
    midrib_px=1.1, midrib_strength=0.85, veins=6.0,
    vein=0.16, fold=0.22, wave=0.14, waves=5.0, rise=0.4, droop=0.42, gloss=0.3, mottle=0.10,
)  # fmt: skip
_FOXTAIL = LeafAppearance(
    (0.045, 0.200, 0.105), (0.12, 0.36, 0.22), (0.10, 0.20, 0.22),
    midrib_px=0.7, midrib_strength=0.5, veins=0.0,
    vein=0.0, fold=0.30, rise=0.62, droop=0.62, gloss=0.25, mottle=0.05,
)  # fmt: skip


def _pair(canvas: Canvas, rng: np.random.Generator, azimuth: float, leaf: Leaf, loose: float = 0.12) -> None:
    """Two opposite leaves, as most cotyledons and first leaves are arranged."""
    for turn in (0.0, math.pi):
        size = rng.uniform(0.82, 1.05)
        canvas.draw(
            Leaf(
                azimuth=azimuth + turn + rng.normal(0.0, loose),
                length=leaf.length * size,
                width=leaf.width * size * rng.uniform(0.92, 1.08),
                appearance=leaf.appearance.tinted(rng),
                half_width=leaf.half_width,
                strands=leaf.strands,
                stalk=leaf.stalk,
                stalk_px=leaf.stalk_px,
                base_height=leaf.base_height,
                bend=rng.normal(0.0, 0.06),
            )
        )


def _sugar_beet(canvas: Canvas, rng: np.random.Generator, radius: float, stage: int) -> None:
    azimuth = rng.uniform(0.0, 2.0 * math.pi)
    cotyledon = Leaf(
        0.0, radius, 0.44 * radius, _BEET, _oval(1.15, 0.6), stalk=0.22, stalk_px=1.8, base_height=0.28 * radius
    )  # fmt: skip
    if stage == 0:
        _pair(canvas, rng, azimuth, cotyledon)
        size = float(rng.uniform(0.42, 0.72)) * radius
        young = Leaf(0.0, size, 0.5 * size, _BEET, _oval(0.9, 0.6), stalk=0.15, base_height=0.4 * radius)
        _pair(canvas, rng, azimuth + 1.57, young)
        return
    leaves = int(rng.integers(4, 7)) if stage == 1 else int(rng.integers(7, 12))
    if stage == 1:
        small = Leaf(0.0, 0.55 * radius, 0.2 * radius, _BEET, _oval(1.15, 0.62), stalk=0.25, stalk_px=1.6)
        _pair(canvas, rng, azimuth + 0.7, small)
    for index in range(leaves):
        share = index / max(1, leaves - 1)
        length = radius * (1.0 - 0.62 * share**1.3) * rng.uniform(0.9, 1.0)
        blade = _oval(rng.uniform(0.78, 0.95), rng.uniform(0.55, 0.72), 0.07, rng.uniform(0, 6.28))
        canvas.draw(
            Leaf(
                azimuth=azimuth + index * _GOLDEN_ANGLE + rng.normal(0.0, 0.18),
                length=length,
                width=length * rng.uniform(0.46, 0.58),
                appearance=_BEET.tinted(rng),
                half_width=blade,
                stalk=rng.uniform(0.26, 0.36),
                stalk_px=max(1.6, 0.055 * length),
                base_height=(0.26 + 0.22 * share) * radius,
                bend=rng.normal(0.0, 0.07),
            )
        )


def _fat_hen(canvas: Canvas, rng: np.random.Generator, radius: float, stage: int) -> None:
    azimuth = rng.uniform(0.0, 2.0 * math.pi)
    if stage == 0:
        cotyledon = Leaf(
            0.0, radius, 0.28 * radius, _FAT_HEN, _oval(1.0, 0.7), stalk=0.2, stalk_px=1.3, base_height=0.28 * radius
        )  # fmt: skip
        _pair(canvas, rng, azimuth, cotyledon)
        young = Leaf(
            0.0, 0.66 * radius, 0.48 * radius, _FAT_HEN, _rhombic(3.0, 0.2), stalk=0.15, base_height=0.45 * radius
        )  # fmt: skip
        _pair(canvas, rng, azimuth + 1.57, young)
        return
    pairs = 4 if stage == 1 else 6
    for index in range(pairs):
        share = index / (pairs - 1)
        length = radius * (1.0 - 0.72 * share**0.9) * rng.uniform(0.9, 1.0)
        toothed = _rhombic(float(rng.uniform(4.5, 6.5)), 0.38 if share < 0.7 else 0.15)
        surface = replace(_FAT_HEN, mealy=0.08 + 0.34 * share**1.5)
        leaf = Leaf(
            0.0, length, length * rng.uniform(0.55, 0.66), surface, toothed, stalk=0.3 - 0.12 * share, stalk_px=1.4,
            base_height=(0.22 + 0.42 * share) * radius,
        )  # fmt: skip
        # Pairs are decussate; seen from above the later ones fill the gaps.
        _pair(canvas, rng, azimuth + index * (1.57 + 0.39 * (index // 2)) + rng.normal(0.0, 0.16), leaf, 0.17)


def _chamomile(canvas: Canvas, rng: np.random.Generator, radius: float, stage: int) -> None:
    azimuth = rng.uniform(0.0, 2.0 * math.pi)
    leaves = (5, 7, 10)[stage] + int(rng.integers(0, 3))
    for index in range(leaves):
        share = index / (leaves - 1)
        length = radius * (1.0 - 0.5 * share) * rng.uniform(0.85, 1.0)
        width = length * rng.uniform(0.42, 0.55)
        canvas.draw(
            Leaf(
                azimuth=azimuth + index * _GOLDEN_ANGLE + rng.normal(0.0, 0.25),
                length=length,
                width=width,
                appearance=_CHAMOMILE.tinted(rng, 0.12),
                strands=_feather(rng, length, width),
                strand_px=1.5 if stage == 0 else 1.1,
                base_height=(0.18 + 0.22 * share) * radius,
                bend=rng.normal(0.0, 0.14),
            )
        )


def _thistle(canvas: Canvas, rng: np.random.Generator, radius: float, stage: int) -> None:
    azimuth = rng.uniform(0.0, 2.0 * math.pi)
    leaves = (4, 6, 10)[stage] + int(rng.integers(0, 2))
    if stage == 0:
        seed = Leaf(
            0.0, 0.62 * radius, 0.4 * radius, _THISTLE, _oval(1.1, 0.55), stalk=0.1, base_height=0.2 * radius
        )  # fmt: skip
        _pair(canvas, rng, azimuth + 0.8, seed)
    for index in range(leaves):
        share = index / max(1, leaves - 1)
        length = radius * (1.0 - 0.55 * share) * rng.uniform(0.88, 1.0)
        canvas.draw(
            Leaf(
                azimuth=azimuth + index * _GOLDEN_ANGLE + rng.normal(0.0, 0.15),
                length=length,
                width=length * rng.uniform(0.36, 0.46),
                appearance=_THISTLE.tinted(rng),
                half_width=_lobed((3.0, 5.0, 6.0)[stage], (0.35, 0.52, 0.62)[stage]),
                base_height=(0.18 + 0.22 * share) * radius,
                bend=rng.normal(0.0, 0.10),
            )
        )


def _foxtail(canvas: Canvas, rng: np.random.Generator, radius: float, stage: int) -> None:
    azimuth = rng.uniform(0.0, 2.0 * math.pi)
    blades = (4, 7, 11)[stage] + int(rng.integers(0, 3))
    for index in range(blades):
        share = index / max(1, blades - 1)
        length = radius * (1.0 - 0.4 * share) * rng.uniform(0.8, 1.0)
        canvas.draw(
            Leaf(
                azimuth=azimuth + index * math.pi * rng.uniform(0.85, 1.15) + index * 0.35,
                length=length,
                width=float(np.clip(0.12 * radius, 4.0, 7.0) * rng.uniform(0.85, 1.15)),
                appearance=_FOXTAIL.tinted(rng),
                half_width=_ribbon,
                base_offset=rng.uniform(-1.5, 1.5),
                base_height=(0.24 + 0.16 * share) * radius,
                bend=rng.normal(0.0, 0.22),
            )
        )


_GROW = (_sugar_beet, _fat_hen, _chamomile, _thistle, _foxtail)


def grow(label: int, stage: int, radius_px: float, seed: tuple[int, ...], tint: Colour = (1.0, 1.0, 1.0)) -> Sprite:
    """Draw one plant.

    Args:
        label: index into CLASS_NAMES.
        stage: index into STAGES.
        radius_px: reach of its longest leaf, orthophoto pixels.
        seed: of all randomness.
        tint: gains on its colour (B, G, R), which stand for the field's nutrition.

    Returns:
        The plant, drawn at orthophoto resolution.

    """
    rng = np.random.default_rng(seed)
    # Bent leaves reach sideways beyond their length.
    canvas = Canvas(1.25 * radius_px + 4.0, rng, fine=CLASS_NAMES[label] == "chamomile")
    _GROW[label](canvas, rng, radius_px, stage)
    layers = canvas.finish()
    vigour = float(np.exp(rng.normal(0.0, 0.07)))
    layers[..., :3] *= vigour * np.array(tint, np.float32)
    own = layers[..., ALPHA] > _OWN_ALPHA
    return Sprite(layers, own, int(own.sum()))
