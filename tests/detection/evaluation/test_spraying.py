import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.intervals import draw_groups
from detection.evaluation.spraying import CURVE_SCORES, Sprayer, counted, perfect, sprayed, trade_off, wetted
from detection.runtime.detections import Detections

CROP, WEED = 0, 1
SIZE_HW = (200, 300)


def image(number, *rows):
    """Rows x1, y1, x2, y2, label, crowd."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    areas = np.ones(len(table))
    return LabelledImage(
        number, f"/{number}.png", SIZE_HW, table[:, :4], table[:, 4].astype(int), areas, table[:, 5] > 0, {}
    )


def dataset(*images):
    return Dataset("made", ("crop", "weed"), (1, 2), tuple(images))


def seen(*rows):
    """Rows x1, y1, x2, y2, label, score."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 5], table[:, 4].astype(np.int64))


def test_counts_worked_on_paper():
    field = dataset(
        image(1, *[(9 * k, 0, 9 * k + 8, 8, WEED, 0) for k in range(4)]),
        image(2, (0, 0, 8, 8, WEED, 0), (0, 0, 8, 8, CROP, 0)),
        image(3, (0, 0, 99, 99, WEED, 1)),  # uncountable
    )
    found = [
        seen(*[(0, 0, 8, 8, WEED, 0.9)] * 3, (0, 0, 8, 8, WEED, 0.2)),
        seen(*[(0, 0, 8, 8, WEED, 0.9)] * 2),
        seen(),
    ]
    got = counted(field, found, np.array([0.5, 0.5]))
    # 3 for 4 and 2 for 1: off by one each, to either side; the truth's variance is 2 * 1.5 ** 2
    assert got["weed"].to_dict() == {
        "images": 2, "truth": 5, "found": 5, "mean_error": 1, "bias": 0, "r2": pytest.approx(1 - 2 / 4.5),
        "mean_error_per_m": None, "bias_per_m": None,
    }  # fmt: skip
    # 200 pixels of 2 mm: 0.4 m of ground in an image
    by_metre = counted(field, found, np.array([0.5, 0.5]), gsd_mm=2)
    assert (by_metre["weed"].mean_error_per_m, by_metre["weed"].bias_per_m) == pytest.approx((1 / 0.4, 0))
    assert by_metre["crop"].bias_per_m == pytest.approx(-1 / 3 / 0.4)
    assert (got["crop"].images, got["crop"].found, got["crop"].bias) == (3, 0, pytest.approx(-1 / 3))
    assert counted(dataset(image(1)), [seen()], np.zeros(2))["weed"].r2 is None
    assert counted(dataset(), [], np.zeros(2)) == {}


def test_nozzles_worked_on_paper():
    # 1 mm a pixel; nozzles every 100 mm, pulses of 50 mm; at 100 mm and 90 degrees each wets 200 mm
    sprayer = Sprayer(1, pitch_mm=100, pulse_mm=50, height_mm=100, angle_deg=90)
    assert sprayer.width_mm == pytest.approx(200)
    mask = wetted(np.array([[120, 60, 180, 100]], np.float32), SIZE_HW, sprayer)
    assert mask.shape == SIZE_HW and mask.sum() == 200 * 50
    assert mask[50:100, 50:250].all()
    # a hair over the edge of a pulse and of a nozzle's own ground: both sides are on
    assert wetted(np.array([[190, 60, 201, 101]], np.float32), SIZE_HW, sprayer).sum() == 100 * 250
    assert wetted(np.zeros((0, 4), np.float32), SIZE_HW, sprayer).sum() == 0
    narrow = Sprayer(2, pitch_mm=100, pulse_mm=100, height_mm=50, angle_deg=90)  # 50 px of ground, no overlap
    assert wetted(np.array([[10, 10, 20, 20]], np.float32), SIZE_HW, narrow).sum() == 50 * 50


