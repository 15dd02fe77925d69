"""The keys of a recipe: what each is, what it may be, and what it is if left out. Torch-free."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from data.augmentation.settings import AugmentSettings
from data.formats.kinds import ReadableName
from data.loading.tiles import TileSettings
from detection.models.detector_config import DetectorConfig
from detection.models.presets import PresetOptions, preset_named, preset_names, preset_options
from detection.runtime.errors import SwathError


def _known_preset(name: str) -> str:
    try:
        return preset_named(name).name
    except SwathError as error:
        raise ValueError(str(error).removeprefix("model.preset: ")) from None


PresetName = Annotated[str, AfterValidator(_known_preset)]


def _multiple_of_32(size_hw: tuple[int, int]) -> tuple[int, int]:
    if any(side < 64 or side % 32 for side in size_hw):
        raise ValueError("height and width must be multiples of 32, at least 64")
    return size_hw


Fraction = Annotated[float, Field(ge=0, le=1)]
SizeHW = Annotated[tuple[int, int], AfterValidator(_multiple_of_32)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(_Part):
    """The images."""

    train: str = Field(description="DATASET to train on: a folder, a COCO JSON or a YOLO data.yaml")
    val: str | None = Field(
        None,
        description="DATASET to validate on, which the best weights are chosen by; null: the last weights are kept",
    )
    allow: tuple[str, ...] = Field(
        (), description="kinds of errors of `swath data check` in spite of which training starts"
    )
    format: ReadableName = Field("auto", description="format of train and val, where it is not recognised correctly")
    unlabelled: Literal["background", "skip"] = Field(
        "background",
        description="an image without a label file is background, or is skipped because it is not labelled yet",
    )
    images_dir: str | None = Field(
        None, description="folder of the images, where it is outside the DATASET's own folder"
    )
    tiles: TileSettings | None = Field(
        None, description="cut the photos of train and val into tiles; null: whole images"
    )
    balance: Fraction = Field(
        0.0, description="oversampling of images with rare classes: 0 none, 0.5 by the square root, 1 fully balanced"
    )
    negatives: str | None = Field(
        None, description="DATASET or folder of images without any object; learned as background"
    )
    negative_share: float = Field(
        0.1, gt=0, lt=1, description="share of negatives among the images that are learned from"
    )
    licence: str = Field("not stated", description="licence of the images, which is written into the model file")
    how_to_get: str | None = Field(
        None, description="how to get the images; part of the error message where they are missing"
    )

    @property
    def reading(self) -> dict[str, Any]:
        """How `data.formats.load_dataset` is to read train and val."""
        return {"format": self.format, "unlabelled": self.unlabelled, "images_dir": self.images_dir}


class Model(_Part):
    """Which detector, and where it starts from; further keys are the preset's own.

    In YAML the preset's own keys stand beside the others, as `model.channels`; here they are `options`.
    """

    preset: PresetName = Field("fcos_lite", description=f"which detector: {', '.join(preset_names())}")
    weights: str = Field(
        "imagenet-offline",
        description="coco, imagenet (the backbone's own pretrained ones), imagenet-offline, none, "
        "hub:owner/repo:entry, a run, or a .safetensors or .pth file",
    )
    trust_hub: bool = Field(False, description="let code of the Torch Hub repository that weights names run here")
    options: SerializeAsAny[PresetOptions] = Field(
        default_factory=lambda: preset_options(preset_named("fcos_lite"), {}), description="keys of the preset's own"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        common = {key: value for key, value in given.items() if key in cls.model_fields and key != "options"}
        name = common.get("preset", cls.model_fields["preset"].default)
        if name not in preset_names():
            return common  # its own validator says so
        others = {key: value for key, value in given.items() if key not in common}
        return {**common, "options": preset_options(preset_named(name), others)}

    @model_serializer(mode="wrap")
    def _spread_options(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        options: dict[str, Any] = content.pop("options")
        return content | options

    @property
    def backbone(self) -> str:
        """Name of the backbone, chosen or the preset's own."""
        return preset_named(self.preset).backbone_of(self.options)


class Input(_Part):
    """The network's input."""

    size_hw: SizeHW = Field((512, 512), description="height and width in pixels; images are letterboxed to it")


