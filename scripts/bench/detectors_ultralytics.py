"""An Ultralytics model for detectors.py, which starts it in an environment of its own.

    VENV/bin/python scripts/bench/detectors_ultralytics.py FOLDER

FOLDER holds `job.json`, a YOLO dataset under `train/` and `images.json`; gets `results.json`. Its own settings stay
as they are, but for the budget, the input size, the batch of 4 that the others have, and no validation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ultralytics import YOLO


def main() -> None:
    """Train for the budget, then look at every test image."""
    home = Path(sys.argv[1]).resolve()
    job = json.loads((home / "job.json").read_text())
    images = home / "train" / "images" / "train"
    names = {str(label): name for label, name in enumerate(job["names"])}
    yaml = home / "data.yaml"
    yaml.write_text(json.dumps({"path": str(home), "train": str(images), "val": str(images), "names": names}))
    model = YOLO(job["model"])
    model.train(
        data=str(yaml),
        time=job["minutes"] / 60,
        imgsz=job["size"],
        batch=4,
        workers=2,
        device="cpu",
        pretrained=False,
        val=False,
        plots=False,
        amp=False,
        cache="ram",
        project=str(home),
        name="run",
    )
    trained = YOLO(home / "run" / "weights" / "last.pt")
    results = []
    for image_id, path in json.loads((home / "images.json").read_text()).items():
        (found,) = trained.predict(path, imgsz=job["size"], conf=0.001, max_det=100, device="cpu", verbose=False)
        rows = zip(found.boxes.xyxy.tolist(), found.boxes.conf.tolist(), found.boxes.cls.tolist(), strict=True)
        for (x1, y1, x2, y2), score, label in rows:
            box = [x1, y1, x2 - x1, y2 - y1]
            results.append({"image_id": int(image_id), "label": int(label), "bbox": box, "score": score})
    (home / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