def test_spraying_worked_on_paper():
    sprayer = Sprayer(1, pitch_mm=100, pulse_mm=100, height_mm=50, angle_deg=90)
    field = dataset(
        image(
            1,
            (10, 10, 50, 50, WEED, 0),  # found
            (90, 10, 130, 50, WEED, 0),  # not found; a quarter of it, and not its middle, is wet
            (60, 60, 90, 90, CROP, 0),  # beside the first weed, on the same nozzle's ground
            (210, 110, 250, 150, CROP, 0),
            (110, 110, 190, 190, WEED, 1),  # a crowd is neither
        )
    )
    found = [seen((10, 10, 50, 50, WEED, 0.6), (210, 110, 250, 150, CROP, 0.9), (210, 110, 250, 150, WEED, 0.3))]
    alone = np.ones((10, 1))
    got = sprayed(field, found, np.array([0.5, 0.5]), sprayer, [CROP], alone)
    assert (got.weeds_hit.count, got.weeds_hit.of) == (1, 2)
    assert (got.crop_hit.count, got.crop_hit.of) == (1, 2)
    assert got.weed_coverage == pytest.approx((1600 + 400) / 3200)
    assert got.area == pytest.approx(1 / 6) and got.saved == pytest.approx(5 / 6)
    curve = trade_off(field, found, sprayer, [CROP], alone)
    assert [score for score, _ in curve] == list(CURVE_SCORES)
    at = dict(curve)
    assert at[0.25].crop_hit.count == 2 and at[0.25].area == pytest.approx(2 / 6)
    assert at[0.65].area == 0 and at[0.65].weeds_hit.count == 0
    best = sprayed(field, perfect(field), np.zeros(2), sprayer, [CROP], alone)
    # both weeds are wetted, from the nozzles' ground that the second one reaches over to; so is the crop beside
    assert (best.weeds_hit.count, best.crop_hit.count, best.weed_coverage) == (2, 1, 1)
    assert best.area == pytest.approx(2 / 6)
    nothing = sprayed(dataset(), [], np.zeros(2), sprayer, [CROP], np.zeros((5, 0)))
    assert (nothing.area, nothing.weed_coverage, nothing.weeds_hit.of) == (0, 0, 0)


boxes = st.lists(
    st.tuples(
        st.integers(0, 250), st.integers(0, 150), st.integers(5, 50), st.integers(5, 50), st.floats(0.06, 0.99)
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=3), st.integers(20, 150), st.integers(20, 150))
def test_a_lower_threshold_never_hits_less_and_no_nozzle_wets_a_dry_field(content, pitch, pulse):
    field = dataset(*(image(n, *((x, y, x + w, y + h, n % 2, 0) for x, y, w, h, _ in rows))
                      for n, (rows, _) in enumerate(content)))  # fmt: skip
    found = [seen(*((x, y, x + w, y + h, WEED, s) for x, y, w, h, s in rows)) for _, rows in content]
    sprayer = Sprayer(1, pitch_mm=pitch, pulse_mm=pulse, height_mm=pitch, angle_deg=60)
    drawn = draw_groups([str(n) for n in range(len(content))], 20, 0)
    curve = [one for _, one in trade_off(field, found, sprayer, [CROP], drawn)]
    for low, high in zip(curve, curve[1:], strict=False):
        assert low.weeds_hit.count >= high.weeds_hit.count and low.crop_hit.count >= high.crop_hit.count
        assert low.area >= high.area and low.weed_coverage >= high.weed_coverage - 1e-12
    assert 0 <= curve[0].area <= 1 and 0 <= curve[0].weed_coverage <= 1
    if not any(rows for _, rows in content):
        assert curve[0].area == 0


def test_sprayers_are_parsed_and_nonsense_is_refused():
    assert Sprayer.parse("gsd_mm=0.5, pitch_mm=50") == Sprayer(0.5, pitch_mm=50)
    for text, said in (
        ("", "'' is none of gsd_mm=MM"),
        ("pitch_mm=50", "gsd_mm is missing"),
        ("gsd_mm=half", "'gsd_mm=half' is none of"),
        ("gsd_mm=1,speed=3", "'speed=3' is none of"),
        ("gsd_mm=0", "gsd_mm must be above 0"),
        ("gsd_mm=1,pulse_mm=inf", "pulse_mm must be above 0"),
        ("gsd_mm=1,angle_deg=180", "angle_deg must be between"),
    ):
        with pytest.raises(ValueError, match=said):
            Sprayer.parse(text)
