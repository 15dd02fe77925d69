import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from detection.models.build import build_model
from detection.models.checkpoint import load_trained
from detection.models.class_rows import BACKGROUND, rows_by_name
from detection.models.presets import preset_named
from detection.models.torch_hub import HubError, tensors_from_hub
from detection.models.weight_sources import WeightsError
from detection.models.weights import WeightsReport, load_weights
from detection.recipe.reading import load_recipe


def test_offline_weights_fill_the_backbone_and_only_it() -> None:
    torch.manual_seed(0)
    model = build_model("fcos_lite", 2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report = load_weights(model, "fcos_lite", None, "imagenet-offline")
    after = model.state_dict()
    changed = {k for k in after if not torch.equal(before[k], after[k])}
    # 247 tensors in the file; classifier and last convolution (7) have no place in a detector
    assert (len(report.taken), len(report.remade), len(report.unused)) == (240, 0, 7)
    assert changed <= set(report.taken)
    assert all(k.startswith("backbone.body.") for k in changed)
    # pretrained edges have contrast; a random start of this layer is several times weaker
    assert after["backbone.body.conv_stem.weight"].std() > 0.2


def test_offline_weights_make_an_imagenet_classifier() -> None:
    # The proof that tensors lie in the right places: features of structure differ from those of noise far
    # more than under a random start, and nothing overflows.
    model = build_model("fcos_lite", 2)
    load_weights(model, "fcos_lite", None, "imagenet-offline")
    model.eval()
    features = model.backbone.body(torch.zeros(1, 3, 64, 64))
    assert all(torch.isfinite(f).all() and f.abs().max() < 100 for f in features)


def test_a_file_of_a_whole_detector_with_other_classes_leaves_the_class_head_new(tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_file(build_model("fcos_lite", 5).state_dict(), tmp_path / "five.safetensors")
    model = build_model("fcos_lite", 2)
    report = load_weights(model, "fcos_lite", None, str(tmp_path / "five.safetensors"))
    assert report.remade == (
        "head.classification_head.cls_logits.bias",
        "head.classification_head.cls_logits.weight",
    )
    assert not report.missing
    assert "2 re-made for these classes" in str(report)


def test_a_pth_of_the_backbone_alone(tmp_path: Path) -> None:
    donor = build_model("fcos_lite", 2)
    body = {k.removeprefix("backbone.body."): v for k, v in donor.state_dict().items() if "body" in k}
    torch.save({"state_dict": body}, tmp_path / "body.pth")
    model = build_model("fcos_lite", 2)
    report = load_weights(model, "fcos_lite", None, str(tmp_path / "body.pth"))
    assert len(report.taken) == len(body)
    assert torch.equal(model.backbone.body.conv_stem.weight, donor.backbone.body.conv_stem.weight)


class Bomb:
    def __reduce__(self):
        return (print, ("run while unpickling",))


def test_files_that_are_refused(tmp_path: Path, capfd) -> None:
    torch.save({"x": Bomb()}, tmp_path / "bomb.pth")
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "text.safetensors").write_text("no")
    model = build_model("fcos_lite", 2)
    for name, said in (
        ("bomb.pth", "no plain file of tensors"),
        ("other.pth", "no tensor that fits"),
        ("text.safetensors", "cannot be read"),
        ("none.pth", "no file .*choose coco, imagenet"),
    ):
        with pytest.raises(WeightsError, match=said) as caught:
            load_weights(model, "fcos_lite", None, str(tmp_path / name))
        assert "\n" not in str(caught.value)
    assert "run while unpickling" not in capfd.readouterr().out


def test_weights_that_cannot_be_had_say_which_file_to_put_where(monkeypatch, tmp_path: Path) -> None:
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = build_model("ssdlite320_mobilenet_v3_large", 2)
    with pytest.raises(
        WeightsError, match=r"put the file at .*checkpoints/ssdlite320_mobilenet_v3_large_coco.*\.pth"
    ):
        load_weights(model, "ssdlite320_mobilenet_v3_large", None, "coco")
    for preset, source in (("ssdlite320_mobilenet_v3_large", "imagenet"), ("fcos_lite", "coco")):
        with pytest.raises(WeightsError, match="there are no"):
            load_weights(build_model(preset, 2), preset, None, source)
    with pytest.raises(WeightsError, match="imagenet-offline holds tf_efficientnet_lite0 only"):
        load_weights(build_model("fcos_lite", 2, backbone="resnet18"), "fcos_lite", "resnet18", "imagenet-offline")


def test_coco_weights_take_all_but_the_class_head(monkeypatch) -> None:
    with torch.random.fork_rng():
        whole = build_model("ssdlite320_mobilenet_v3_large", 90).state_dict()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: whole)
    model = build_model("ssdlite320_mobilenet_v3_large", 2)
    report = load_weights(model, "ssdlite320_mobilenet_v3_large", None, "coco")
    assert report.remade and all("classification_head" in name for name in report.remade)
    assert not report.missing and not report.unused


