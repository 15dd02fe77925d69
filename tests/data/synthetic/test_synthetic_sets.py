"""What the rendered field writes: sets and drives in COCO form, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.synthetic import CLASS_NAMES, render_dataset, render_drive

SIZE_HW = (240, 320)


def _shape(path: Path) -> tuple[int, ...]:
    image = cv2.imread(str(path))
    assert image is not None
    return tuple(int(side) for side in image.shape)


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("set")
    calls: list[tuple[int, int]] = []
    path = render_dataset(out, images=12, size_hw=SIZE_HW, seed=0, fields=5, progress=lambda *at: calls.append(at))
    assert path == out / "annotations.json"
    assert calls[-1] == (12, 12) and len(calls) == 5
    return out


@pytest.fixture(scope="module")
def content(rendered: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((rendered / "annotations.json").read_text())
    return loaded


def test_images_and_entries_agree(rendered: Path, content: dict[str, Any]) -> None:
    names = [f"{number:06d}.jpg" for number in range(12)]
    assert [image["file_name"] for image in content["images"]] == names
    assert sorted(path.name for path in (rendered / "images").iterdir()) == names
    assert sorted(path.name for path in rendered.iterdir()) == ["annotations.json", "images"]
    for image in content["images"]:
        assert _shape(rendered / "images" / image["file_name"]) == (240, 320, 3)
        assert (image["height"], image["width"]) == SIZE_HW
        assert set(image["attributes"]) == {"field", "light", "stage", "soil"}
        assert image["attributes"]["light"] in ("sun", "overcast", "low_sun")
    assert len({image["attributes"]["field"] for image in content["images"]}) == 5


def test_every_class_occurs_and_some_images_are_empty(content: dict[str, Any]) -> None:
    assert [(entry["id"], entry["name"]) for entry in content["categories"]] == list(enumerate(CLASS_NAMES, 1))
    assert {entry["category_id"] for entry in content["annotations"]} == {1, 2, 3, 4, 5}
    labelled = {entry["image_id"] for entry in content["annotations"]}
    assert 1 <= sum(image["id"] not in labelled for image in content["images"]) <= 3


def test_annotations_are_coco(rendered: Path, content: dict[str, Any]) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_module.COCO(str(rendered / "annotations.json"))
    assert len(coco.getImgIds()) == 12
    assert sorted(coco.getAnnIds()) == list(range(1, len(content["annotations"]) + 1))
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        assert entry["iscrowd"] == 0
        assert min(width, height) >= 10.0
        assert 0.0 <= x and x + width <= 320.0 and 0.0 <= y and y + height <= 240.0
        assert 0.0 < entry["area"] <= width * height


def test_the_same_call_writes_the_same_files_in_one_process_or_several(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.synthetic.dataset.os.cpu_count", lambda: 1)
    render_dataset(tmp_path, images=12, size_hw=SIZE_HW, seed=0, fields=5)
    assert _digest(tmp_path) == _digest(rendered)


def test_another_seed_renders_other_fields(content: dict[str, Any], tmp_path: Path) -> None:
    path = render_dataset(tmp_path, images=2, size_hw=SIZE_HW, seed=1000)
    images = json.loads(path.read_text())["images"]
    ours = {image["attributes"]["field"] for image in images}
    assert len(ours) == 2
    assert not ours & {image["attributes"]["field"] for image in content["images"]}


def test_after_a_failure_no_annotations_claim_to_be_whole(tmp_path: Path) -> None:
    render_dataset(tmp_path, images=1, size_hw=SIZE_HW, seed=0)
    assert (tmp_path / "annotations.json").is_file()

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_dataset(tmp_path, images=1, size_hw=SIZE_HW, seed=0, progress=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(("images", "fields"), [(0, None), (4, 0)])
def test_nothing_to_render_is_refused(tmp_path: Path, images: int, fields: int | None) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        render_dataset(tmp_path, images=images, seed=0, fields=fields)


def test_more_fields_than_a_seed_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fewer than 10000 fields, asked for 10000"):
        render_dataset(tmp_path, images=20_000, seed=0, fields=10_000)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drive")
    return render_drive(out, seconds=0.8, fps=10, size_hw=SIZE_HW, seed=3, speed_m_s=0.5)


def test_a_drive_has_one_entry_a_frame(drive: Path) -> None:
    content = json.loads(drive.read_text())
    assert sorted(path.name for path in drive.parent.iterdir()) == ["annotations.json", "drive.mp4"]
    assert [image["frame"] for image in content["images"]] == list(range(8))
    assert content["images"][3]["file_name"] == "drive.mp4#000003"
    video = cv2.VideoCapture(str(drive.parent / "drive.mp4"))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == 8
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)
    video.release()


def test_a_drive_crosses_a_field_of_its_own(drive: Path, content: dict[str, Any]) -> None:
    fields = {image["attributes"]["field"] for image in json.loads(drive.read_text())["images"]}
    assert fields == {"field_039999"}
    assert not fields & {image["attributes"]["field"] for image in content["images"]}


def test_a_plant_keeps_its_id_and_moves_with_the_ground(drive: Path) -> None:
    content = json.loads(drive.read_text())
    boxes: dict[int, dict[int, list[float]]] = {}
    labels: dict[int, set[int]] = {}
    for entry in content["annotations"]:
        boxes.setdefault(entry["plant_id"], {})[entry["image_id"]] = entry["bbox"]
        labels.setdefault(entry["plant_id"], set()).add(entry["category_id"])
    assert all(len(seen) == 1 for seen in labels.values())
    step_px = 0.5 / 10 * 320 / 0.48
    steps = []
    for seen in boxes.values():
        for frame in range(1, 8):
            pair = [seen.get(frame), seen.get(frame + 1)]
            if any(
                box is None or box[0] < 1 or box[1] < 1 or box[0] + box[2] > 319 or box[1] + box[3] > 239
                for box in pair
            ):
                continue
            old, new = (box for box in pair if box is not None)
            steps.append(new[1] + 0.5 * new[3] - old[1] - 0.5 * old[3])
    assert len(steps) > 10
    assert np.mean(steps) == pytest.approx(step_px, abs=0.5)
    # The camera shakes: single steps differ by a few pixels.
    assert np.abs(np.array(steps) - step_px).max() < 3.5


def test_a_drive_that_breaks_off_leaves_no_video_and_no_annotations(tmp_path: Path) -> None:
    def fail(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_drive(tmp_path, seconds=0.4, fps=10, size_hw=SIZE_HW, seed=3, progress=fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seconds", "speed_m_s"), [(0.0, 1.0), (1.0, -1.0)])
def test_a_drive_of_no_frames_or_backwards_is_refused(tmp_path: Path, seconds: float, speed_m_s: float) -> None:
    with pytest.raises(ValueError, match="nothing to render"):
        render_drive(tmp_path, seconds=seconds, seed=0, speed_m_s=speed_m_s)
