from pathlib import Path

import pytest
import torch
from torch import nn

from data import load_dataset
from detection.export.export import export
from detection.models.backbones import make_body, normalisation
from detection.models.build import build_model
from detection.models.fcos_lite import TimmPyramid
from detection.models.freezing import freeze_stem
from detection.models.necks import PathAggregation
from detection.runtime.errors import SwathError
from tests.detection.conftest import trained_of

# small ones of each kind: plain, underscores in names, channels innermost, one stride (patches of 16 and 14), fx
BACKBONES = {
    "mobilenetv3_small_050": "blocks.0",
    "convnext_atto": "stages_0",
    "mambaout_femto": "stages_0",
    "vit_tiny_patch16_224": "model.patch_embed",
    "torchvision:mobilenet_v3_small": "features.1",
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_kind_of_backbone_gives_five_levels_and_learns_above_its_frozen_stem(backbone: str) -> None:
    torch.manual_seed(0)
    model = build_model("fcos_lite", 2, backbone=backbone, channels=64, head_convs=1, size_hw=(64, 128))
    with torch.no_grad():
        shapes = [tuple(level.shape) for level in model.backbone(torch.rand(2, 3, 64, 128)).values()]
    assert shapes == [(2, 64, 8, 16), (2, 64, 4, 8), (2, 64, 2, 4), (2, 64, 1, 2), (2, 64, 1, 1)]

    freeze_stem(model, "fcos_lite")
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    stem = f"backbone.body.{BACKBONES[backbone]}."
    assert any(name.startswith(stem) for name in frozen)
    assert all(name.startswith("backbone.body.") for name in frozen)

    boxes = torch.tensor([[8.0, 8, 40, 40], [70.0, 10, 90, 30]])
    target = {"boxes": boxes, "labels": torch.tensor([0, 1])}
    losses = model([torch.rand(3, 64, 128), torch.rand(3, 64, 128)], [target, target])
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    parameters = dict(model.named_parameters())
    first = next(name for name in parameters if name.startswith("backbone.body.") and name not in frozen)
    gradient = parameters[first].grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    assert all(parameters[name].grad is None for name in frozen)


def test_levels_of_patches_of_14_pixels_lie_at_half_a_patch_and_up() -> None:
    with torch.device("meta"):
        pyramid = TimmPyramid("vit_small_patch14_dinov2", 32)
        levels = pyramid(torch.zeros(1, 3, 224, 448))
    assert pyramid.patch == 14
    assert [224 / level.shape[2] for level in levels.values()] == [7, 14, 28, 56, 112]
    with pytest.raises(SwathError, match="640 x 512 does not divide into the patches of 14 .* is 672 x 448"):
        with torch.device("meta"):
            build_model("fcos_lite", 2, backbone="vit_small_patch14_dinov2", size_hw=(640, 512))


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("no_such_net", "timm has no backbone named no_such_net"),
        ("torchvision:no_such_net", "torchvision has no classifier named no_such_net"),
        ("torchvision:fcos_resnet50_fpn", "torchvision has no classifier named fcos_resnet50_fpn"),
        ("torchvision:squeezenet1_1", "has feature maps at strides .*; 8, 16 and 32 are needed"),
        ("inception_v4", "has feature maps at strides none; 8, 16 and 32 are needed"),
        ("mixer_s32_224", "does not give feature maps of images of any size"),
    ],
)
def test_backbones_that_do_not_fit_say_why_in_a_line(backbone: str, said: str) -> None:
    with pytest.raises(SwathError, match=f"^model.backbone: .*{said}") as caught:
        build_model("fcos_lite", 2, backbone=backbone)
    assert "\n" not in str(caught.value)


def test_normalisation_is_the_pretrained_nets_own() -> None:
    assert normalisation("tf_efficientnet_lite0") == ([0.5] * 3, [0.5] * 3)
    assert normalisation("torchvision:resnet18")[0] == [0.485, 0.456, 0.406]


def test_a_net_that_lists_its_parts_out_of_order_has_no_stem() -> None:
    with torch.device("meta"):
        assert make_body("hrnet_w18_small").stem is None
        assert make_body("resnet18").stem == "layer1"


def test_path_aggregation_carries_the_finest_level_to_the_coarsest() -> None:
    torch.manual_seed(0)
    pan = PathAggregation(32)
    levels = {str(i): torch.rand(1, 32, 16 // 2**i, 24 // 2**i) for i in range(3)}
    out = pan(levels)
    assert [tuple(level.shape[2:]) for level in out.values()] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    assert out["0"] is levels["0"]  # Liu et al.: the finest is passed on as it is
    # one step, by the paper's formula
    down = nn.functional.conv2d(levels["0"], pan.down[0].weight, pan.down[0].bias, stride=2, padding=1).relu()
    merged = nn.functional.conv2d(levels["1"] + down, pan.merge[0].weight, pan.merge[0].bias, padding=1).relu()
    assert torch.equal(out["1"], merged)
    darker = pan({**levels, "0": levels["0"] * 0})
    assert not torch.allclose(out["2"], darker["2"])


def test_the_three_sizes_grow_and_fcos_lite_stands_between_the_first_two() -> None:
    with torch.device("meta"):
        models = {size: build_model(size, 2) for size in ("fcos_lite", "fcos_lite_n", "fcos_lite_s", "fcos_lite_m")}
    weights = [sum(p.numel() for p in model.parameters()) for model in models.values()]
    assert 1.9 * weights[1] < weights[0] < weights[2] < weights[3]
    dense = [m for m in models["fcos_lite_n"].head.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert dense and all(conv.groups == conv.in_channels for conv in dense)  # depthwise, every one
    assert models["fcos_lite_s"].backbone.pan is not None and models["fcos_lite_n"].backbone.pan is None


def test_torchvisions_own_detectors_have_no_choice_of_neck() -> None:
    with pytest.raises(
        SwathError,
        match="model.neck: ssdlite320_mobilenet_v3_large does not use it; fcos_lite, ",
    ):
        build_model("ssdlite320_mobilenet_v3_large", 2, neck="pan")


@pytest.mark.parametrize(
    ("backbone", "neck"),
    [
        ("test_convnext", "pan"),  # timm's own smallest one
        pytest.param("convnext_atto", "fpn", marks=pytest.mark.slow),
        pytest.param("mobilenetv3_small_050", "fpn", marks=pytest.mark.slow),
        pytest.param("vit_tiny_patch16_224", "fpn", marks=pytest.mark.slow),
    ],
)
def test_other_backbones_and_pan_pass_the_export_gate(
    backbone: str, neck: str, tmp_path: Path, coco_file, lively
) -> None:
    assign = "task_aligned" if neck == "pan" else "center_sampling"  # two heads: without centre-ness, and with it
    choice = {"backbone": backbone, "neck": neck, "channels": 32, "head_convs": 1, "assign": assign}
    trained = trained_of("fcos_lite", lively("fcos_lite", **choice), (96, 160), **choice)
    images = load_dataset(coco_file([[(3, (10, 10, 60, 40))], []], names=("crop", "weed")))
    report = export(trained, tmp_path / "m.onnx", images=images, held_out=False)
    assert report["boxes"] > 100
    assert report["unmatched_boxes"] == 0
