import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from detection.export.graph.suppression import onnx_translations, rounded_down, survivors

# The second overlaps the first by 0.8 of their union; the third touches neither.
BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 8.0], [20.0, 20.0, 30.0, 30.0]])


def test_a_better_box_drops_a_worse_one_that_overlaps_it_by_more() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.1]])
    assert survivors(BOXES[None], scores, 0.75, 0.0, 9).tolist() == [[0.0, 1.0, 1.0]]
    assert survivors(BOXES[None], scores, 0.81, 0.0, 9).tolist() == [[1.0, 1.0, 1.0]]


def test_groups_know_nothing_of_each_other() -> None:
    scores = torch.tensor([[0.5, 0.0, 0.1], [0.0, 0.4, 0.0], [0.0, 0.0, 0.0]])
    mask = survivors(BOXES.expand(3, -1, -1), scores, 0.5, 0.0, 9)
    assert mask.tolist() == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_score_at_the_floor_takes_no_part_and_only_the_best_few_survive() -> None:
    scores = torch.tensor([[0.5, 0.25, 0.75]])
    assert survivors(BOXES[None], scores, 1.0, 0.25, 9).tolist() == [[1.0, 0.0, 1.0]]
    assert survivors(BOXES[None], scores, 1.0, 0.0, 1).tolist() == [[0.0, 0.0, 1.0]]
    assert survivors(BOXES[None], scores, 1.0, -1.0, 0).sum() == 0


def test_the_operator_keeps_its_word_to_the_exporter() -> None:
    torch.library.opcheck(
        torch.ops.swath.survivors.default,
        (BOXES[None], torch.rand(1, 3), 0.5, 0.1, 2),
        test_utils=("test_schema", "test_faketensor"),
    )


class Alone(torch.nn.Module):
    def forward(self, boxes, scores):
        return survivors(boxes, scores, 0.5, 0.1, 20)


def test_onnxruntime_keeps_the_same_boxes_in_any_number_of_groups(tmp_path: Path) -> None:
    groups = torch.export.Dim("groups", min=1, max=9)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            Alone().eval(),
            (torch.rand(2, 50, 4), torch.rand(2, 50)),
            tmp_path / "m.onnx",
            dynamo=True,
            input_names=["boxes", "scores"],
            dynamic_shapes=({0: groups}, {0: groups}),
            opset_version=20,
            custom_translation_table=onnx_translations(),
            verbose=False,
        )
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for groups_now, lowest in ((1, 0.0), (5, 0.0), (9, -1.0)):
        corners = torch.rand(groups_now, 50, 2, generator=generator) * 40
        boxes = torch.cat([corners, corners + 5 + 20 * torch.rand(groups_now, 50, 2, generator=generator)], dim=-1)
        scores = lowest + (1 - lowest) * torch.rand(groups_now, 50, generator=generator)
        expected = survivors(boxes, scores, 0.5, 0.1, 20)
        assert 0.1 < expected.mean() < 0.9
        found = session.run(None, {"boxes": boxes.numpy(), "scores": scores.numpy()})[0]
        np.testing.assert_array_equal(found, expected.numpy())
    nothing = np.zeros((3, 50), np.float32)
    assert session.run(None, {"boxes": np.zeros((3, 50, 4), np.float32), "scores": nothing})[0].sum() == 0


def test_a_threshold_is_never_rounded_up() -> None:
    assert rounded_down(0.5) == 0.5
    assert rounded_down(0.7) == float(np.float32(0.7)) < 0.7
    assert rounded_down(0.6) == 10066329 / 2**24 < 0.6 and float(np.float32(0.6)) == 10066330 / 2**24
