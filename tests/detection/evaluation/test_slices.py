import numpy as np
import pytest

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.coco_metrics import coco_metrics, coco_results
from detection.evaluation.intervals import draw_groups
from detection.evaluation.slices import DENSITY, slices
from detection.runtime.detections import Detections


def case(seed=0, images=12):
    """Images of two lights with 0 to 5 boxes; at dusk detections lie beside."""
    rng = np.random.default_rng(seed)
    made, found = [], []
    for number in range(images):
        light = "dusk" if number % 3 == 0 else "noon"
        corners = rng.uniform(0, 60, (number % 6, 2))
        boxes = np.hstack([corners, corners + rng.uniform(20, 40, corners.shape)]).astype(np.float32)
        labels = rng.integers(0, 2, len(boxes))
        attributes = {"light": light, "name": f"p{number}", "farm": "one"}
        crowd = np.zeros(len(boxes), bool)
        made.append(
            LabelledImage(
                number, f"/{number}.png", (200, 200), boxes, labels, boxes[:, 0] * 0 + 400, crowd, attributes
            )
        )
        moved = boxes + (12 if light == "dusk" else 1)
        found.append(Detections(moved.astype(np.float32), rng.random(len(boxes)).astype(np.float32), labels))
    return Dataset("made", ("crop", "weed"), (1, 2), tuple(made)), found


def test_each_slice_is_what_its_images_alone_would_give_and_the_worst_comes_first():
    field, found = case()
    matches = coco_metrics(field, coco_results(field, found)).matches
    groups = [str(i // 2) for i in range(12)]
    got = slices(field, matches, draw_groups(groups, 50, 0), groups)
    # neither one farm nor a name for each image tells images apart
    assert {part.key for part in got} == {"light", DENSITY}
    assert got[0].value == "dusk" or got[0].key == DENSITY
    assert [p.AP50.value for p in got] == sorted(p.AP50.value for p in got)
    for part in got:
        if part.key == "light":
            indices = [i for i, p in enumerate(field.images) if p.attributes["light"] == part.value]
        else:
            ends = part.value.replace(" or more", " to 99").split(" to ")
            indices = [i for i, p in enumerate(field.images) if int(ends[0]) <= len(p.labels) <= int(ends[-1])]
        alone = field.subset(indices)
        metrics = coco_metrics(alone, coco_results(alone, [found[i] for i in indices]))
        assert (part.images, part.boxes) == (len(alone), alone.box_count)
        assert part.groups == len({groups[i] for i in indices})
        assert part.AP50.value == pytest.approx(metrics.coco["AP50"], abs=1e-12)
        assert part.AP.value == pytest.approx(metrics.coco["AP"], abs=1e-12)
        assert part.AP50.low <= part.AP50.high
    # every image with a box lies in one of the thirds
    assert sum(p.boxes for p in got if p.key == DENSITY) == field.box_count


def test_a_key_that_is_asked_for_is_there_whatever_its_values():
    field, found = case()
    matches = coco_metrics(field, coco_results(field, found)).matches
    got = slices(field, matches, draw_groups(["a"] * 12, 5, 0), ["a"] * 12, key="name")
    assert len([part for part in got if part.key == "name"]) == 10  # two images are empty
    assert not slices(Dataset("none", ("crop",), (1,), ()), coco_metrics(field, []).matches.only(np.zeros(12, bool)),
                      np.zeros((5, 12)), ())  # fmt: skip
