"""The quality head: its losses on numbers worked out by hand, and its answers beside torchvision's own."""

import math

import pytest
import torch

from detection.models.build import build_model
from detection.models.quality_head import quality_focal_loss


def test_quality_focal_loss_by_hand():
    # sigmoid(0) = 0.5 and wanted 1: weight 0.25, cross-entropy ln 2; wanted 0.5: nothing to learn
    loss = quality_focal_loss(torch.zeros(3), torch.tensor([1.0, 0.5, 0.0]))
    assert loss.tolist() == pytest.approx([0.25 * math.log(2), 0, 0.25 * math.log(2)])


def targets(*images: list[list[float]]) -> list[dict[str, torch.Tensor]]:
    return [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.arange(len(boxes)) % 2,
        }
        for boxes in images
    ]


@pytest.mark.parametrize("assign", ["atss", "task_aligned"])
def test_every_loss_is_finite_and_reaches_the_backbone(assign):
    torch.manual_seed(0)
    model = build_model("fcos_lite", 2, assign=assign)
    images = [torch.rand(3, 96, 128), torch.rand(3, 96, 128)]
    losses = model(images, targets([[10, 10, 50, 60], [70, 20, 120, 90]], []))
    assert set(losses) == {"classification", "bbox_regression"}
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    assert model.head.regression_head.scales.grad.abs()[0] > 0
    assert model.backbone.body.conv_stem.weight.grad.abs().sum() > 0


def test_a_batch_without_a_box_still_learns_background():
    torch.manual_seed(0)
    losses = build_model("fcos_lite", 2, assign="task_aligned")([torch.rand(3, 64, 96)], targets([]))
    assert losses["classification"] > 0 and losses["bbox_regression"] == 0


def test_a_few_steps_on_one_image_find_its_box():
    torch.manual_seed(0)
    model = build_model("fcos_lite", 2, backbone="resnet18", pre_nms_score_threshold=0.01, assign="task_aligned")
    image = torch.full((3, 128, 128), 0.2)
    image[:, 40:90, 30:100] = 0.9
    truth = targets([[30, 40, 100, 90]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    for _ in range(40):
        optimizer.zero_grad()
        sum(model([image], truth).values()).backward()
        optimizer.step()
    found = model.eval()([image])[0]
    best = found["scores"].argmax()
    assert found["scores"][best] > 0.5 and found["labels"][best] == 0
    assert (found["boxes"][best] - truth[0]["boxes"][0]).abs().max() < 6


def test_the_score_is_the_quality_itself():
    torch.manual_seed(0)
    model = build_model("fcos_lite", 2, pre_nms_score_threshold=1e-6, assign="task_aligned").eval()
    image = torch.rand(3, 64, 96)
    with torch.no_grad():
        found = model([image])[0]
        batch = model.transform([image])[0]
        logits = model.head(list(model.backbone(batch.tensors).values()))["cls_logits"]
    # FCOS would give the square root of it times centre-ness
    assert found["scores"].max() == pytest.approx(float(logits.sigmoid().max()), rel=1e-4)
    assert found["scores"].max() < 0.05  # a new head expects little: its prior is 0.01


def test_the_first_way_of_fcos_is_still_there():
    model = build_model("fcos_lite", 2)
    losses = model([torch.rand(3, 64, 96)], targets([[10, 10, 50, 60]]))
    assert set(losses) == {"classification", "bbox_regression", "bbox_ctrness"}
