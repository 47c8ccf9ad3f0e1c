# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""lazy_imports: a module that is only referred to is not imported, and works on first use."""

import os
import subprocess
import sys

import pytest

import cloudinit_osnetd

REQUESTS = """
LOADED = True
class Response: pass
class Timeout(Exception): pass
def get(what, times): return what * times
from . import exceptions
"""
# As cloud-init's url_helper has it (22.4): a module that names what it uses later.
HELPER = """
import requests
from requests import exceptions
def read(answer: requests.Response = None, retry=(requests.Timeout,)):
    return requests.LOADED, exceptions.SSLError.__name__
"""
# And as its successors do (25.1): a function named, to be called later.
CALLS = """
from requests import get
def fetch():
    return get("there", times=2)
"""
# And one that calls what it has named while it is imported itself.
CALLS_AT_ONCE = """
from requests import get
import requests
FOUND = get("there", times=2), requests.get("here", times=1)
"""
NEEDS = """
from requests.adapters import HTTPAdapter
"""


@pytest.fixture
def python(tmp_path):
    """Run a script where `requests`, `helper` and `needs` can be imported; what it prints."""
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests/__init__.py").write_text(REQUESTS)
    (tmp_path / "requests/exceptions.py").write_text("class SSLError(Exception): pass\n")
    (tmp_path / "requests/adapters.py").write_text("class HTTPAdapter: pass\n")
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "calls.py").write_text(CALLS)
    (tmp_path / "calls_at_once.py").write_text(CALLS_AT_ONCE)
    (tmp_path / "needs.py").write_text(NEEDS)

    def run(script):
        head = "import sys; sys.path.insert(0, %r); from cloudinit_osnetd.system import lazy_imports\n" % str(tmp_path)
        done = subprocess.run([sys.executable, "-c", head + script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout.decode().split()

    return run


def test_what_is_only_named_is_not_imported(python):
    script = "with lazy_imports.named_only('requests', 'requests.exceptions'):\n    import helper\nprint([n for n in sys.modules if 'requests' in n])"
    assert python(script) == ["[]"]


def test_who_uses_it_afterwards_gets_the_real_one(python):
    script = "with lazy_imports.named_only('requests', 'requests.exceptions'):\n    import helper\nprint(*helper.read())"
    assert python(script) == ["True", "SSLError"]


def test_a_function_that_was_named_is_called_afterwards(python):
    script = "with lazy_imports.named_only('requests'):\n    import calls\nprint(calls.fetch())"
    assert python(script) == ["therethere"]


def test_a_function_that_is_called_at_once_is_the_real_one(python):
    script = "with lazy_imports.named_only('requests'):\n    import calls_at_once\nimport requests\nprint(*calls_at_once.FOUND, requests.LOADED)"
    assert python(script) == ["therethere", "here", "True"]


def test_who_imports_it_afterwards_gets_the_real_one(python):
    script = "with lazy_imports.named_only('requests', 'requests.exceptions'):\n    import helper\nimport requests\nprint(requests.LOADED)"
    assert python(script) == ["True"]


def test_one_that_is_there_already_is_taken(python):
    script = "import requests\nwith lazy_imports.named_only('requests', 'requests.exceptions'):\n    import helper\nprint(helper.requests is requests)"
    assert python(script) == ["True"]


def test_who_needs_more_than_its_name_is_imported_without_it(python):
    script = (
        "try:\n    with lazy_imports.named_only('requests', 'requests.exceptions'):\n        import needs\nexcept ImportError:\n    print('no')\n"
        "import needs\nprint(needs.HTTPAdapter.__name__)"
    )
    assert python(script) == ["no", "HTTPAdapter"]


def test_importing_compat_beside_never_raises(python):
    """Here is no cloud-init: who imports it afterwards is told."""
    script = (
        "sys.modules['cloudinit'] = None\nlazy_imports.import_in_thread('cloudinit_osnetd.cloud_init.compat').join()\n"
        "try:\n    from cloudinit_osnetd.cloud_init import compat\nexcept ImportError as exc:\n    print('told')"
    )
    assert python(script) == ["told"]


@pytest.mark.parametrize("how", ["import http.client as client", "from http import client"])
def test_http_client_comes_without_tls_and_whoever_imports_it_later_gets_a_whole_one(how):
    program = """
import sys
from cloudinit_osnetd.system import lazy_imports
lazy_imports.in_our_process()
ours = lazy_imports.http_client()
assert "ssl" not in sys.modules and not hasattr(ours, "HTTPSConnection")
{}
assert client is not ours and client.HTTPSConnection
assert lazy_imports.http_client() is client, "one that is there is taken"
"""
    subprocess.run([sys.executable, "-c", program.format(how)], check=True)


def test_in_anothers_process_http_client_is_the_whole_one():
    program = """
from cloudinit_osnetd.system import lazy_imports
ours = lazy_imports.http_client()
import http.client
assert http.client is ours and ours.HTTPSConnection
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_run_of_the_service_imports_nothing_that_takes_milliseconds_for_nothing():
    """What an event with nothing to do pays for: see docs/performance.md."""
    program = """
import sys
sys.path.insert(0, %r)
from cloudinit_osnetd import cli
from cloudinit_osnetd.system import lazy_imports
lazy_imports.in_our_process()
cli.parser("reconcile").parse_args(["reconcile", "--queue"])
import cloudinit_osnetd.commands.reconcile
print(*sys.modules)
"""
    top = os.path.dirname(os.path.dirname(os.path.abspath(cloudinit_osnetd.__file__)))
    # Without site, which may import anything.
    argv = [sys.executable, "-I", "-S", "-c", program % top]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, universal_newlines=True)
    costly = {"shutil", "subprocess", "tempfile", "hashlib", "ssl", "inspect", "cloudinit", "bz2", "lzma"}
    if sys.version_info < (3, 9):
        costly -= {"shutil", "bz2", "lzma"}  # argparse imports these
        costly -= {"hashlib"}  # random does, which http.client comes to by email.utils
    assert not costly & set(done.stdout.split())
