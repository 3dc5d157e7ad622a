"""Neutron's API on the WSGI server of the standard library; run by Neutron's own Python: serve_api.py
ADDRESS PORT."""

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Neutron logs requests itself."""


def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    # Neutron reads the command line when it is imported, and would take these for its own.
    del sys.argv[1:]
    from neutron.wsgi.api import application

    make_server(address, port, application, ThreadingServer, QuietHandler).serve_forever()


main()
