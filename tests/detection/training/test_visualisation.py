import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.formats import load_dataset
from detection.runtime.detections import Detections
from detection.runtime.draw import class_colour
from detection.training.visualisation import draw_detections, draw_labels, fixed_images, grid, write_png

BOX = (40.0, 20.0, 60.0, 40.0)  # xywh in an image of 100 x 200: at 3.2 times in the grid


def found(*boxes: tuple[float, float, float, float], label: int = 0, score: float = 0.9) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), score, np.float32),
        np.full(len(boxes), label, np.int64),
    )


def image_of(coco_file, detections: Detections, threshold: float = 0.5):
    dataset = load_dataset(str(coco_file([[(3, BOX)]])))
    return draw_detections(dataset, [0], [detections], np.full(2, threshold, np.float32))


def has(image, colour) -> bool:
    return bool((image == np.array(colour, np.uint8)).all(axis=2).any())


WHITE = (255, 255, 255)


def area(image, x1, y1, x2, y2):
    """A part of the first image in the grid, given in the image's own pixels."""
    left, top, scale = 6, 34, 640 / 200
    return image[top + int(y1 * scale) : top + int(y2 * scale), left + int(x1 * scale) : left + int(x2 * scale)]


def test_truth_is_dashed_white_and_a_missed_box_is_named(coco_file) -> None:
    image = image_of(coco_file, found())
    left_edge = area(image, 39.5, 25, 41, 55)
    assert has(left_edge, WHITE) and has(left_edge, (20, 20, 20))  # dashes and gaps
    assert not has(area(image, 60, 30, 80, 50), WHITE)  # nothing inside
    assert has(area(image, 41, 62, 60, 68), WHITE)  # the chip below
    assert not has(image, class_colour(0))


def test_what_was_found_is_in_its_colour_and_not_missed(coco_file) -> None:
    image = image_of(coco_file, found((44, 24, 104, 64)))
    assert has(area(image, 100, 30, 106, 60), class_colour(0))
    assert has(area(image, 39, 25, 41, 55), WHITE)  # the truth shows where it lies elsewhere
    assert not (area(image, 70, 66, 80, 68) == 255).all(axis=2).any()


def test_what_is_not_sure_enough_is_not_drawn(coco_file) -> None:
    image = image_of(coco_file, found((44, 24, 104, 64), score=0.4))
    assert not has(image, class_colour(0))


def test_a_few_images_show_as_many_classes_as_they_can(coco_file) -> None:
    boxes = [[(3, BOX)], [(3, BOX)], [], [(7, BOX), (3, (120, 20, 30, 30))], [(11, BOX)]]
    dataset = load_dataset(str(coco_file(boxes, names=("a", "b", "c"))))
    assert fixed_images(dataset, 2) == [3, 4]
    assert fixed_images(dataset, 3) == [0, 3, 4]
    assert fixed_images(dataset, 99) == [0, 1, 2, 3, 4]
    assert fixed_images(dataset, 4) == fixed_images(dataset, 4)


def test_labels_have_names_and_no_scores() -> None:
    grey = np.full((100, 200, 3), 90, np.uint8)
    box, label = np.array([[50, 40, 120, 90]], np.float32), np.array([1])
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    sheet = draw_labels([grey, grey], [box, nothing[0]], [label, nothing[1]], ("crop", "weed"), caption="two")
    assert sheet.shape == (34 + 106, 6 + 2 * 206, 3)
    assert has(sheet[:, :206], class_colour(1)) and not has(sheet[:, 212:], class_colour(1))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=7), st.integers(1, 4))
def test_a_grid_holds_every_image_whole(sizes, columns) -> None:
    images = [np.full((h, w, 3), 100 + n, np.uint8) for n, (h, w) in enumerate(sizes)]
    sheet = grid(images, columns=columns)
    for number, (height, width) in enumerate(sizes):
        assert (sheet == 100 + number).all(axis=2).sum() == height * width


def test_a_png_gives_back_the_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 255, (7, 9, 3), np.uint8)
    assert (cv2.imdecode(np.frombuffer(write_png(image), np.uint8), cv2.IMREAD_COLOR) == image).all()


def test_a_class_of_which_nothing_was_right_is_left_out(coco_file) -> None:
    from detection.evaluation.coco_metrics import best_f1_thresholds, coco_metrics, coco_results

    dataset = load_dataset(str(coco_file([[(3, BOX), (7, (120, 20, 30, 30))]])))
    metrics = coco_metrics(dataset, coco_results(dataset, [found((40, 20, 100, 60), score=0.7)]))
    thresholds = best_f1_thresholds(metrics, dataset.class_names)
    assert thresholds == pytest.approx([0.7, 1.1])
