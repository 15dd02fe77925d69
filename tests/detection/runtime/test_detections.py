from __future__ import annotations

import numpy as np
import pytest

from detection.runtime.detections import Detections, Frame


def _three() -> Detections:
    return Detections(np.arange(12, dtype=np.float32).reshape(3, 4), np.float32([0.9, 0.5, 0.1]), np.int64([1, 0, 1]))


def test_empty() -> None:
    empty = Detections.empty()
    assert len(empty) == 0
    assert empty.boxes_xyxy.shape == (0, 4)
    assert len(empty[:5]) == 0
    assert len(Detections.from_supervision(empty.to_supervision())) == 0


def test_frozen_for_real() -> None:
    boxes = np.zeros((1, 4), np.float32)
    detections = Detections(boxes, np.float32([1]), np.int64([0]))
    boxes[:] = 7
    assert detections.boxes_xyxy.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        detections.boxes_xyxy[0, 0] = 1


def test_picking() -> None:
    three = _three()
    assert three[three.scores > 0.3].labels.tolist() == [1, 0]
    assert three[np.array([2, 0])].boxes_xyxy[:, 0].tolist() == [8, 0]
    tracked = Detections(three.boxes_xyxy, three.scores, three.labels, np.int64([5, 6, 7]))
    assert tracked[1:].track_ids is not None and tracked[1:].track_ids.tolist() == [6, 7]


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        (np.zeros((2, 4)), np.zeros(1), np.zeros(2, int), r"scores must have shape \(2,\)"),
        (np.zeros(4), np.zeros(1), np.zeros(1, int), "boxes_xyxy must have shape"),
        (np.zeros((1, 4)), np.zeros(1), np.zeros(1), "labels must be integers"),
        (np.full((1, 4), np.nan), np.zeros(1), np.zeros(1, int), "finite"),
    ],
)
def test_wrong_at_birth(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(boxes, scores, labels)


def test_there_and_back_through_supervision() -> None:
    three = _three()
    back = Detections.from_supervision(three.to_supervision())
    np.testing.assert_array_equal(back.boxes_xyxy, three.boxes_xyxy)
    np.testing.assert_array_equal(back.scores, three.scores)
    np.testing.assert_array_equal(back.labels, three.labels)


def test_frame_refuses_what_is_no_image() -> None:
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), got float64"):
        Frame(np.zeros((2, 2, 3)), "c", 0, 0)  # type: ignore[arg-type]


def test_rows_of_two_one_after_the_other() -> None:
    a = Detections([[0, 0, 1, 1]], [0.9], [1], [7])
    b = Detections([[2, 2, 3, 4], [5, 5, 6, 6]], [0.4, 0.3], [0, 1], [-1, 8])
    both = a + b
    np.testing.assert_array_equal(both.boxes_xyxy, [[0, 0, 1, 1], [2, 2, 3, 4], [5, 5, 6, 6]])
    np.testing.assert_allclose(both.scores, [0.9, 0.4, 0.3])
    assert both.labels.tolist() == [1, 0, 1] and both.track_ids is not None and both.track_ids.tolist() == [7, -1, 8]
    untracked = Detections(b.boxes_xyxy, b.scores, b.labels)
    assert (a + untracked).track_ids is None and len(a + Detections.empty()) == 1


def test_the_former_name_of_boxes_xyxy_is_answered_by_the_new_one() -> None:
    found = Detections(np.float32([[1, 2, 3, 4]]), np.float32([0.5]), np.int64([0]))
    with pytest.warns(DeprecationWarning, match="Detections.boxes is now Detections.boxes_xyxy"):
        assert found.boxes is found.boxes_xyxy


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((2, 2), np.uint8), "uint8 (2, 2)"),
        (np.zeros((2, 3, 4), np.uint8), "uint8 (2, 3, 4)"),
        (np.zeros((2, 2, 3), np.float32), "float32 (2, 2, 3)"),
    ],
)
def test_what_a_frame_says_of_another_image(image: np.ndarray, got: str) -> None:
    with pytest.raises(ValueError) as caught:
        Frame(image, "c", 0, 0)
    assert str(caught.value) == f"a frame's image must be uint8 (H, W, 3), got {got}"


def test_what_is_said_at_birth() -> None:
    box = np.zeros((1, 4))
    for columns, said in (
        ((np.zeros(4), [1], [0]), "boxes_xyxy must have shape ('N', 4), got (4,)"),
        ((np.zeros((1, 5)), [1], [0]), "boxes_xyxy must have shape ('N', 4), got (1, 5)"),
        ((box + np.inf, [1], [0]), "boxes_xyxy must be finite"),
        ((box, [1], [0, 1]), "labels must have shape (1,), got (2,)"),
        ((box, [1], [0], [1, 2]), "track_ids must have shape (1,), got (2,)"),
        ((box, [1], [0.0]), "labels must be integers, got float64"),
        ((box, [1], [0], [1.0]), "track_ids must be integers, got float64"),
    ):
        with pytest.raises(ValueError) as caught:
            Detections(*columns)
        assert str(caught.value) == said


def test_columns_have_one_dtype_and_are_read_only() -> None:
    found = Detections([[1, 2, 3, 4]], [1], [0], [7])
    columns = (found.boxes_xyxy, found.scores, found.labels, found.track_ids)
    assert [str(column.dtype) for column in columns] == ["float32", "float32", "int64", "int64"]
    assert not any(column.flags.writeable for column in columns)


def test_what_supervision_leaves_out() -> None:
    import supervision

    bare = supervision.Detections(xyxy=np.float32([[1, 2, 3, 4]]), class_id=np.array([2]), tracker_id=np.array([5]))
    found = Detections.from_supervision(bare)
    assert (found.scores.tolist(), found.labels.tolist(), found.track_ids.tolist()) == ([1], [2], [5])
    theirs = found.to_supervision()
    assert theirs.tracker_id.tolist() == [5] and theirs.xyxy.flags.writeable and theirs.confidence.flags.writeable
    with pytest.raises(ValueError, match="^detections without class_id cannot be labelled$"):
        Detections.from_supervision(supervision.Detections(xyxy=np.float32([[1, 2, 3, 4]])))
