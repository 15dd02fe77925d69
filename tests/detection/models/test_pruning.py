"""Backbones pruned to half their hidden channels, against cases whose answer is known beforehand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data import load_dataset
from detection.models.backbones import make_body, normalisation
from detection.models.build import build_model
from detection.models.pruning import _kept, _selected_channels, halve_channels, prune, unpruned_name
from detection.models.weight_sources import WeightsError
from detection.models.weights import load_weights

FULL = "tf_efficientnet_lite0"


def test_of_two_equal_channels_one_stays_and_a_useless_one_goes() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, noise = torch.randn(3, 500, generator=generator).double()
    rows = torch.stack([a, b, a, noise, torch.ones_like(a)], dim=1)  # the last is the bias
    targets = torch.stack([2 * a - b, 3 * b + 1], dim=1)
    gram = rows.T @ rows / 500 + 1e-6 * torch.eye(5).double()
    kept = _selected_channels(gram, rows.T @ targets / 500, 2).tolist()
    assert kept in ([0, 1], [1, 2])


def test_half_of_the_hidden_channels_in_whole_blocks_of_sixteen() -> None:
    assert [_kept(hidden) for hidden in (8, 96, 144, 240, 1152)] == [8, 48, 80, 128, 576]


def inverted_residuals(body):
    return [block for stage in body.blocks for block in stage if hasattr(block, "conv_pwl")]


def test_a_backbone_half_of_whose_channels_do_nothing_is_pruned_without_loss() -> None:
    torch.manual_seed(0)
    body = make_body(FULL).module.eval()
    for block in inverted_residuals(body):
        hidden = block.conv_dw.out_channels
        idle = torch.randperm(hidden)[: hidden - _kept(hidden)]
        block.conv_pwl.weight.data[:, idle] = 0
    images = [torch.randn(1, 3, 96, 128) for _ in range(2)]  # too few to fit anything to
    pruned = make_body(f"pruned:{FULL}").module.eval()
    pruned.load_state_dict(prune(body, images))
    unseen = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        for wanted, found in zip(body(unseen), pruned(unseen), strict=True):
            assert (found - wanted).square().mean() < 1e-6 * wanted.var()
    assert [block.conv_dw.groups for block in inverted_residuals(pruned)][:3] == [48, 80, 80]


def test_pretrained_features_survive_on_images_of_the_same_kind(rendered: Path) -> None:
    model = build_model("fcos_lite", 2)
    load_weights(model, "fcos_lite", None, "imagenet-offline")
    full = model.backbone.body.eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in normalisation(FULL))
    shown = [
        (torch.from_numpy(image.read()[:192, :256, ::-1].copy()).permute(2, 0, 1)[None] / 255 - mean) / std
        for image in load_dataset(rendered).images[:7]
    ]
    pruned = halve_channels(make_body(FULL).module).eval()
    pruned.load_state_dict(prune(full, shown[:6]))
    with torch.no_grad():
        wanted, found = full(shown[6])[0], pruned(shown[6])[0]  # stride 8
    unexplained = (found - wanted).square().mean((0, 2, 3)).sum() / wanted.var((0, 2, 3)).sum()
    assert unexplained < 0.35  # a net of the same shape with random weights: above 1
    assert sum(p.numel() for p in pruned.parameters()) < 0.55 * sum(p.numel() for p in full.parameters())


def test_weights_of_a_full_detector_are_pruned_and_its_neck_and_head_are_kept(tmp_path: Path) -> None:
    full = build_model("fcos_lite_n", 2, backbone=FULL)
    save_file(full.state_dict(), tmp_path / "full.safetensors")
    model = build_model("fcos_lite_n", 2)
    images = [torch.randn(1, 3, 64, 96) for _ in range(2)]
    report = load_weights(model, "fcos_lite_n", None, str(tmp_path / "full.safetensors"), images=lambda: images)
    assert not report.missing and not report.remade and "pruned to half its hidden channels" in str(report)
    same = "head.classification_head.conv.0.1.weight"
    assert torch.equal(model.state_dict()[same], full.state_dict()[same])
    save_file(model.state_dict(), tmp_path / "pruned.safetensors")  # one that is pruned already needs no images
    again = build_model("fcos_lite_n", 2)
    load_weights(again, "fcos_lite_n", None, str(tmp_path / "pruned.safetensors"))
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())


def test_what_cannot_be_pruned_is_refused() -> None:
    model = build_model("fcos_lite_n", 2)
    with pytest.raises(WeightsError, match=r"imagenet-offline has the full backbone.*train it with swath train"):
        load_weights(model, "fcos_lite_n", None, "imagenet-offline")
    with pytest.raises(ValueError, match=r"pruned: is for efficientnet_lite0, .*; not for resnet18"):
        unpruned_name("pruned:resnet18")
