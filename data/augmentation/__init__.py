"""How training images are varied: settings, order, seeds; `effects` holds one file for each group of effects."""

import os

# Without this, importing albumentations asks the network for a newer version of itself.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
