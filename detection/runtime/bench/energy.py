"""`EnergyMeter`: energy from the machine's own counters, where they are readable: RAPL of x86 under Linux."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules of all processor packages (cores, caches, memory controller; no GPU, no camera, no supply).

    Includes everything that runs on the machine, and its idle power.

    Args:
        folder: the kernel's counters.

    Attributes:
        measures: what is counted; None where nothing can be read.
        reason: why nothing can be read; empty where something can.

    Source: https://docs.kernel.org/power/powercap/powercap.html

    """

    def __init__(self, folder: Path = POWERCAP) -> None:
        self.measures: str | None = None
        self.reason = ""
        self._counters: list[tuple[Path, int]] = []
        # Packages are intel-rapl:0, intel-rapl:1, ... (AMD's too); their parts, intel-rapl:0:1, are in them already.
        packages = [p for p in sorted(folder.glob("intel-rapl:*")) if p.name.count(":") == 1 and _is_package(p)]
        if not packages:
            self.reason = f"no processor counters under {folder}"
            return
        try:
            for package in packages:
                int((package / "energy_uj").read_text())
                self._counters.append((package / "energy_uj", int((package / "max_energy_range_uj").read_text())))
        except PermissionError as error:
            self._counters = []
            self.reason = f"{error.filename} may not be read; as root: chmod a+r {error.filename}"
            return
        except (OSError, ValueError) as error:
            self._counters = []
            self.reason = f"{packages[0]}: gives no number ({type(error).__name__})"
            return
        self.measures = f"{len(packages)} processor package{'s' if len(packages) > 1 else ''} (RAPL), all that runs"

    def read(self) -> tuple[int, ...]:
        """The counters now, microjoules each; empty where nothing can be read."""
        return tuple(int(path.read_text()) for path, _ in self._counters)

    def joules_between(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Between two readings; a counter that wrapped around in between is handled."""
        total = 0
        for (_, span), first, last in zip(self._counters, before, after, strict=True):
            total += last - first if last >= first else last - first + span
        return total / 1e6


def _is_package(folder: Path) -> bool:
    try:
        return (folder / "name").read_text().startswith("package")
    except OSError:
        return False
