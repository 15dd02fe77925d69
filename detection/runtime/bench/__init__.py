"""How fast a model file is on this machine."""
