"""How training images are varied: settings, order, seeds; `effects` holds one file a group of effects."""
