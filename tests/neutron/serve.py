# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs in a Python that has Neutron: its API server, without Keystone, agents and message bus. serve.py DIRECTORY

The database is a SQLite file. Prints the port of 127.0.0.1 on which it listens, once it does.
"""

import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import sqlalchemy
from neutron.common import config
from neutron.db.migration.models import head

SETTINGS = """\
[DEFAULT]
core_plugin = ml2
# DNS names, and so a network's domain, want it.
service_plugins = router
auth_strategy = noauth
transport_url = fake:/
api_paste_config = {paste}
state_path = {directory}
pagination_max_limit = 3
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
[database]
connection = {database}
[ml2]
type_drivers = local
project_network_types = local
mechanism_drivers = logger
extension_drivers = dns_domain_ports
[oslo_concurrency]
lock_path = {directory}
"""


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    def log_message(self, *_words):
        pass


directory = Path(sys.argv[1])
database = f"sqlite:///{directory}/neutron.db"
head.get_metadata().create_all(sqlalchemy.create_engine(database))
settings = directory / "neutron.conf"
paste = Path(sys.prefix, "etc/neutron/api-paste.ini")
settings.write_text(SETTINGS.format(directory=directory, database=database, paste=paste))
config.register_common_config_options()
config.init(["--config-file", str(settings)])
server = make_server("127.0.0.1", 0, config.load_paste_app("neutron"), Server, Handler)
print(server.server_port, flush=True)
server.serve_forever()
