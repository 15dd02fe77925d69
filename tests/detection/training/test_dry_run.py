from pathlib import Path

import cv2
import pytest
import torch
from torch import nn

from data.formats import load_dataset
from detection.recipe.reading import load_recipe
from detection.training.dry_run import count, dry_run, gflops, parts, saved_bytes
from detection.training.prepare import prepare
from tests.detection.conftest import Quiet, swath, write_recipe

CPU = torch.device("cpu")


class TwoConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"body": nn.Conv2d(3, 8, 3, padding=1), "fpn": nn.Conv2d(8, 4, 1)})
        self.head = nn.Conv2d(4, 2, 1)
        self.backbone["body"].requires_grad_(False)

    def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
        return self.head(self.backbone["fpn"](self.backbone["body"](torch.stack(images))))


def test_parameters_by_part() -> None:
    assert [(p.name, p.total, p.trainable) for p in parts(TwoConvolutions())] == [
        ("backbone.body", 3 * 8 * 9 + 8, 0),
        ("backbone.fpn", 8 * 4 + 4, 36),
        ("head", 4 * 2 + 2, 10),
    ]


def test_operations_of_a_network_that_can_be_counted_by_hand() -> None:
    network = TwoConvolutions()
    by_hand = 2 * 16 * 32 * (3 * 8 * 9 + 8 * 4 + 4 * 2)
    assert gflops(network, (16, 32), CPU) == pytest.approx(by_hand / 1e9)
    assert network.training


def test_activations_count_once_and_weights_do_not() -> None:
    weight = nn.Linear(10, 20, bias=False)
    x = torch.ones(5, 10)
    kept = []
    # matmul keeps x (200 bytes); the square keeps the product (400 bytes), and so does the second one: once
    assert saved_bytes(lambda: kept.append((weight(x) ** 2 + weight(x).detach()).sum()), weight) == 200 + 400
    y = weight(x)
    assert saved_bytes(lambda: kept.append((y * y + y * y).sum()), weight) == 400


def test_images_and_boxes_by_class(coco_file) -> None:
    box = (10.0, 10.0, 30.0, 30.0)
    dataset = load_dataset(str(coco_file([[(3, box), (3, (50, 10, 20, 20)), (7, (90, 10, 20, 20))], [], [(3, box)]])))
    seen = count(dataset)
    assert (seen.images, seen.empty) == (3, 1)
    assert seen.per_class == {"crop": (2, 3), "weed": (1, 1)}


def test_a_dry_run_measures_a_training_and_leaves_an_image(tmp_path: Path, rendered: Path) -> None:
    changes = {"data": {"val": str(rendered), "allow": ["splits-identical"]}, "train": {"epochs": 3, "batch_size": 4}}
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered, **changes))
    prepared = prepare(recipe, Quiet())
    seen = dry_run(
        prepared.trainer,
        prepared.source,
        prepared.validator,
        options=prepared.fit,
        out=tmp_path / "out",
        watcher=Quiet(),
    )
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["dry_run.png"]
    image = cv2.imread(str(seen.image))
    assert image.shape == (34 + 2 * (128 + 6), 6 + 2 * (160 + 6), 3)
    assert image[40:, 10:].std() > 10  # no grey nothing
    assert seen.steps == 9 and seen.train.images == 12
    assert seen.val is not None and seen.val.per_class == seen.train.per_class
    trainable = sum(part.trainable for part in seen.parts)
    assert 0 < trainable < sum(part.total for part in seen.parts)  # the stem is frozen
    assert seen.memory.gradients == 4 * trainable
    assert seen.memory.optimizer == pytest.approx(2 * seen.memory.gradients, rel=0.01)
    assert seen.memory.batch == 4 * 3 * 128 * 160 * 4
    assert seen.memory.activations > seen.memory.batch
    assert 0.05 < seen.gflops < 2
    assert seen.step_s == pytest.approx(seen.load_s + seen.compute_s)  # no workers
    assert seen.run_s >= 9 * seen.step_s and not seen.ended_by_budget


def test_the_command_prints_it_and_says_where_the_image_is(tmp_path, rendered, capsys, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    recipe = write_recipe(tmp_path / "r.yaml", rendered, train={"epochs": 1000, "max_minutes": 0.1})
    before = sorted(p.name for p in tmp_path.iterdir())
    code, out, _ = swath(capsys, "train", recipe, "--dry-run")
    assert code == 0
    said = " ".join(out.split())
    assert "max_minutes: 0.1" in said and "sugar_beet" in said and "backbone.fpn" in said
    assert "6,000 steps, 1000 epochs: about 0:06 ended by train.max_minutes (0.1)" in said
    image = Path(out.splitlines()[-1])
    assert image.is_file() and image.parent.parent == tmp_path / "temporary"
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_what_cannot_be_trained_on_is_one_line(tmp_path, coco_file, capsys) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", coco_file([[], []]))
    code, _, error = swath(capsys, "train", recipe, "--dry-run", "--out", tmp_path / "out")
    assert code == 1
    assert "has no boxes; there is nothing to learn" in error.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_dry_run_resumes_nothing(tmp_path, rendered, capsys) -> None:
    code, _, error = swath(capsys, "train", write_recipe(tmp_path / "r.yaml", rendered), "--resume", "--dry-run")
    assert code == 2 and "one of --resume and --dry-run" in " ".join(error.replace("│", " ").split())
