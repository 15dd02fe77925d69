"""One loader of the benchmark, started by loading.py: prints `pass N` after each pass over N images.

python scripts/bench/loading_contestants.py swath-ram FOLDER 2
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any


def swath(home: Path, job: dict[str, Any], workers: int, cache: str) -> Iterator[int]:
    """Swath's own, as `swath train` calls it."""
    from data import load_dataset
    from data.augmentation.augment import Augment
    from data.augmentation.settings import AugmentSettings
    from data.loading.cache import CacheOptions
    from data.loading.loader import LoadingOptions, training_batches
    from data.loading.sampling import SamplingOptions
    from detection.training.batches import fit_to_input

    size_hw = (job["size"], job["size"])
    dataset = load_dataset(home / "annotations.json")
    settings = AugmentSettings(strength="none", hflip=0.5, brightness=0.25, contrast=0.25)
    augment = Augment(settings, size_hw=size_hw)
    for batch in training_batches(
        dataset,
        SamplingOptions(batch_size=job["batch"], seed=0, steps=1 << 40),
        fit=partial(fit_to_input, size_hw=size_hw),
        augment=augment,
        scale_range=augment.scale_range,
        loading=LoadingOptions(workers=workers, cache=CacheOptions(cache or "none", 4096)),
    ):
        assert batch.images.shape[1:] == (3, *size_hw)
        yield len(batch.indices)


def torchvision(home: Path, job: dict[str, Any], workers: int, decoder: str) -> Iterator[int]:
    """Transforms of torchvision v2 in a plain DataLoader, decoding and converting as its detection references do."""
    import torch
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    size = job["size"]

    class PadToSquare(torch.nn.Module):
        def forward(self, image: Any, target: Any) -> Any:
            height, width = functional.get_size(image)
            padding = [0, 0, size - width, size - height]
            target = {**target, "boxes": functional.pad(target["boxes"], padding)}
            return functional.pad(image, padding, fill=[114, 114, 114]), target

    transforms = v2.Compose(
        [
            *([v2.ToImage()] if decoder == "pil" else []),
            v2.Resize(size=None, max_size=size, antialias=True),
            PadToSquare(),
            v2.RandomHorizontalFlip(0.5),
            v2.ColorJitter(brightness=0.25, contrast=0.25),
            v2.SanitizeBoundingBoxes(),
            v2.ToPureTensor(),
        ]
    )
    content = json.loads((home / "annotations.json").read_text())
    boxes: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        boxes[annotation["image_id"]].append((*annotation["bbox"], annotation["category_id"]))

    class Images(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(content["images"])

        def __getitem__(self, index: int) -> Any:
            entry = content["images"][index]
            path = str(home / entry["file_name"])
            if decoder == "pil":
                image: Any = Image.open(path).convert("RGB")
            else:
                image = tv_tensors.Image(decode_image(path, ImageReadMode.RGB))
            rows = torch.tensor(boxes[entry["id"]], dtype=torch.float32).reshape(-1, 5)
            corners = torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:4]], dim=1)
            frame_hw = (entry["height"], entry["width"])
            drawn = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=frame_hw)  # type: ignore[call-arg]
            return transforms(image, {"boxes": drawn, "labels": rows[:, 4].long()})

    loader = torch.utils.data.DataLoader(
        Images(),
        batch_size=job["batch"],
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=lambda samples: (torch.stack([image for image, _ in samples]), [target for _, target in samples]),
    )
    while True:
        for images, _ in loader:
            assert images.dtype == torch.uint8 and images.shape[1:] == (3, size, size)
            yield len(images)


def main() -> None:
    """Parse the command line, go through the images, say when a pass is done."""
    name, folder, workers = sys.argv[1:]
    home = Path(folder)
    job = json.loads((home / "job.json").read_text())
    loader, _, variant = name.partition("-")
    counts = {"swath": swath, "torchvision": torchvision}[loader](home, job, int(workers), variant)
    total = len(list((home / "images").iterdir()))
    for _ in range(job["epochs"]):
        seen = 0
        while seen < total:
            seen += next(counts)
        print("pass", seen, flush=True)
    time.sleep(0.5)  # whoever started this measures the memory of this process and its workers now


if __name__ == "__main__":
    main()
