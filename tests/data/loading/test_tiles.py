from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import DataError, Dataset, load_dataset
from data.dataset import merged
from data.formats.coco import save_coco
from data.loading.tiles import TileSettings, tile_corners, tile_dataset, tile_windows
from data.window import Window
from tests.data.loading.photos import dataset, image

# the grid


def test_the_grid_by_hand():
    # steps of 64 - 16 = 48 along 150: 0, 48, then the last one at 150 - 64 = 86; along 64 there is one
    assert tile_corners((64, 150), 64, 16) == [(0, 0, 64, 64), (48, 0, 112, 64), (86, 0, 150, 64)]


@pytest.mark.parametrize(
    ("length", "starts"), [(10, [0]), (64, [0]), (65, [0, 1]), (112, [0, 48]), (113, [0, 48, 49]), (160, [0, 48, 96])]
)
def test_the_last_tile_is_aligned_and_never_twice(length, starts):
    corners = tile_corners((30, length), 64, 16)
    assert [left for left, *_ in corners] == starts
    assert {(top, right - left, bottom) for left, top, right, bottom in corners} == {(0, min(64, length), 30)}


@settings(deadline=None)
@given(st.tuples(st.integers(1, 400), st.integers(1, 400)), st.integers(5, 150), st.floats(0, 0.9), st.data())
def test_the_grid_covers_stays_inside_and_shows_each_small_box_whole(photo_hw, side_px, overlap, data):
    overlap_px = int(side_px * overlap)
    height, width = photo_hw
    corners = np.array(tile_corners(photo_hw, side_px, overlap_px))
    assert len({tuple(c) for c in corners.tolist()}) == len(corners)
    assert (corners[:, :2] >= 0).all() and (corners[:, 2] <= width).all() and (corners[:, 3] <= height).all()
    assert (corners[:, 2] - corners[:, 0] == min(side_px, width)).all()
    assert (corners[:, 3] - corners[:, 1] == min(side_px, height)).all()
    seen = np.zeros(photo_hw, bool)
    for x1, y1, x2, y2 in corners:
        seen[y1:y2, x1:x2] = True
    assert seen.all()
    # any box up to the overlap, at any place, whole numbers or not
    box_w = data.draw(st.floats(0, min(overlap_px, width)))
    box_h = data.draw(st.floats(0, min(overlap_px, height)))
    x, y = data.draw(st.floats(0, width - box_w)), data.draw(st.floats(0, height - box_h))
    inside = (corners[:, 0] <= x) & (corners[:, 1] <= y)
    inside &= (x + box_w <= corners[:, 2] + 1e-9) & (y + box_h <= corners[:, 3] + 1e-9)
    assert inside.any()


def test_an_overlap_of_a_whole_tile_is_refused():
    for overlap_px in (-1, 64, 65):
        with pytest.raises(ValueError, match="overlap must be 0 to 63 px"):
            tile_corners((100, 100), 64, overlap_px)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_px": 31},
        {"overlap": -0.1},
        {"overlap": 0.8},
        {"min_visible": 1.5},
        {"gsd_mm": 0.0},
        {"gsd_mm": float("nan")},
        {"tile_m": -1.0},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TileSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"tile_m": 1.0}, {"tile_m": 0.02, "gsd_mm": 1.0}])
def test_settings_that_do_not_fit_a_photo_are_one_line(wrong):
    with pytest.raises(DataError, match="tiles of"):
        tile_windows((500, 500), TileSettings(size_px=64, **wrong))
    for gsd_mm in (0.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="tiles of"):
            tile_windows((500, 500), TileSettings(size_px=64, tile_m=1.0), gsd_mm)


# ground sampling distance