def header_of(preset: str, *names: str) -> dict[str, str]:
    recipe = {"model": {"preset": preset}}
    return {"swath": json.dumps({"recipe": recipe, "class_names": names, "weights_licence": "CC0"})}


def test_rows_of_the_class_head_follow_the_names_not_the_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old = build_model("fcos_lite", 3, channels=32)
    path = tmp_path / "best.safetensors"
    save_file(old.state_dict(), path, header_of("fcos_lite", "crop", "weed", "stone"))
    model = build_model("fcos_lite", 3, channels=32)
    fresh = model.head.classification_head.cls_logits.weight.detach().clone()
    report = load_weights(model, "fcos_lite", None, str(tmp_path), class_names=("weed", "dock", "crop"))
    head = model.head.classification_head.cls_logits
    theirs = old.head.classification_head.cls_logits
    assert torch.equal(head.weight[0], theirs.weight[1]) and torch.equal(head.weight[2], theirs.weight[0])
    assert torch.equal(head.weight[1], fresh[1])
    assert report.classes_kept == ("weed", "crop")
    assert [name.rsplit(".", 1)[1] for name in report.in_part] == ["bias", "weight"]
    assert not (report.remade or report.missing or report.unused)
    assert report.licence == "CC0"
    assert "the class head keeps its rows for weed, crop" in str(report)
    # every tensor of the model is listed exactly once
    listed = [*report.taken, *report.in_part, *report.remade, *report.missing]
    assert sorted(listed) == sorted(model.state_dict())
    assert json.loads(report.to_json())["in_part"] == list(report.in_part)

    # as many classes, but others: none of the old rows
    model = build_model("fcos_lite", 3, channels=32)
    fresh = model.head.classification_head.cls_logits.weight.detach().clone()
    report = load_weights(model, "fcos_lite", None, str(path), class_names=("apple", "pear", "plum"))
    assert torch.equal(model.head.classification_head.cls_logits.weight, fresh)
    assert len(report.remade) == 2 and not report.classes_kept

    # the same classes in the same order: nothing is re-made
    report = load_weights(model, "fcos_lite", None, str(path), class_names=("crop", "weed", "stone"))
    assert torch.equal(model.head.classification_head.cls_logits.weight, theirs.weight)
    assert not report.remade and not report.in_part


@pytest.mark.parametrize(
    "preset", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn_v2"]
)
def test_rows_move_so_that_a_class_scores_as_before(preset: str) -> None:
    # Each detector lays out its class head in its own way; what must hold is what torchvision's code makes of it.
    offset = preset_named(preset).label_offset
    names, wanted = ("a", "b", "c"), ("c", "x", "a", "y")
    old_rows, rows = [BACKGROUND] * offset + list(names), [BACKGROUND] * offset + list(wanted)
    torch.manual_seed(0)
    old, new = build_model(preset, 3).eval(), build_model(preset, 4).eval()
    heads = {k: v for k, v in old.state_dict().items()}
    mapped = 0
    state = {}
    for name, fresh in new.state_dict().items():
        found = rows_by_name(name, fresh, rows, heads[name], old_rows)
        mapped += found is not None
        state[name] = found.tensor if found else heads[name]
        if found:
            assert found.kept == ("c", "a") and not found.whole
    new.load_state_dict(state)
    if preset.startswith("faster"):
        features = torch.rand(5, old.roi_heads.box_predictor.cls_score.in_features)
        with torch.no_grad():
            (before, boxes_before), (after, boxes_after) = (m.roi_heads.box_predictor(features) for m in (old, new))
        boxes_before, boxes_after = boxes_before.view(5, 4, 4), boxes_after.view(5, 5, 4)
        assert torch.allclose(boxes_after[:, [0, 3, 1]], boxes_before[:, [0, 1, 3]], atol=1e-6)
        assert mapped == 4
    else:
        with torch.no_grad():
            maps = list(old.backbone(torch.rand(1, 3, 64, 64)).values())
            before, after = (m.head.classification_head(maps) for m in (old, new))
        assert mapped == (2 if preset.startswith("retina") else 12)  # six levels, weight and bias
    ours, theirs = [rows.index(n) for n in ("a", "c")], [old_rows.index(n) for n in ("a", "c")]
    assert torch.allclose(after[..., ours], before[..., theirs], atol=1e-5)


def test_coco_knows_apples(monkeypatch) -> None:
    preset = "ssdlite320_mobilenet_v3_large"
    whole = build_model(preset, 90).state_dict()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: whole)
    report = load_weights(build_model(preset, 2), preset, None, "coco", class_names=("apple", "leaf"))
    assert report.classes_kept == ("apple",)
    assert len(report.in_part) == 12 and not report.remade


