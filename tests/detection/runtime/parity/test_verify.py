import dataclasses
import json

import cv2
import numpy as np
import pytest

from detection.runtime.detections import Detections
from detection.runtime.detector import Detector
from detection.runtime.errors import ModelFileError
from detection.runtime.letterbox import letterbox
from detection.runtime.parity.reference import Reference, file_digest, pixels_digest
from detection.runtime.parity.verify import verify
from tests.detection.runtime import tiny_model

SIZE_HW = (64, 96)


def field(number):
    """An image with a red rectangle, in BGR."""
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    image[10 : 20 + number, 5:30, 2] = 200
    return image


def answer(image_bgr):
    """What the tiny model must say of it, worked out apart: the bounds of what is red."""
    rows, columns = np.nonzero(letterbox(image_bgr, SIZE_HW)[0][..., 0] > tiny_model.BRIGHT)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return Detections(np.array([box], np.float32), np.array([200 / 255], np.float32), np.zeros(1, np.int64))


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
    assert [a.boxes_xyxy.tolist() for a in read.detections] == [
        answer(field(k)).boxes_xyxy.tolist() for k in range(3)
    ]
    assert set(read.by_digest) == {pixels_digest(field(7)), pixels_digest(field(9))}
    assert read.by_digest[pixels_digest(field(9))].boxes_xyxy.tolist() == answer(field(9)).boxes_xyxy.tolist()


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
    wrong = dataclasses.replace(reference.detections[0], **change)
    others = (wrong, *reference.detections[1:])
    path.write_bytes(dataclasses.replace(reference, detections=others).to_bytes())
    outcome = verify(model, Detector(model))
    assert outcome.same_file and outcome.parity.unmatched and not outcome.parity.passed


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
    newer["about"] = np.array(json.dumps({"schema": 2}))
    np.savez(path, **newer)
    with pytest.raises(ModelFileError, match="schema 2 is newer"):
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