def test_photos_from_two_heights_give_tiles_of_one_ground_size():
    # 0.5 m is 500 px at 1 mm and 250 px at 2 mm a pixel; both become 128
    low = tile_windows((1000, 1000), TileSettings(size_px=128, overlap=0.0, tile_m=0.5, gsd_mm=1.0))
    high = tile_windows((500, 500), TileSettings(size_px=128, overlap=0.0, tile_m=0.5, gsd_mm=2.0))
    assert {w.size_hw for w in (*low, *high)} == {(128, 128)}
    assert len(low) == len(high) == 4
    assert [w.corners_xyxy for w in high] == [tuple(c // 2 for c in w.corners_xyxy) for w in low]
    plant_mm = np.array([[600.0, 100.0, 640.0, 160.0]])
    assert low[1].to_window(plant_mm / 1.0) == pytest.approx(high[1].to_window(plant_mm / 2.0))


def test_a_photo_smaller_than_the_tile_on_the_ground_keeps_the_scale():
    (window,) = tile_windows((100, 300), TileSettings(size_px=128, overlap=0.25, tile_m=0.5, gsd_mm=1.0))
    assert window.corners_xyxy == (0, 0, 300, 100)
    assert window.size_hw == (26, 77)  # 128 / 500 of it
    # tiles of many kilometres: the photo, a pixel or more
    (window,) = tile_windows((100, 300), TileSettings(size_px=128, overlap=0.25, tile_m=1e9, gsd_mm=1.0))
    assert window.size_hw == (1, 1)


def test_the_ground_of_each_photo_is_its_attribute(tmp_path):
    def photo(gsd_mm: str | None) -> Dataset:
        attributes = {} if gsd_mm is None else {"gsd_mm": gsd_mm}
        return dataset(image(tmp_path / "a.png", (500, 500), attributes=attributes))

    tiled, _ = tile_dataset(photo("2.0"), TileSettings(size_px=100, overlap=0, tile_m=0.5))
    assert len(tiled) == 4 and tiled.images[0].window.corners_xyxy == (0, 0, 250, 250)
    assert tiled.images[0].attributes["gsd_mm"] == "5"  # 250 px of 2 mm on 100 px
    tiled, _ = tile_dataset(photo("2.0"), TileSettings(size_px=100, overlap=0, tile_m=0.5, gsd_mm=1.0))
    assert len(tiled) == 1  # what is said for all photos wins
    for given_mm, said in (
        (None, "has no attribute gsd_mm"),
        ("two", "'two', not a number"),
        ("-1", "tiles of 0.5 m"),
    ):
        with pytest.raises(DataError, match=said):
            tile_dataset(photo(given_mm), TileSettings(tile_m=0.5))


# boxes there and back


@settings(deadline=None)
@given(
    st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(1, 500), st.integers(1, 500)),
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.lists(st.tuples(*[st.floats(-2000, 2000)] * 4), max_size=4),
)
def test_boxes_map_into_the_window_and_back(place, size_hw, boxes):
    x, y, width, height = place
    window = Window((1000, 1000), (x, y, x + width, y + height), size_hw)
    boxes_xyxy = np.array(boxes, np.float64).reshape(-1, 4)
    assert window.to_photo(window.to_window(boxes_xyxy)) == pytest.approx(boxes_xyxy, abs=1e-6)
    assert window.to_window(window.to_photo(boxes_xyxy)) == pytest.approx(boxes_xyxy, abs=1e-6)
    whole = np.array([[x, y, x + width, y + height]], np.float64)
    assert window.to_window(whole) == pytest.approx(np.array([[0, 0, size_hw[1], size_hw[0]]]))


def test_a_window_must_lie_in_its_photo_and_its_image_have_its_size(tmp_path):
    for corners in ((-1, 0, 5, 5), (0, 0, 21, 5), (0, 0, 5, 11), (5, 5, 5, 9), (0, 9, 5, 3)):
        with pytest.raises(ValueError, match="is not inside a photo"):
            Window((10, 20), corners, (5, 5))
    with pytest.raises(ValueError, match="size_hw must be positive"):
        Window((10, 20), (0, 0, 5, 5), (0, 5))
    with pytest.raises(ValueError, match="a window of"):
        image(tmp_path / "a.png", window=Window((100, 200), (0, 0, 50, 50), (50, 50)))


# boxes at the edges of tiles


def test_whole_cut_and_dropped_boxes_by_hand(photo):
    tiled, counts = tile_dataset(dataset(photo), TileSettings(size_px=100, overlap=0.5, min_visible=0.4))
    # tiles start at x = 0, 50, 100. Box 1 lies in the first only; box 2 (50..80) in the first two;
    # of box 3 (90..190) 0.1, 0.6 and 0.9 are visible
    kept = [p.boxes_xyxy.tolist() for p in tiled.images]
    assert kept == [
        [[4, 6, 24, 26], [50, 40, 80, 60]],
        [[0, 40, 30, 60], [40, 0, 100, 100]],
        [[0, 0, 90, 100]],
    ]
    assert [p.labels.tolist() for p in tiled.images] == [[0, 1], [1, 0], [0]]
    assert [p.truncated.tolist() for p in tiled.images] == [[False, False], [False, True], [True]]
    assert tiled.images[1].areas_px.tolist() == pytest.approx([100, 60])  # of the mask, as its box
    assert (counts.photos, counts.tiles, counts.empty, counts.boxes) == (1, 3, 0, 3)
    assert (counts.whole, counts.cut, counts.dropped, counts.thin, counts.lost) == (3, 2, 1, 0, 0)
    assert (
        tiled.notices
        == counts.lines()
        == (
            "1 photos in 3 tiles, 0 of them without a box",
            "3 boxes in the photos; in the tiles 3 whole and 2 cut by an edge",
            "1 parts of boxes of which less than 0.4 is visible in the tile: dropped there",
        )
    )


def test_a_box_that_no_tile_keeps_is_said(photo):
    _, counts = tile_dataset(dataset(photo), TileSettings(size_px=32, overlap=0, min_visible=0.9))
    assert counts.lost == 2
    assert "2 boxes in no tile at all" in counts.lines()[-1]


def test_what_shrinks_below_a_pixel_is_dropped_and_said(tmp_path):
    photos = dataset(image(tmp_path / "a.png", (400, 400), boxes=((10, 10, 13, 13), (10, 10, 100, 100))))
    tiled, counts = tile_dataset(photos, TileSettings(size_px=40, overlap=0, tile_m=0.4, gsd_mm=1.0))
    assert tiled.images[0].boxes_xyxy.tolist() == [[1, 1, 10, 10]]
    assert (counts.thin, counts.lost) == (1, 1)
    assert "1 parts of boxes thinner than 1 px in the tile: dropped there" in tiled.notices


_SIDES = st.floats(1, 40)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), _SIDES, _SIDES), min_size=1, max_size=6),
    st.tuples(st.integers(41, 300), st.integers(41, 300)),
    st.floats(0, 1),
)
def test_a_box_up_to_the_overlap_is_whole_in_some_tile_and_none_is_lost(drawn, photo_hw, min_visible):
    height, width = photo_hw
    boxes = [(x * (width - w), y * (height - h), x * (width - w) + w, y * (height - h) + h) for x, y, w, h in drawn]
    photo = image(Path("a.png"), photo_hw, boxes=boxes, areas_px=np.ones(len(boxes)))
    tiled, counts = tile_dataset(dataset(photo), TileSettings(size_px=80, overlap=0.5, min_visible=min_visible))
    assert counts.lost == 0 and counts.boxes == len(boxes) and counts.tiles == len(tiled)
    back = np.concatenate([p.window.to_photo(p.boxes_xyxy[~p.truncated]) for p in tiled.images])
    for box in photo.boxes_xyxy:
        assert (np.abs(back - box).max(axis=1) < 1e-3).any()
    assert counts.whole + counts.cut == tiled.box_count
    assert counts.empty == sum(not len(p.boxes_xyxy) for p in tiled.images)
    # nothing but the number of tiles that a box touches is left over
    touched = 0
    for tile in tiled.images:
        moved = tile.window.to_window(photo.boxes_xyxy)
        frame = np.array([tile.size_hw[1], tile.size_hw[0]])
        touched += int(((moved[:, 2:] > 0) & (moved[:, :2] < frame)).all(axis=1).sum())
    assert touched == counts.whole + counts.cut + counts.dropped + counts.thin


