import pytest
import torch

from detection.models.build import build_model
from detection.models.freezing import freeze_batchnorm_statistics, freeze_stem
from detection.models.presets import preset_named, preset_names
from detection.runtime.errors import SwathError

SMALL = ("fcos_lite", "ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn")


@pytest.mark.parametrize("preset", SMALL)
def test_a_background_image_gives_finite_losses_and_gradients(preset: str) -> None:
    torch.manual_seed(0)
    offset = preset_named(preset).label_offset
    model = build_model(preset, 2)
    freeze_batchnorm_statistics(model)
    targets = [
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
        {"boxes": torch.tensor([[10.0, 20, 70, 90]]), "labels": torch.tensor([1 + offset])},
    ]
    for chosen in (targets, targets[:1] * 2):  # one background image, all background
        losses = model([torch.rand(3, 128, 160), torch.rand(3, 128, 160)], chosen)
        total = torch.stack(list(losses.values())).sum()
        assert torch.isfinite(total)
        model.zero_grad()
        total.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert len(gradients) > 50
        assert all(torch.isfinite(g).all() for g in gradients)


def test_the_input_is_not_resized_and_boxes_stay_in_its_pixels() -> None:
    model = build_model("fcos_lite", 2)
    batch, _ = model.transform([torch.rand(3, 128, 160)], None)
    assert batch.tensors.shape == (1, 3, 128, 160)
    assert batch.image_sizes == [(128, 160)]


def test_the_stem_is_frozen_and_nothing_else() -> None:
    model = build_model("fcos_lite", 2)
    freeze_stem(model, "fcos_lite")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen
    prefixes = tuple(f"backbone.body.{part}" for part in ("conv_stem.", "bn1.", "blocks.0.", "blocks.1."))
    assert all(name.startswith(prefixes) for name in frozen)
    assert {name for name, _ in model.named_parameters() if name.startswith(prefixes)} == frozen


@pytest.mark.parametrize("preset", [p for p in preset_names() if "resnet50" in p or "mobilenet" in p])
def test_every_torchvision_stem_exists(preset: str) -> None:
    with torch.device("meta"):  # shapes only: a ResNet-50 takes seconds to fill
        model = build_model(preset, 2)
    freeze_stem(model, preset)
    frozen = sum(not p.requires_grad for p in model.parameters())
    assert frozen == 0 if preset.startswith("ssdlite") else 0 < frozen < 60


def test_another_backbone_is_for_fcos_lite_only() -> None:
    model = build_model("fcos_lite", 2, backbone="resnet18")
    assert [f.shape[1] for f in model.backbone(torch.rand(1, 3, 64, 64)).values()] == [64] * 5
    with pytest.raises(SwathError, match="model.backbone: fcos_resnet50_fpn does not use it; fcos_lite, .*do"):
        build_model("fcos_resnet50_fpn", 2, backbone="resnet18")
    with pytest.raises(SwathError, match="model.backbone"):
        build_model("fcos_lite", 2, backbone="no_such_net")
    with pytest.raises(SwathError, match="no preset 'yolo'; there are: fcos_lite, "):
        build_model("yolo", 2)
    with pytest.raises(SwathError, match="model.chanels: unknown key; did you mean model.channels?"):
        build_model("fcos_lite", 2, chanels=32)
    with pytest.raises(SwathError, match=r"model.channels: Input should be a multiple of 32, got 40"):
        build_model("fcos_lite", 2, channels=40)


def test_the_narrow_head_starts_at_kaimings_spread_not_at_torchvisions() -> None:
    torch.manual_seed(0)
    head = build_model("fcos_lite", 3, channels=64).head
    for branch in (head.classification_head, head.regression_head):
        spreads = [m.weight.std().item() for m in branch.conv if isinstance(m, torch.nn.Conv2d)]
        # sqrt(2 / fan in): 64 channels of 3 x 3
        assert spreads == pytest.approx([0.0589, 0.0589], rel=0.03)
    # the outputs keep torchvision's small start, or the first losses would drown the pretrained backbone
    assert head.classification_head.cls_logits.weight.std().item() == pytest.approx(0.01, rel=0.1)
