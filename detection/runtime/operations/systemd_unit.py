"""`systemd_unit`: the unit file that runs a machine as a service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detection.runtime.errors import SwathError
from detection.runtime.operations.machine_file import MachineFile

_UNIT = """\
# {path}
# swath machine unit {machine} > {path}
# systemctl daemon-reload && systemctl enable --now {name}
[Unit]
Description=Swath: {machine}
After=network-online.target
Wants=network-online.target
# No limit on restarts: in the field there is nobody to start it again.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
{folders}ExecStart={command}
# A new model file at its path is loaded automatically; a reload checks for it at once.
ExecReload=/bin/kill -HUP $MAINPID
# Secrets that the YAML refers to as ${{NAME}}; owned by root, mode 0600.
EnvironmentFile=-{secrets}
Environment=PYTHONUNBUFFERED=1
User={user}
SupplementaryGroups=video render
WorkingDirectory={folder}
Restart=always
RestartSec=2
# Preparing a model for its device may take minutes, once.
TimeoutStartSec=300
TimeoutStopSec=10
# Restarted when the pipeline makes no progress for this long.
WatchdogSec={watchdog_s}

# It may read its model, cameras and the network, and write its outputs; nothing else.
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writable}
PrivateTmp=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
UMask=0027

[Install]
WantedBy=multi-user.target
"""


def systemd_unit(loaded: MachineFile, *, command: Sequence[str], user: str = "swath", watchdog_s: int = 10) -> str:
    """A systemd unit that starts a machine at boot, restarts it after any failure, and sandboxes it.

    Args:
        loaded: the machine's YAML.
        command: how `swath` is called here, such as the full path of the script.
        user: the account that it runs as; must be able to read the model and write the outputs.
        watchdog_s: restart after this many seconds without progress.

    Raises:
        SwathError: a path that a unit file cannot hold.

    """
    path = loaded.path.resolve()
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"swath-{loaded.machine.name}") + ".service"
    folders = {_folder(p).resolve() for p in loaded.machine.written}
    for each in (path, *folders, *map(Path, command)):
        if set(str(each)) & set(" \t\n\"'\\%$;"):
            raise SwathError(f"{each}: a systemd unit wants paths without spaces, quotes, % and $; move it")
    return _UNIT.format(
        path=f"/etc/systemd/system/{name}",
        machine=path,
        name=name,
        command=" ".join([*command, "stream", "--machine", str(path)]),
        secrets=f"/etc/swath/{name.removesuffix('.service')}.env",
        user=user,
        folder=path.parent,
        watchdog_s=watchdog_s,
        folders="".join(f"ExecStartPre=+/usr/bin/install -d -o {user} {folder}\n" for folder in sorted(folders)),
        writable=" ".join(f"-{folder}" for folder in sorted(folders)),
    )


def _folder(path: Path) -> Path:
    """What must be writable for a file or folder that may not be there yet."""
    return path if path.is_dir() or not path.suffix else path.parent