# tiles as a dataset


def test_no_photos_and_a_photo_without_boxes(tmp_path):
    tiled, counts = tile_dataset(dataset(), TileSettings())
    assert len(tiled) == 0 and counts.tiles == 0
    tiled, counts = tile_dataset(dataset(image(tmp_path / "a.png", boxes=())), TileSettings(size_px=100, overlap=0))
    assert [len(p.boxes_xyxy) for p in tiled.images] == [0, 0] and counts.empty == 2


def test_pixels_are_those_of_the_photo(photo):
    pixels = cv2.imread(str(photo.path))
    tiled, _ = tile_dataset(dataset(photo), TileSettings(size_px=64, overlap=0.25))
    assert len(tiled) == 8 and [p.image_id for p in tiled.images] == list(range(1, 9))
    for tile in tiled.images:
        x1, y1, x2, y2 = tile.window.corners_xyxy
        shown = tile.read()
        assert np.array_equal(shown, pixels[y1:y2, x1:x2])
        assert shown.base is None  # not a view that keeps the photo
    half, _ = tile_dataset(dataset(photo), TileSettings(size_px=50, overlap=0, tile_m=0.1, gsd_mm=1.0))
    expected = pixels[:100, 100:200].reshape(50, 2, 50, 2, 3).mean(axis=(1, 3))
    assert np.abs(half.images[1].read() - expected).max() <= 0.5


