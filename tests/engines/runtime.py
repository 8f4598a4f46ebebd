"""runc on a machine that does not let root do everything: this one may lack a capability, such as CAP_SYS_RESOURCE.

`docker run --privileged` asks runc for every capability there is, and runc refuses all when one cannot be had. As a
runtime of the engine this takes what the machine itself lacks out of the container's configuration, then becomes runc.
Where nothing is lacking, nothing is changed.

Usage: runtime.py PATH_OF_RUNC ARGUMENTS_OF_RUNC…
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from pathlib import Path

# In the order of their numbers, as the kernel has them (include/uapi/linux/capability.h).
CAPABILITIES = ("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid")
CAPABILITIES += ("setuid", "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw")
CAPABILITIES += ("ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct")
CAPABILITIES += ("sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod")
CAPABILITIES += ("lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog")
CAPABILITIES += ("wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore")


def lacking() -> set[str]:
    """The capabilities that no process here can have, such as CAP_SYS_RESOURCE."""
    (bounds,) = re.findall(r"(?m)^CapBnd:\s*(\w+)$", Path("/proc/self/status").read_text())
    return {f"CAP_{name.upper()}" for bit, name in enumerate(CAPABILITIES) if not int(bounds, 16) >> bit & 1}


def reduce(process: dict, missing: set[str]) -> None:
    """Take out of a process's configuration what cannot be given to it.

    Args:
        process: as the OCI's runtime specification has it.
        missing: capabilities.
    """
    for kind, names in (process.get("capabilities") or {}).items():
        process["capabilities"][kind] = [name for name in names if name not in missing]
    if "CAP_SYS_RESOURCE" in missing:
        # Both need it: making the kernel's memory killer spare a process, and more than one has oneself.
        process.pop("oomScoreAdj", None)
        for limit in process.get("rlimits") or []:
            _, most = resource.getrlimit(getattr(resource, limit["type"]))
            if most != resource.RLIM_INFINITY:
                limit["hard"], limit["soft"] = min(limit["hard"], most), min(limit["soft"], most)


def main() -> None:
    """Do as the module says."""
    runc, *arguments = sys.argv[1:]
    if missing := lacking():
        # runc's own flags come before the verb, and those of the verb after it.
        if {"create", "run"} & set(arguments):
            bundle = arguments[arguments.index("--bundle") + 1] if "--bundle" in arguments else "."
            change(Path(bundle, "config.json"), missing)
        elif "exec" in arguments and "--process" in arguments:
            change(Path(arguments[arguments.index("--process") + 1]), missing)
    os.execv(runc, [runc, *arguments])


def change(file: Path, missing: set[str]) -> None:
    """Reduce the process that a file describes: a container's configuration, or the process alone."""
    described = json.loads(file.read_text())
    reduce(described.get("process") or described, missing)
    file.write_text(json.dumps(described))


if __name__ == "__main__":
    main()
