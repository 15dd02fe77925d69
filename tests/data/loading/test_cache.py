from __future__ import annotations

import multiprocessing
import os
import pickle
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.loading.cache import DiskCache, RamCache, default_folder

SIZES_HW = [(2, 3), (4, 5), (1, 1)]  # 18, 60 and 3 bytes


def image(index: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, index]).integers(0, 256, (*SIZES_HW[index], 3), np.uint8)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{index}.jpg" for index in range(3)]
    for index, path in enumerate(made):
        path.write_bytes(bytes(index + 1))
    return made


@pytest.mark.parametrize(("room_bytes", "kept"), [(0, 0), (17, 0), (18, 1), (77, 1), (78, 2), (80, 2), (81, 3)])
def test_the_first_images_that_fit_are_kept(room_bytes: int, kept: int, paths: list[Path], tmp_path: Path) -> None:
    caches = [RamCache(SIZES_HW, room_bytes), DiskCache(tmp_path / "cache", paths, SIZES_HW, room_bytes)]
    for cache in caches:
        assert cache.kept == kept
        for index in range(3):
            assert cache.get(index) is None
            cache.put(index, image(index))
        for index in range(3):
            found = cache.get(index)
            if index >= kept:
                assert found is None
            else:
                assert found is not None and not found.flags.writeable
                assert np.array_equal(found, image(index))
    assert sum(file.stat().st_size for file in (tmp_path / "cache").iterdir()) <= room_bytes


def test_no_images_need_no_room(tmp_path: Path) -> None:
    assert RamCache([], 100).kept == DiskCache(tmp_path / "cache", [], [], 100).kept == 0


def test_forked_workers_share_the_memory() -> None:
    cache = RamCache(SIZES_HW, 1000)
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=lambda: cache.put(1, image(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
        worker.start()
    worker.join(30)
    assert worker.exitcode == 0
    found = cache.get(1)
    assert found is not None and np.array_equal(found, image(1))


def test_a_spawned_worker_gets_its_part_of_the_room() -> None:
    cache = RamCache(SIZES_HW, 80, sharers=4)
    cache.put(0, image(0))
    its_own = pickle.loads(pickle.dumps(cache))
    assert cache.kept == 2 and its_own.kept == 1  # 20 bytes each
    assert its_own.get(0) is None


def test_files_serve_the_next_run_and_not_a_image_that_was_replaced(tmp_path: Path, paths: list[Path]) -> None:
    folder = tmp_path / "cache"
    first = DiskCache(folder, paths, SIZES_HW, 1000)
    for index in range(3):
        first.put(index, image(index))
    paths[1].write_bytes(b"another length")
    os.utime(paths[2], (1, 1))
    second = DiskCache(folder, paths, SIZES_HW, 1000)
    found = second.get(0)
    assert found is not None and np.array_equal(found, image(0))
    assert second.get(1) is None and second.get(2) is None
    other_size = DiskCache(folder, paths, [(3, 2), (4, 5), (1, 1)], 1000)
    assert other_size.get(0) is None


def test_a_cut_file_is_no_image(tmp_path: Path, paths: list[Path]) -> None:
    cache = DiskCache(tmp_path / "cache", paths, SIZES_HW, 1000)
    cache.put(0, image(0))
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert cache.get(0) is None
    cache.put(0, image(0))
    assert cache.get(0) is not None


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DiskCache(tmp_path / "cache", paths, SIZES_HW, 1000)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.put(0, image(0))
    assert list((tmp_path / "cache").iterdir()) == [] and cache.get(0) is None


def test_a_full_disk_is_no_error(tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(tmp_path / "cache", paths, SIZES_HW, 1000)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", full)
        cache.put(0, image(0))
    assert list((tmp_path / "cache").iterdir()) == [] and cache.get(0) is None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path, paths: list[Path]) -> None:
    folder = tmp_path / "cache"
    old = DiskCache(folder, paths, SIZES_HW, 1000)
    names = []
    for index in range(3):
        before = set(folder.iterdir())
        old.put(index, image(index))
        (file,) = set(folder.iterdir()) - before
        names.append(file)
        os.utime(file, (1000 + index, 1000 + index))
    abandoned, fresh = folder / ".x.bgr.1.tmp", folder / ".y.bgr.2.tmp"
    for file in (abandoned, fresh):
        file.write_bytes(b"half")
    os.utime(abandoned, (1000, 1000))
    # 81 bytes lie there; 3 new ones and 66 in all: the first (18) is enough
    new = tmp_path / "new.jpg"
    new.write_bytes(b"new")
    cache = DiskCache(folder, [new], [(1, 1)], 66)
    assert cache.kept == 1
    assert set(folder.iterdir()) == {names[1], names[2], fresh}
    # what this run wants is in use, and stays
    DiskCache(folder, [paths[1]], [SIZES_HW[1]], 60)
    assert set(folder.iterdir()) == {names[1], fresh}
    assert names[1].stat().st_mtime > time.time() - 60


def test_a_folder_that_cannot_be_written_to_is_one_clear_line(tmp_path: Path, paths: list[Path]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="images cannot be cached here.*train.cache to ram or none") as caught:
        DiskCache(tmp_path / "file" / "cache", paths, SIZES_HW, 1000)
    assert "\n" not in str(caught.value)


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "swath" / "images"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".cache" / "swath" / "images"