@pytest.mark.parametrize("backbone", ["convnext_atto", "vit_tiny_patch16_224", "torchvision:mobilenet_v3_small"])
def test_a_published_classifier_fills_the_whole_backbone_whatever_its_names_became(backbone: str, tmp_path) -> None:
    if backbone.startswith("torchvision:"):
        classifier = torchvision.models.get_model(backbone.removeprefix("torchvision:"), weights=None)
    else:
        classifier = timm.create_model(backbone, pretrained=False)
    path = tmp_path / "model.safetensors"
    save_file({"module." + k: v for k, v in classifier.state_dict().items()}, path)  # as DataParallel writes them
    model = build_model("fcos_lite", 2, backbone=backbone)
    report = load_weights(model, "fcos_lite", backbone, str(path))
    body = {name for name in model.state_dict() if name.startswith("backbone.body.")}
    assert set(report.taken) == body
    assert not report.remade
    line = next(line for line in report.lines() if line.startswith("weights: backbone: "))
    assert line == f"weights: backbone: {len(body)} taken"


HUBCONF = """
dependencies = ["torch"]
import torch

def pretrained_net(pretrained=False):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3))
    if pretrained:
        torch.nn.init.constant_(net[0].weight, 0.25)
    return net

def no_switch():
    net = torch.nn.Conv2d(3, 4, 3)
    torch.nn.init.constant_(net.weight, 0.5)
    return net

def random_net(pretrained=False):
    return torch.nn.Conv2d(3, 4, 3)

def no_net(pretrained=False):
    return 3

def broken(pretrained=False):
    raise RuntimeError("no such file\\nsecond line")
"""


def test_a_hub_repository_gives_what_is_pretrained_and_nothing_random(tmp_path: Path) -> None:
    (tmp_path / "hubconf.py").write_text(HUBCONF)
    before = torch.get_rng_state()
    found = tensors_from_hub(f"hub:{tmp_path}:pretrained_net", trusted=True)
    assert set(found) == {"0.weight"}  # the second convolution is random: it is not passed off as pretrained
    assert (found["0.weight"] == 0.25).all()
    assert set(tensors_from_hub(f"hub:{tmp_path}:no_switch", trusted=True)) == {"weight"}
    assert torch.equal(torch.get_rng_state(), before)
    for entry, said in (
        ("random_net", "has random weights only"),
        ("no_net", "returns no module but int"),
        ("broken", "cannot be loaded .no such file.*give a clone: hub:folder:entry"),
        ("absent", "cannot be loaded"),
    ):
        with pytest.raises(HubError, match=said) as caught:
            tensors_from_hub(f"hub:{tmp_path}:{entry}", trusted=True)
        assert "\n" not in str(caught.value)


def test_a_hub_repository_runs_only_when_it_is_trusted(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "hubconf.py").write_text(f"open({str(marker)!r}, 'w').close()\n" + HUBCONF)
    model = build_model("fcos_lite", 2, channels=32)
    source = f"hub:{tmp_path}:pretrained_net"
    with pytest.raises(
        WeightsError, match="runs code of .* on this machine; if you trust it, set model.trust_hub=true"
    ):
        load_weights(model, "fcos_lite", None, source)
    assert not marker.exists()
    with pytest.raises(WeightsError, match="has no tensor that fits this model"):
        load_weights(model, "fcos_lite", None, source, trust_hub=True)
    assert marker.exists()
    for wrong, said in (("hub:entry", "write hub:owner/repo:entry"), (f"hub:{tmp_path}/none:x", "has no hubconf.py")):
        with pytest.raises(WeightsError, match=said):
            load_weights(model, "fcos_lite", None, wrong, trust_hub=True)


def test_a_hub_folder_in_a_recipe_starts_at_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    for given, resolved in (
        ("hub:./clone:net", f"hub:{tmp_path}/clone:net"),
        ("hub:owner/repo:v1:net", "hub:owner/repo:v1:net"),
    ):
        path.write_text(f"data: {{train: photos}}\nmodel: {{weights: '{given}'}}")
        assert load_recipe(path).model.weights == resolved


def test_a_run_keeps_what_became_of_every_tensor(run: Path) -> None:
    written = json.loads((run / "weights.json").read_text())
    assert (written["source"], written["licence"]) == (
        "imagenet-offline",
        "EfficientNet-Lite0 on ImageNet, Apache-2.0",
    )
    tensors = [name for name, tensor in load_trained(run).model.state_dict().items() if tensor.ndim]
    assert sorted(written["taken"] + written["in_part"] + written["remade"] + written["missing"]) == sorted(tensors)
    assert len(written["taken"]) == 240 and not written["in_part"] and not written["remade"]
    report = WeightsReport(**{key: tuple(v) if isinstance(v, list) else v for key, v in written.items()})
    neck, head = (sum(name.startswith(part) for name in tensors) for part in ("backbone.fpn.", "head."))
    assert report.lines()[1:] == [
        "weights: backbone: 240 taken",
        f"weights: neck: {neck} new",
        f"weights: head: {head} new",
    ]