class Train(_Part):
    """How long it is trained, and how."""

    epochs: int = Field(30, ge=1, description="passes over the training images")
    max_minutes: float | None = Field(
        None, gt=0, description="wall-clock budget; epochs or minutes, whichever comes first"
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        4,
        description="images computed at once, the micro-batch; auto: as many as fit into GPU memory, 4 elsewhere",
    )
    gradient_accumulation: int = Field(
        1, ge=1, description="micro-batches whose gradients are accumulated for one step, and so a larger batch"
    )
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's peak learning rate for neck and head")
    backbone_lr_multiplier: float = Field(
        0.3, gt=0, description="the backbone's learning rate as a multiple of learning_rate"
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW's weight decay")
    warmup: float = Field(
        0.05, ge=0, lt=1, description="share of the run, at its start, in which the learning rate rises"
    )
    clip_norm: float = Field(10.0, gt=0, description="gradients are scaled down to this norm")
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the weights' exponential moving average, which is validated and kept; 0: no average",
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each stage of the backbone has this multiple of the next one's learning rate"
    )
    freeze_backbone: float = Field(
        0.0, ge=0, lt=1, description="share of the run, at its start, in which the backbone is frozen"
    )
    freeze_stem: bool = Field(True, description="keep the pretrained backbone frozen up to stride 4")
    freeze_batchnorm: bool = Field(
        True, description="keep the pretrained batch-norm statistics; has no effect on a random start"
    )
    validate_every: int = Field(5, ge=1, description="epochs between validations")
    patience: int | None = Field(
        None, ge=1, description="validations without a better AP after which the run ends; null: it never does"
    )
    save_every_minutes: float = Field(
        5.0, gt=0, description="longest time between two checkpoints, which is what a power loss costs at most"
    )
    keep_last: int = Field(
        1, ge=1, description="checkpoints that are kept: last.ckpt, and earlier ones named by their step"
    )
    seed: int = Field(0, ge=0, description="seed of weights, order and augmentation")
    workers: int = Field(2, ge=0, description="processes that load images; 0 loads in the main one")
    cache: Literal["none", "ram", "disk"] = Field(
        "ram",
        description="where decoded images are cached: not at all, in memory, or in files that the next run finds",
    )
    cache_mb: int = Field(1024, ge=0, description="size of the cache in MiB, of all workers together")
    accelerator: Literal["auto", "cpu", "cuda", "mps", "tpu"] = Field("auto", description="device to train on")
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1,
        description="number of devices, batch_size images each; auto: all. torchrun's number takes precedence",
    )
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = Field(
        "32-true", description="precision of the arithmetic"
    )
    compile: bool = Field(
        False, description="compile backbone and neck with torch.compile, which takes a minute before the first step"
    )
    loggers: tuple[Literal["csv", "tensorboard", "mlflow", "wandb"], ...] = Field(
        ("csv", "tensorboard"),
        description="where metrics are logged: csv, tensorboard, mlflow (local by default), wandb",
    )


class Distill(_Part):
    """Knowledge distillation: learn from a larger detector, the teacher, beside the labels."""

    teacher: str = Field(description="a run that has the same classes, or a preset with COCO weights")
    weight: float = Field(1.0, gt=0, description="weight of the distillation loss, beside those of the labels")


class Pretrain(_Part):
    """Synthetic pre-training on a rendered field; done once, later runs with the same model section find it."""

    images: int = Field(400, ge=1, description="number of rendered images, five of each field")
    epochs: int = Field(6, ge=1, description="passes over them")
    input: Input = Field(Input(size_hw=(320, 416)), description="input of the network during pre-training")


class Postprocess(_Part):
    """From the network's output to boxes; the same in PyTorch and in the end-to-end ONNX graph."""

    pre_nms_score_threshold: float = Field(
        0.05, gt=0, lt=1, description="boxes with this score or a lower one are dropped before NMS"
    )
    nms_iou: float = Field(0.6, gt=0, le=1, description="within a class, boxes overlapping more are dropped")
    max_detections: int = Field(100, ge=1, description="most boxes an image")
    pre_nms_top_k: int = Field(
        300, ge=1, description="most boxes into NMS, per level (SSD: per class; not used by Faster R-CNN)"
    )


class Recipe(_Part):
    """A whole training."""

    data: Data
    pretrain: Pretrain | None = Field(
        None, description="synthetic pre-training on a rendered field first; null: none"
    )
    model: Model = Model()
    input: Input = Input()
    augment: AugmentSettings = Field(AugmentSettings(), description="how images are varied while training")
    train: Train = Train()
    distill: Distill | None = Field(None, description="a teacher to learn from as well; null: the labels only")
    postprocess: Postprocess = Postprocess()

    @model_validator(mode="after")
    def _input_fits_the_preset(self) -> Recipe:
        self.model.options.check_input(self.input.size_hw)
        return self

    @property
    def detector(self) -> DetectorConfig:
        """From what the detector is built, as plain data."""
        return DetectorConfig(
            preset=self.model.preset,
            options=self.model.options.model_dump(),
            size_hw=self.input.size_hw,
            **self.postprocess.model_dump(),
        )

    @property
    def starts_pretrained(self) -> bool:
        """Whether the backbone starts from pretrained weights."""
        return self.model.weights != "none"

    @property
    def freezes_batchnorm(self) -> bool:
        """Whether batch norms keep their statistics; those of a random start are meaningless."""
        return self.train.freeze_batchnorm and self.starts_pretrained

    def to_yaml(self) -> str:
        """The resolved recipe as YAML, as a run contains it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