def test_attributes_carry_over_and_name_the_photo(photo, tmp_path):
    tiled, _ = tile_dataset(dataset(photo), TileSettings(size_px=100, overlap=0))
    assert dict(tiled.images[1].attributes) == {
        "field": "north",
        "photo": "DSC_0001.png",
        "window_xyxy": "100 0 200 100",
    }
    # two photos of one name; and one that knows what it was cut from
    twins = [image(tmp_path / day / "a.png", image_id=i) for i, day in enumerate(("monday", "tuesday"))]
    named = image(tmp_path / "b.png", image_id=5, attributes={"photo": "whole.png"})
    tiled, _ = tile_dataset(dataset(*twins, named), TileSettings(size_px=200, overlap=0))
    assert [p.attributes["photo"] for p in tiled.images] == ["monday/a.png", "tuesday/a.png", "whole.png"]


def test_tiles_cannot_be_cut_again_or_written_as_if_they_were_photos(photo, tmp_path):
    tiled, _ = tile_dataset(dataset(photo), TileSettings(size_px=64))
    with pytest.raises(DataError, match="is a tile already"):
        tile_dataset(tiled, TileSettings())
    with pytest.raises(DataError, match="COCO cannot represent a window of a photo .DSC_0001.png."):
        save_coco(tiled, tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()


def test_the_fingerprint_knows_windows_and_that_of_photos_stays(photo, tmp_path, write_image):
    empty = dataset(replace(photo, boxes_xyxy=np.zeros((0, 4)), labels=[], areas_px=[], iscrowd=[], truncated=[]))
    prints = {"photo": empty.fingerprint()}
    for size_px, overlap in ((64, 0.25), (64, 0.5), (100, 0)):
        tiles, _ = tile_dataset(empty, TileSettings(size_px=size_px, overlap=overlap))
        prints[f"{size_px} {overlap}"] = tiles.fingerprint()
    tiles, _ = tile_dataset(empty, TileSettings(size_px=100, overlap=0))
    prints["left"], prints["right"] = tiles.subset([0]).fingerprint(), tiles.subset([1]).fingerprint()
    assert len(set(prints.values())) == len(prints) == 6
    assert tiles.subset([1, 0]).fingerprint() == tiles.fingerprint()
    assert [p.window for p in tiles.subset([1]).images] == [tiles.images[1].window]
    # whole images have the fingerprint they had before there were windows
    cv2.imwrite(str(tmp_path / "flat.bmp"), np.full((40, 60, 3), 90, np.uint8))
    flat = dataset(image(tmp_path / "flat.bmp", (40, 60)))
    assert flat.fingerprint() == "sha256:020cb4448065c57dfee2c754769a62f81b865d7f571da40b13c0757105931710"


def test_workers_get_tiles_and_merging_keeps_all_of_a_photo(photo):
    tiled, _ = tile_dataset(dataset(photo), TileSettings(size_px=64))
    copy = pickle.loads(pickle.dumps(tiled.images[3]))
    assert copy.window == tiled.images[3].window and np.array_equal(copy.read(), tiled.images[3].read())
    assert len(merged({"train": tiled, "again": tiled})) == len(tiled)


def test_a_photo_replaced_by_one_of_another_size_is_refused(photo, write_image):
    tiled, _ = tile_dataset(dataset(photo), TileSettings(size_px=64))
    write_image(photo.path, (90, 90))
    with pytest.raises(DataError, match="changed its size"):
        tiled.images[0].read()


def test_real_photos(real_dataset):
    photos = load_dataset(real_dataset("cwfid"))
    tiled, counts = tile_dataset(photos, TileSettings(size_px=512, overlap=0.25))
    # 1296 x 966: steps of 384 along 784 and 454 beyond the first tile: 4 x 3 tiles
    assert counts.tiles == len(tiled) == 39 * 12
    assert (counts.boxes, counts.lost) == (photos.box_count, 0) == (320, 0)
    # every plant up to the overlap (128 px) stands whole in a tile, and comes back to where it was
    small = 0
    for photo in photos.images:
        mine = [tile for tile in tiled.images if tile.path == photo.path]
        back = np.concatenate([tile.window.to_photo(tile.boxes_xyxy[~tile.truncated]) for tile in mine])
        for box in photo.boxes_xyxy:
            if (box[2:] - box[:2] <= 128).all():
                small += 1
                assert np.abs(back - box).max(axis=1).min() < 1e-3
    assert small == 42
