# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A pytest plugin, loaded inside the root: the override's classes stand in for cloud-init's own.

A test that imports cloudinit.sources.DataSourceConfigDrive gets a module whose classes are ours; all else in it, and
every patch of it, goes to the built-in module, where the inherited code looks.
"""

import importlib
import os
import sys
import types

_MODULES = ("DataSourceConfigDrive", "DataSourceOpenStack")
_OURS = {
    "DataSourceConfigDrive": ("DataSourceConfigDrive", "DataSourceConfigDriveNet"),
    "DataSourceOpenStack": ("DataSourceOpenStack", "DataSourceOpenStackLocal"),
}
made = {}  # class name -> objects made: a run that never made one has shown nothing


class _StandIn(types.ModuleType):
    def __init__(self, builtin, override, names):
        super().__init__(builtin.__name__, builtin.__doc__)
        classes = {name: getattr(override, name) for name in names}
        classes.update(datasources=override.datasources, get_datasource_list=override.get_datasource_list)
        vars(self).update(_builtin=builtin, _classes=classes)
        # To be told from the module's own by no look into it.
        for attribute in ("__file__", "__spec__", "__loader__", "__package__"):
            vars(self)[attribute] = getattr(builtin, attribute)

    def __getattr__(self, name):
        return self._classes[name] if name in self._classes else getattr(self._builtin, name)

    def __setattr__(self, name, value):
        if name in self._classes:
            self._classes[name] = value
        else:
            setattr(self._builtin, name, value)

    def __delattr__(self, name):
        delattr(self._builtin, name)

    def __dir__(self):
        return sorted(set(dir(self._builtin)) | set(self._classes))


def _count(cls):
    plain = cls.__init__

    def counted(self, *args, **fields):
        made[cls.__name__] = made.get(cls.__name__, 0) + 1
        plain(self, *args, **fields)

    cls.__init__ = counted


def install():
    import cloudinit.sources

    for name in _MODULES:
        builtin = importlib.import_module("cloudinit.sources." + name)
        override = importlib.import_module("cloudinit_osnetd.sources." + name)
        for cls in {getattr(override, ours) for ours in _OURS[name]}:
            assert issubclass(cls, getattr(builtin, cls.__name__))
            _count(cls)
        stand_in = _StandIn(builtin, override, _OURS[name])
        sys.modules[builtin.__name__] = stand_in
        setattr(cloudinit.sources, name, stand_in)


def pytest_terminal_summary(terminalreporter):
    for name, count in sorted(made.items()):
        terminalreporter.write_line("stand-in: %s made %d times" % (name, count))


if os.environ.get("OSNETD_STAND_IN") == "1":
    install()
