import numpy as np
import pytest

from detection.evaluation.tta import FOUR_FLIPS, TWO_FLIPS, FlipTTA, flips_of, fused_boxes
from detection.runtime.detections import Detections

WIDTH, HEIGHT = 60, 40


def output(*rows: tuple[float, float, float, float, float, int]):
    table = np.array(rows, np.float32).reshape(-1, 6)
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int64)


class Brightest:
    """Finds the box of all pixels above 200, with the scores given."""

    class_names = ("spot",)

    def __init__(self, scores=(0.8,)) -> None:
        self.scores, self.calls = list(scores), 0

    def __call__(self, image_bgr):
        rows, columns = np.nonzero(image_bgr[..., 0] > 200)
        score = self.scores[self.calls % len(self.scores)]
        self.calls += 1
        if not len(rows) or not score:
            return Detections.empty()
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Detections(np.array([box], np.float32), np.array([score], np.float32), np.zeros(1, np.int64))


@pytest.fixture
def image():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[5:12, 40:58] = 255
    return image


@pytest.mark.parametrize(("flips", "times"), [(FOUR_FLIPS, 4), (TWO_FLIPS, 2)])
def test_boxes_are_in_pixels_of_the_original_image(image, flips, times):
    detector = Brightest()
    found = FlipTTA(detector, flips)(image)
    assert detector.calls == times
    assert found.boxes_xyxy.tolist() == [[40, 5, 58, 12]]
    assert found.scores.tolist() == pytest.approx([0.8])
    assert found.labels.tolist() == [0]


def test_a_box_in_one_of_four_outputs_counts_a_quarter(image):
    found = FlipTTA(Brightest((0.8, 0, 0, 0)))(image)
    assert found.scores.tolist() == pytest.approx([0.2])
    assert len(FlipTTA(Brightest((0,)))(image)) == 0


def test_boxes_are_fused_by_their_scores_on_paper():
    # IoU of the first two: 90 / 110; the mean weighs 3 to 1: x1 = (0 * 0.6 + 1 * 0.2) / 0.8 = 0.25
    one = output((0, 0, 10, 10, 0.6, 0))
    two = output((1, 0, 11, 10, 0.2, 0), (0, 0, 10, 10, 0.5, 1))
    boxes, scores, labels = fused_boxes([one, two], match_iou=0.55)
    assert labels.tolist() == [0, 1]  # a box of another class stays by itself
    assert scores.tolist() == pytest.approx([0.4, 0.25])
    assert boxes[0].tolist() == pytest.approx([0.25, 0, 10.25, 10])
    assert boxes[1].tolist() == [0, 0, 10, 10]


def test_two_boxes_of_one_output_stay_apart():
    close = output((0, 0, 10, 10, 0.9, 0), (1, 0, 11, 10, 0.8, 0))
    boxes, scores, _ = fused_boxes([close, close], match_iou=0.55)
    assert boxes.tolist() == [[0, 0, 10, 10], [1, 0, 11, 10]]
    assert scores.tolist() == pytest.approx([0.9, 0.8])


def test_nothing_fuses_to_nothing():
    boxes, scores, labels = fused_boxes([output(), output()], match_iou=0.55)
    assert boxes.shape == (0, 4) and scores.shape == (0,) and labels.shape == (0,)


def test_a_tilted_camera_is_mirrored_left_and_right_only():
    assert (flips_of("top_down"), flips_of("oblique"), flips_of(None)) == (FOUR_FLIPS, TWO_FLIPS, TWO_FLIPS)
