import copy
import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torchvision.ops import FrozenBatchNorm2d

from detection.export.graph.end_to_end import end_to_end_graph
from detection.models.build import build_model
from detection.models.checkpoint import load_trained, save_trained
from detection.models.detector_config import DetectorConfig
from detection.recipe.reading import load_recipe
from detection.training.distillation import DistillError, Teacher, distill_into, load_teacher, near_boxes
from detection.training.train import TrainingError, train
from tests.detection.conftest import Quiet, write_recipe
from tests.detection.training.test_train import StopAfter

NAMES = ("sugar_beet", "fat_hen", "chamomile", "thistle", "foxtail")


def awake(model):
    """A random net so deep gives almost constant features: its batch norms take the statistics of some noise."""

    def settle(norm, given) -> None:
        norm.running_mean.copy_(given[0].mean(dim=(0, 2, 3)))
        norm.running_var.copy_(given[0].var(dim=(0, 2, 3)) + 1e-12)

    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d | FrozenBatchNorm2d)]
    assert len(norms) > 20
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    with torch.no_grad():
        model.eval().backbone(torch.randn(4, 3, 128, 160))
    for hook in hooks:
        hook.remove()
    return model


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of another architecture; its features are fixed, which is all that distillation needs."""
    folder = tmp_path_factory.mktemp("teacher")
    preset = "fasterrcnn_mobilenet_v3_large_320_fpn"
    torch.manual_seed(5)
    save_trained(
        folder / "best.safetensors",
        awake(build_model(preset, len(NAMES))).state_dict(),
        config=DetectorConfig(preset=preset, size_hw=(512, 512)),
        recipe={},
        class_names=NAMES,
        dataset_fingerprint="sha256:0",
        weights_licence="CC0",
        metrics={},
    )
    return folder


def distillation_losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        found = [re.search(r"distill=([\d.]+)", row["losses"]) for row in csv.DictReader(file) if row["losses"]]
    return [float(match.group(1)) for match in found if match]


def test_a_student_approaches_its_teacher_resumes_and_exports_without_it(
    tmp_path: Path, rendered: Path, teacher_run: Path
) -> None:
    section = {"teacher": str(teacher_run), "weight": 4.0}
    changes = {"train": {"epochs": 2, "warmup": 0.0, "learning_rate": 3e-3}, "augment": {"strength": "none"}}
    path = write_recipe(tmp_path / "r.yaml", rendered, distill=section, **changes)
    first = StopAfter(5)
    with pytest.raises(TrainingError, match="stopped at step 5 of 12"):
        train(load_recipe(path), tmp_path / "run", watcher=first, stop=first.stop)
    assert any(
        note.startswith("distill: learns from fasterrcnn_mobilenet_v3_large_320_fpn of ") and " at strides " in note
        for note in first.notes
    )
    train(load_recipe(path), tmp_path / "run", watcher=Quiet(), resume=True)
    losses = distillation_losses(tmp_path / "run")
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])

    with safe_open(tmp_path / "run" / "best.safetensors", framework="pt") as file:
        assert not [name for name in file.keys() if "distill" in name or "adapter" in name]  # noqa: SIM118
    trained = load_trained(tmp_path / "run")
    assert "taught by the teacher fasterrcnn_mobilenet_v3_large_320_fpn" in trained.weights_licence
    assert trained.weights_licence.count("taught by") == 1
    (teacher_run / "best.safetensors").rename(teacher_run / "away")
    try:  # what is exported
        graph = end_to_end_graph(trained)
    finally:
        (teacher_run / "away").rename(teacher_run / "best.safetensors")
    plain_graph = end_to_end_graph(replace(trained, model=small(classes=len(NAMES))))
    assert [name for name, _ in graph.named_modules()] == [name for name, _ in plain_graph.named_modules()]

    del section["teacher"]
    plain = write_recipe(tmp_path / "plain.yaml", rendered, **changes)
    with pytest.raises(TrainingError, match="start a new run with another --out"):
        train(load_recipe(plain), tmp_path / "run", watcher=Quiet(), resume=True)


def small(preset: str = "fcos_lite", classes: int = 2):
    torch.manual_seed(1)
    return build_model(preset, classes, channels=32, head_convs=1)


def batch() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    torch.manual_seed(2)
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    one = {"boxes": torch.tensor([[10.0, 20, 70, 90]]), "labels": torch.tensor([1])}
    return [torch.rand(3, 128, 160), torch.rand(3, 128, 160)], [one, none]


def taught(teacher=None):
    student = small()
    module = (teacher or small()).eval().requires_grad_(False)
    line = distill_into(student, Teacher(module, "it", "CC0"), size_hw=(128, 160), weight=1.0)
    return student, line


def test_a_student_with_the_features_of_its_teacher_has_no_loss() -> None:
    student, line = taught()
    assert line == "distill: learns from it at strides 8, 16, 32, 64, 128"
    for adapter in student.distill.adapters.values():
        torch.nn.init.dirac_(adapter.weight)
        torch.nn.init.zeros_(adapter.bias)
    images, targets = batch()
    student.train()
    for module in student.modules():  # the teacher's batch norms are in eval mode too
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    same = student(images, targets)
    assert same["distill"].item() == pytest.approx(0, abs=1e-4)
    other, _ = taught(teacher=awake(build_model("ssdlite320_mobilenet_v3_large", 2)))
    assert 0.5 < other(images, targets)["distill"].item() < 1.5
    assert set(same) - {"distill"} == set(small()(images, targets))


def test_a_batch_without_a_box_has_a_distillation_loss_of_0() -> None:
    student, _ = taught(teacher=small("fcos_lite_s"))
    images, targets = batch()
    losses = student(images, [targets[1], targets[1]])
    assert losses["distill"].item() == 0
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


def test_gradients_reach_student_and_adapters_but_never_the_teacher() -> None:
    student, _ = taught(teacher=small("fcos_lite_s"))
    images, targets = batch()
    student(images, targets)["distill"].backward()
    teacher = student.distill._teacher.module
    assert student.backbone.body.conv_stem.weight.grad.abs().sum() > 0
    assert all(a.weight.grad.abs().sum() > 0 for a in list(student.distill.adapters.values())[:3])
    assert all(p.grad is None for p in teacher.parameters())
    assert not any("teacher" in name for name in student.state_dict())
    average = copy.deepcopy(student).eval()  # as an average of weights is kept: with the same teacher, quiet in eval
    assert average.distill._teacher is student.distill._teacher
    assert set(average(images)[0]) == {"boxes", "scores", "labels"}


def test_near_boxes_by_hand() -> None:
    boxes = torch.tensor([[8.0, 8, 15, 15], [30.0, 0, 32, 2]])
    expected = torch.zeros(4, 4, dtype=torch.bool)  # stride 8: centres at 4, 12, 20, 28
    expected[0:2, 0:2] = True  # 4 >= 8 - 4; 20 > 15 + 4
    expected[0, 3] = True
    assert torch.equal(near_boxes(boxes, (32, 32), (4, 4)), expected)
    assert not near_boxes(torch.zeros(0, 4), (32, 32), (4, 4)).any()
    tiny = torch.tensor([[13.0, 13, 14, 14]])
    assert near_boxes(tiny, (32, 32), (1, 1)).all()


def test_teachers_that_cannot_teach(teacher_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="does not know dock, only sugar_beet, fat_hen"):
        load_teacher(str(teacher_run), ("sugar_beet", "dock"))
    with pytest.raises(Exception, match="no such run") as caught:
        load_teacher(str(tmp_path / "none"), NAMES)
    assert "\n" not in str(caught.value)
    with pytest.raises(Exception, match="there are no COCO weights for fcos_lite"):
        load_teacher("fcos_lite", NAMES)
    teacher = load_teacher(str(teacher_run), NAMES[:2])
    assert not teacher.module.training and teacher.licence == "CC0"


def test_a_teacher_in_a_recipe_is_a_path_or_a_preset(tmp_path: Path) -> None:
    for given, resolved in (("runs/big", str(tmp_path / "runs" / "big")), *[("retinanet_resnet50_fpn_v2",) * 2]):
        (tmp_path / "r.yaml").write_text(f"data: {{train: x}}\ndistill: {{teacher: {given}}}")
        recipe = load_recipe(tmp_path / "r.yaml")
        assert recipe.distill is not None and recipe.distill.teacher == resolved


def test_a_teacher_from_coco_teaches_other_classes_by_its_features(monkeypatch) -> None:
    preset = "ssdlite320_mobilenet_v3_large"
    published = build_model(preset, 90).state_dict()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: published)
    teacher = load_teacher(preset, ("dock",))
    assert (teacher.name, teacher.licence) == (f"{preset} (COCO)", "torchvision on COCO, BSD-3-Clause")
    body = teacher.module.backbone.state_dict()
    assert all(torch.equal(tensor, published[f"backbone.{name}"]) for name, tensor in body.items())
    line = distill_into(small(), teacher, size_hw=(128, 160), weight=1.0)
    assert line == f"distill: learns from {preset} (COCO) at strides 16, 32, 64, 128"
