# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""SELinux: a confined guest agent starts us in a domain that may do one thing, start host-command.

Which commands a host may have is said there: that program leads on into the domain that may change the network, and
nothing else does. For everybody else, and without SELinux, this is one look at a file.
"""

import os
import sys

from . import paths

EXIT_NOT_PERMITTED = 77  # os.EX_NOPERM; the same as host-command's
_DOMAIN = b":osnetd_agent_t:"
_ONCE = "OSNETD_HOST_COMMAND"


def leave() -> None:
    """Becomes host-command if this is the domain of what a confined guest agent starts. Returns if it is not."""
    try:
        with open(paths.OWN_CONTEXT, "rb") as fh:
            context = fh.read()
    except OSError:
        return  # no SELinux
    if _DOMAIN not in context:
        return
    why = "it does not lead to another domain"
    if _ONCE not in os.environ:
        os.environ[_ONCE] = "1"
        try:
            os.execv(paths.HOST_COMMAND, [paths.HOST_COMMAND, *sys.argv[1:]])  # noqa: S606 - a shell is not wanted
        except OSError as exc:
            why = str(exc.strerror)
    text = "cloudinit-osnetd: %s: %s (SELinux: has it lost its label? restorecon -v %s)\n"
    sys.stderr.write(text % (paths.HOST_COMMAND, why, paths.HOST_COMMAND))
    sys.stderr.flush()
    os._exit(EXIT_NOT_PERMITTED)
