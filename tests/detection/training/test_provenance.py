"""What a run says of how it was made."""

import subprocess
from pathlib import Path

import torch

from detection.training.provenance import environment, git_state


def test_versions_are_those_that_run():
    said = environment()
    assert said["packages"]["torch"] == metadata_version("torch")
    assert torch.__version__.startswith(said["packages"]["torch"].split("+")[0])
    assert set(said) == {"swath", "python", "platform", "packages", "git"}


def metadata_version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def test_the_state_of_a_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert git_state(tmp_path) is None  # no checkout
    git("init", "-q")
    (tmp_path / "__init__.py").write_text("")
    assert git_state(tmp_path) is None  # a checkout that does not hold it
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "changed": False}
    (tmp_path / "__init__.py").write_text("x = 1\n")
    assert git_state(tmp_path) == {"commit": commit, "changed": True}
