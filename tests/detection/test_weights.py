from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detection.models import build_model
from detection.weights import WeightsError, load_weights


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
