import dataclasses
import json

import cv2
import numpy as np
import pytest

from detection.runtime.detections import Detections
from detection.runtime.detector import Detector
from detection.runtime.errors import ModelFileError
from detection.runtime.letterbox import letterbox
from detection.runtime.parity.expected import Expected
from detection.runtime.parity.reference import Reference, file_digest, pixels_digest
from detection.runtime.parity.verify import verify
from tests.detection.runtime import tiny_model

SIZE_HW = (64, 96)


def field(number):
    """An image with a red rectangle, in BGR."""
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    image[10 : 20 + number, 5:30, 2] = 200
    return image


def answer(image_bgr, borderline=(False,)):
    """What the tiny model must say of it, worked out apart: the bounds of what is red."""
    rows, columns = np.nonzero(letterbox(image_bgr, SIZE_HW)[0][..., 0] > tiny_model.BRIGHT)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    found = Detections(np.array([box], np.float32), np.array([200 / 255], np.float32), np.zeros(1, np.int64))
    return Expected(found, None if borderline is None else np.array(borderline))


@pytest.fixture
def model(tmp_path):
    path = tiny_model.write(tmp_path / "tiny.onnx")
    kept = [field(number) for number in range(3)]
    reference = Reference(
        file_digest(path),
        tuple(cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in kept),
        tuple(map(answer, kept)),
        {pixels_digest(image): answer(image) for image in (field(7), field(9))},
    )
    Reference.path_of(path).write_bytes(reference.to_bytes())
    return path


def test_what_is_written_is_read(model):
    read = Reference.read(Reference.path_of(model))
    assert read.model_sha256 == file_digest(model)
    assert [image.tolist() for image in read.inputs_rgb] == [field(k)[..., ::-1].tolist() for k in range(3)]
    assert [a.detections.boxes_xyxy.tolist() for a in read.expected] == [
        answer(field(k)).detections.boxes_xyxy.tolist() for k in range(3)
    ]
    assert set(read.by_digest) == {pixels_digest(field(7)), pixels_digest(field(9))}
    assert read.by_digest[pixels_digest(field(9))].detections.boxes_xyxy.tolist() == [[5, 10, 30, 29]]
    assert not any(one.borderline.any() or len(one.alternates) for one in read.expected)


def test_a_file_that_is_as_it_was_agrees(model):
    outcome = verify(model, Detector(model), [field(7), field(8), field(9)])
    assert outcome.same_file and outcome.parity.passed
    assert (outcome.reference_images, outcome.other_images) == (2, 1)  # the export was not checked on field 8
    # twice 1, 2, 5 and 8 images, the five that are known again and again
    assert outcome.parity.images == outcome.parity.boxes == 32


@pytest.mark.parametrize(
    "change",
    [
        {"boxes_xyxy": np.float32([[5, 10, 31, 20]])},
        {"scores": np.float32([0.7])},
        {"labels": np.int64([1])},
        {
            "boxes_xyxy": np.zeros((0, 4), np.float32),
            "scores": np.zeros(0, np.float32),
            "labels": np.zeros(0, np.int64),
        },
    ],
)
def test_another_answer_is_found_out(model, change):
    path = Reference.path_of(model)
    reference = Reference.read(path)
    wrong = dataclasses.replace(reference.expected[0].detections, **change)
    others = (Expected(wrong, np.zeros(len(wrong), bool)), *reference.expected[1:])
    path.write_bytes(dataclasses.replace(reference, expected=others).to_bytes())
    outcome = verify(model, Detector(model))
    assert outcome.same_file and outcome.parity.unmatched and not outcome.parity.passed


def test_what_the_reference_knows_as_borderline_may_differ(model):
    path = Reference.path_of(model)
    reference = Reference.read(path)
    right = reference.expected[0].detections
    moved = dataclasses.replace(right, boxes_xyxy=right.boxes_xyxy + 2)
    borderline = Expected(moved, np.array([True]), right)
    path.write_bytes(dataclasses.replace(reference, expected=(borderline, *reference.expected[1:])).to_bytes())
    kept = Reference.read(path).expected[0]
    assert kept.borderline.tolist() == [True] and kept.alternates.boxes_xyxy.tolist() == right.boxes_xyxy.tolist()
    parity = verify(model, Detector(model)).parity
    assert parity.passed and parity.unmatched == 0 and parity.borderline > 0


def test_a_reference_of_schema_1_is_read(model):
    path = Reference.path_of(model)
    reference = Reference.read(path)
    early = tuple(answer(field(number), None) for number in range(3))
    path.write_bytes(dataclasses.replace(reference, expected=early, by_digest={}).to_bytes())
    assert json.loads(str(np.load(path)["about"]))["schema"] == 1
    assert "borderline" not in np.load(path) and Reference.read(path).expected[0].borderline is None
    assert verify(model, Detector(model)).parity.passed


def test_a_changed_file_is_found_out(model):
    tiny_model.write(model, tiny_model.metadata(score_thresholds=(0.1, 0.1)))
    outcome = verify(model, Detector(model))
    assert outcome.parity.passed and not outcome.same_file


def test_a_reference_that_is_none_says_so(model, tmp_path):
    path, detector = Reference.path_of(model), Detector(model)
    whole = path.read_bytes()
    for content in (whole[:-40], b"", b"PK\x03\x04", json.dumps([]).encode()):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="tiny.reference.npz: damaged; export the model again"):
            verify(model, detector)
    path.write_bytes(whole)
    newer = dict(np.load(path))
    newer["about"] = np.array(json.dumps({"schema": 3}))
    np.savez(path, **newer)
    with pytest.raises(ModelFileError, match="schema 3 is newer"):
        verify(model, detector)
    empty = Reference("", (), (), {}).to_bytes()
    other = Reference("", (np.zeros((32, 32, 3), np.uint8),), (answer(field(0)),), {}).to_bytes()
    for content in (empty, other):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="of another model than"):
            verify(model, detector)
    path.unlink()
    with pytest.raises(ModelFileError, match="no such file; swath export writes it beside the model"):
        verify(model, detector)
