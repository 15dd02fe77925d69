from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detection.runtime.blackbox.folder import BoundedFolder
from detection.runtime.errors import OutputError


def size_on_disk(root: Path) -> int:
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in root.rglob("*") if p.is_file())


def test_never_above_the_quota_and_the_oldest_goes_first(tmp_path: Path) -> None:
    disk = BoundedFolder(tmp_path, 100_000)
    rng = np.random.default_rng(0)
    made = []
    for number in range(30):
        part = disk.new_part("incidents" if number % 3 else "relabel", "camera lost")
        made.append(part)
        for name in ("images/a.png", "frames.jsonl"):
            assert disk.write(part, name, rng.bytes(int(rng.integers(1, 9000))))
            assert size_on_disk(tmp_path) == disk.used_bytes <= 100_000
    there = [part.is_dir() for part in made]
    assert there[-3:] == [True] * 3 and there == sorted(there)  # a run of gone ones, then a run of kept ones
    assert disk.removed_parts == there.count(False) > 0 and disk.lost_files == 0


def test_a_part_is_never_removed_for_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = BoundedFolder(tmp_path, 20_000)
    part = disk.new_part("incidents")
    assert [disk.write(part, f"{i}", b"x" * 4096) for i in range(6)] == [True] * 4 + [False] * 2
    assert not disk.append(part, "frames.jsonl", b"line\n")
    assert disk.lost_files == 3 and len(list(part.iterdir())) == 4
    (said,) = [r for r in caplog.records if r.levelname == "ERROR"]  # once
    assert "quota of 0.02 MB is too small" in said.getMessage()


def test_what_is_being_written_is_not_removed_until_it_is_finished(tmp_path: Path) -> None:
    disk = BoundedFolder(tmp_path, 5 * 4096)
    going_on, other = disk.new_part("incidents", "a"), disk.new_part("relabel")
    disk.hold(going_on)
    assert disk.write(going_on, "x", b"x")
    assert [disk.write(other, f"{i}", b"x" * 4096) for i in range(5)] == [True] * 4 + [False]
    assert (going_on / "x").exists()
    disk.finish(going_on, going_on.with_name(going_on.name + "-whole"))
    assert disk.write(other, "5", b"x" * 4096)
    assert [part.name for part in disk.parts("incidents")] == []


def test_replacing_appending_and_discarding_are_counted_right(tmp_path: Path) -> None:
    disk = BoundedFolder(tmp_path, 1_000_000)
    part = disk.new_part("relabel")
    for size in (10, 5000, 3):
        assert disk.write(part, "annotations.json", b"x" * size)
    for _ in range(300):
        assert disk.append(part, "frames.jsonl", b"x" * 99 + b"\n")
    disk.write(part, "gone.png", b"x" * 5000)
    disk.discard(part, "gone.png")
    disk.discard(part, "never.png")
    assert disk.used_bytes == size_on_disk(tmp_path) == 4096 + 8 * 4096
    disk.remove(part)
    assert disk.used_bytes == 0 and not part.exists()


def test_a_second_run_goes_on_counting_and_cleans_up(tmp_path: Path) -> None:
    first = BoundedFolder(tmp_path, 1_000_000)
    old = first.new_part("incidents", "a")
    first.write(old, "x", b"x" * 9000)
    (old / ".y.part").write_bytes(b"half a file of a writer that was killed")
    second = BoundedFolder(tmp_path, 1_000_000)
    assert sorted(os.listdir(old)) == ["x"] and second.used_bytes == 12288
    newer = second.new_part("relabel", "b")
    assert newer.name > old.name and newer.name.split("-")[0] == "000002"
    assert BoundedFolder(tmp_path, 5000).used_bytes == 0  # a lower quota counts at once


def test_a_name_is_safe_whatever_the_camera_is_called(tmp_path: Path) -> None:
    part = BoundedFolder(tmp_path, 1000).new_part("incidents", "camera-lost-../../etc/passwd ü\n" + "x" * 200)
    assert part.parent == tmp_path / "incidents" and len(part.name) < 100 and "\n" not in part.name


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        BoundedFolder(tmp_path / "file" / "box", 1000)


FULL = """
import subprocess, sys
from pathlib import Path
root = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", root], check=True)
from detection.runtime.blackbox.folder import BoundedFolder
disk = BoundedFolder(root, 10_000_000)
part = disk.new_part("incidents")
written = [disk.write(part, f"{i}.png", b"x" * 20_000) for i in range(20)]
lines = [disk.append(part, "frames.jsonl", b"y" * 999 + b"\\n") for _ in range(40)]
print(sum(written), sum(lines), disk.lost_files)
assert 5 < sum(written) < 13 and lines[-1] is False
assert sorted(p.stat().st_size for p in part.glob("*.png")) == [20_000] * sum(written), "a torn file"
assert not list(part.glob(".*")), "a draft was left"
assert (part / "frames.jsonl").stat().st_size == 1000 * sum(lines), "a torn line"
assert disk.lost_files == 20 - sum(written) + 40 - sum(lines)
(part / "0.png").unlink()
(part / "1.png").unlink()
assert disk.write(part, "again.png", b"x" * 20_000)
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux namespaces for a disk of its own")
def test_a_full_disk_is_counted_said_once_and_survived(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no namespaces")
    command = ["unshare", "-rm", sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.count("cannot be written (No space left on device)") == 1
        and done.stderr.count("can be written again") == 1
    )
