# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["service"]:
        # Windows waits 30 s for a first sign of a service, so nothing else is imported before that.
        from .service import serve

        sys.exit(serve())
    from .cli import main

    sys.exit(main(sys.argv[1:]))
