"""Ultralytics' training loader for loading.py, which starts it in an environment of its own.

    VENV/bin/python scripts/bench/loading_ultralytics.py ultralytics-ram FOLDER 2

Mosaic and every change that the others do not make are off; brightness and contrast come from the same
Albumentations transform that Swath uses. Without its cache it would still keep the last 8 batches of decoded
images in each worker (for mosaic), which on a small dataset is a cache: it is told of a batch of 1 for that.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import albumentations as A
from ultralytics.data.build import build_dataloader
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import DEFAULT_CFG, IterableSimpleNamespace

OFF = ("mosaic", "mixup", "cutmix", "copy_paste", "degrees", "translate", "scale", "shear", "perspective", "flipud")


def main() -> None:
    """Parse the command line, go through the images, say when a pass is done."""
    name, folder, workers = sys.argv[1:]
    home = Path(folder)
    job = json.loads((home / "job.json").read_text())
    settings = {**vars(DEFAULT_CFG), **dict.fromkeys((*OFF, "hsv_h", "hsv_s", "hsv_v"), 0.0), "fliplr": 0.5}
    settings["augmentations"] = [A.RandomBrightnessContrast(0.25, 0.25, p=1.0)]
    dataset = YOLODataset(
        img_path=str(home / "images"),
        imgsz=job["size"],
        batch_size=1,
        augment=True,
        hyp=IterableSimpleNamespace(**settings),
        cache="ram" if name.endswith("-ram") else None,
        data={"names": {label: str(label) for label in range(job["classes"])}, "channels": 3},
        task="detect",
    )
    loader = build_dataloader(dataset, job["batch"], int(workers), shuffle=True, device="cpu")
    total = len(list((home / "images").iterdir()))
    assert len(dataset) == total, f"{len(dataset)} of {total} images"
    for _ in range(job["epochs"]):
        seen = 0
        for batch in loader:
            images = batch["img"]
            assert str(images.dtype) == "torch.uint8" and tuple(images.shape[1:]) == (3, job["size"], job["size"])
            seen += len(images)
        print("pass", seen, flush=True)
    time.sleep(0.5)  # whoever started this measures the memory of this process and its workers now


if __name__ == "__main__":
    main()
