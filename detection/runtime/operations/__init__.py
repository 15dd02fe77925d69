"""A whole machine: its YAML, its service, its logs, and the change of its model while it runs."""
