from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augmentation.effects.compression import jpeg, video
from data.augmentation.effects.light import daylight, hard_shadow, low_sun, sun_flare
from data.augmentation.effects.linear import along, cloud, encoded, linear, plants
from data.augmentation.effects.optics import defocus, lens_dust
from data.augmentation.effects.sensor import exposure, noise, white_balance
from data.augmentation.effects.weather import dust, haze, rain, wet_soil

EFFECTS = [
    daylight, defocus, jpeg, video, lens_dust, noise, exposure, hard_shadow, low_sun, sun_flare, white_balance,
    dust, haze, rain, wet_soil,
]  # fmt: skip
SOIL, LEAF = (60, 80, 100), (50, 170, 70)  # BGR


def field(size_hw=(96, 128)) -> np.ndarray:
    """Soil with grain, and a leaf of 30 x 40."""
    image = np.full((*size_hw, 3), SOIL, np.float64) + np.random.default_rng(1).normal(0, 6, (*size_hw, 1))
    image[30:60, 40:80] = LEAF
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
@settings(max_examples=12, deadline=None)
@given(amount=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_the_same_size_the_same_for_the_same_seed_and_the_plant_still_there(effect, amount, seed):
    image = field()
    before = image.copy()
    seen = effect(image, amount, np.random.default_rng(seed))
    assert seen.shape == image.shape and seen.dtype == np.uint8
    assert np.array_equal(image, before)
    assert np.array_equal(seen, effect(image, amount, np.random.default_rng(seed)))
    leaf, soil = seen[34:56, 44:76].astype(float), seen[20:70, 30:90].astype(float)
    ring = np.ones(soil.shape[:2], bool)
    ring[8:42, 8:52] = False
    # The medians: a shadow or a flare on a part of either does not count as contrast.
    apart = np.abs(np.median(leaf, axis=(0, 1)) - np.median(soil[ring], axis=0)).max()
    assert apart >= 14, f"only {apart} of 90 levels are left between leaf and soil"


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
def test_a_larger_amount_changes_more(effect):
    image = field((192, 256))
    changes = []
    for amount in (0.0, 0.5, 1.0):
        seen = [effect(image, amount, np.random.default_rng(seed)) for seed in range(6)]
        changes.append(np.mean([np.abs(s.astype(float) - image).mean() for s in seen]))
    assert changes[0] < changes[1] < changes[2]
    assert changes[2] > 1.0


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (40, 1), (2, 3), (17, 9)])
def test_any_shape_and_black_and_white(effect, size_hw):
    for level in (0, 255):
        image = np.full((*size_hw, 3), level, np.uint8)
        image.setflags(write=False)
        seen = effect(image, 1.0, np.random.default_rng(0))
        assert seen.shape == image.shape and seen.dtype == np.uint8


def test_linear_light_and_back_is_the_same_to_a_step_or_two():
    codes = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3)
    there = linear(codes)
    assert there[0, 0, 0] == 0 and there[0, 255, 0] == 1
    assert there[0, 188, 0] == pytest.approx(0.5029, abs=1e-3)  # the sRGB standard's half
    assert np.abs(encoded(there).astype(int) - codes).max() <= 1


def test_exposure_by_hand():
    # Half a linear grey one stop down is a quarter; over-exposed it stays below white.
    grey = encoded(np.full((4, 4, 3), 0.5, np.float32))
    values = {int(exposure(grey, 1.0, np.random.default_rng(s))[0, 0, 0]) for s in range(40)}
    dark, bright = (
        linear(np.full((1, 1, 3), min(values), np.uint8)),
        linear(np.full((1, 1, 3), max(values), np.uint8)),
    )
    assert 0.5 * 2**-2.2 - 0.01 < dark[0, 0, 0] < 0.5 * 2**-1.6 + 0.01
    assert 0.75 < bright[0, 0, 0] < 1


def test_white_balance_moves_colour_and_keeps_brightness():
    grey = np.full((4, 4, 3), 120, np.uint8)
    for seed in range(20):
        seen = white_balance(grey, 1.0, np.random.default_rng(seed))
        assert np.ptp(seen[0, 0].astype(int)) >= 5
        luminance = linear(seen)[0, 0] @ np.array([0.0722, 0.7152, 0.2126])
        assert luminance == pytest.approx(float(linear(grey)[0, 0, 0]), rel=0.04)


def test_noise_grows_with_light_as_photons_do():
    image = np.zeros((64, 256, 3), np.uint8)
    image[:, :128], image[:, 128:] = 60, 180
    seen = linear(noise(image, 0.3, np.random.default_rng(0)))
    dark, bright = seen[:, :128].std(), seen[:, 128:].std()
    light = linear(image)[0]
    assert bright / dark == pytest.approx(np.sqrt(light[-1, 0] / light[0, 0]), rel=0.3)


def test_wet_soil_darkens_soil_and_leaves_leaves():
    image = field()
    seen = wet_soil(image, 1.0, np.random.default_rng(3))
    assert np.array_equal(seen[35:55, 46:74], image[35:55, 46:74])
    assert np.median(seen[70:, :]) < 0.85 * np.median(image[70:, :])


def test_the_shadow_of_a_low_sun_falls_on_soil_and_no_shadow_falls_on_the_sky():
    image = field()
    ground = low_sun(image, 0.8, np.random.default_rng(0)).astype(int)
    oblique = low_sun(image, 0.8, np.random.default_rng(0), on_ground=False).astype(int)
    ring = np.ones(image.shape[:2], bool)
    ring[30:60, 40:80] = False
    assert (oblique - ground).sum(axis=2)[ring].max() > 40
    sky = np.full((64, 64, 3), (250, 235, 220), np.uint8)
    for seed in range(10):
        assert np.abs(hard_shadow(sky, 1, np.random.default_rng(seed), on_ground=False).astype(int) - sky).max() <= 1


def test_fields_to_paint_with():
    for size_hw in ((1, 1), (30, 50), (50, 30)):
        field_ = cloud(size_hw, 5, np.random.default_rng(0))
        assert field_.shape == size_hw and 0 <= field_.min() <= field_.max() <= 1
    ramp_ = along((40, 60), 0.0)
    assert (ramp_[0, 0], ramp_[0, -1]) == pytest.approx((0.5 / 60, 59.5 / 60))
    green = plants(np.array([[LEAF, SOIL, (128, 128, 128), (0, 0, 0)]], np.uint8))
    assert green[0].tolist() == pytest.approx([1, 0, 0, 0])
