"""`OutputKind`: the description of an output, from which settings, flags, checks and docs are derived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.runtime.outputs.contract import Output

if TYPE_CHECKING:
    from detection.runtime.cameras.source import Source
    from detection.runtime.events import Listener
    from detection.runtime.streaming.controls import Controls
    from detection.runtime.streaming.slices import FrameSlicer

FILES, NETWORK = "Files", "Network and people"
"""Groups of flags in the help of `swath stream`."""


@dataclass(frozen=True)
class Flag:
    """A flag of `swath stream`.

    Attributes:
        metavar: what its value is, such as "F" or "URL".
        help: what it does, in a sentence.
        field: the key of the output's settings that it gives; "" for the settings as a whole.
        suffix: of its name: the output's key alone for "", else `--KEY-SUFFIX`.
        environment: a variable that gives the value where the flag is left out; "" for none.

    """

    metavar: str
    help: str
    field: str = ""
    suffix: str = ""
    environment: str = ""

    def option(self, key: str) -> str:
        """Its name on the command line, for the output of this key."""
        return "--" + "-".join(part.replace("_", "-") for part in (key, self.suffix) if part)


@dataclass(frozen=True)
class Package:
    """An optional package.

    Attributes:
        module: what is imported.
        install: what the user has to do to get it.

    """

    module: str
    install: str = 'pip install "swath[stream]"'


@dataclass(frozen=True)
class OutputContext:
    """What an output may have to know of the stream that it belongs to.

    Attributes:
        sources: the opened cameras and recordings.
        controls: detector and thresholds in force.
        model: the model file.
        listener: receives events of the output ("lost", "recovered"); from any thread.
        slicers: region of interest and tiles by camera name.
        max_age_ms: live images above this age are dropped; None: none is.
        new_file_minutes: recordings begin a new file so often; None: they do not.
        dropped: frames that each output has dropped so far, by name; from any thread.

    """

    sources: Sequence[Source]
    controls: Controls
    model: Path
    listener: Listener
    slicers: Mapping[str, FrameSlicer]
    max_age_ms: float | None
    new_file_minutes: float | None
    dropped: Callable[[], Mapping[str, int]]


def _nothing_written(settings: Any) -> Sequence[Path]:
    return ()


def _no_port(settings: Any) -> int | None:
    return None


@dataclass(frozen=True)
class OutputKind:
    """One kind of output. The whole of a kind is one file with a `KIND`, and one line in `KINDS`.

        def _open(path: Path, context: OutputContext) -> list[Output]:
            return [JsonlOutput(path)]

        KIND = OutputKind(
            key="jsonl",
            about="one JSON line per image",
            settings=HomePath,
            opens=_open,
            flags=(Flag("F", "One JSON line per image."),),
            writes=lambda path: [path],
            example="season/detections.jsonl",
        )

    Attributes:
        key: in the `outputs` of a machine's YAML, and in messages.
        about: what it is, in a few words.
        settings: what the YAML's value is: a pydantic model or any type that pydantic validates.
        opens: opens it for the settings and the stream; each output that is yielded is closed by the caller.
            Raises `OutputError` where it cannot be opened.
        flags: of `swath stream`; the first one asks for the output, the others give further settings.
        panel: the group of its flags in the help.
        example: its value in the YAML of `swath machine example`.
        queued: frames wait for it in a thread of its own (`Queued`); False where its `write` returns at once.
        secret: whether its settings hold passwords, and are not shown by repr.
        needs: the optional package that it imports; None for none.
        writes: files and folders that it writes, for given settings.
        port: TCP port of this machine that it listens on, for given settings.

    """

    key: str
    about: str
    settings: Any
    opens: Callable[[Any, OutputContext], Iterable[Output]]
    flags: tuple[Flag, ...] = ()
    panel: str = FILES
    example: str = ""
    queued: bool = True
    secret: bool = False
    needs: Package | None = None
    writes: Callable[[Any], Sequence[Path]] = _nothing_written
    port: Callable[[Any], int | None] = _no_port

    def from_flags(self, given: Mapping[str, Any]) -> Any:
        """Its settings from flags, as the YAML would have them; None where the first flag was left out.

        Args:
            given: values by option name ("--dashboard-token"); None where a flag was left out.

        """
        values = {flag: given.get(flag.option(self.key)) for flag in self.flags}
        if not self.flags or values[self.flags[0]] is None:
            return None
        if len(values) == 1 and not self.flags[0].field:
            return values[self.flags[0]]
        return {flag.field: value for flag, value in values.items() if value is not None}
