"""WebSocket by another's library at both ends: `serve ADDRESS...` echoes, `call URL` says and hears, and ends with 0 when all was as it should be."""

import socket
import sys
import threading

from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

PATIENCE = 20


def echo(connection):
    for message in connection:
        if message == "enough":
            connection.close(4001, "you said so")
            return
        connection.send(message)


def run(addresses):
    for at in addresses:
        host, port = at.rsplit(":", 1)
        family = socket.AF_INET6 if "[" in host else socket.AF_INET
        server = serve(echo, host.strip("[]"), int(port), max_size=None, family=family)
        threading.Thread(target=server.serve_forever).start()


def call(url):
    with connect(url, open_timeout=PATIENCE, max_size=None, proxy=None) as connection:
        for message in ("hello", b"\x00\xff", "", "x" * 300_000, b"y" * 2_000_000):
            connection.send(message)
            heard = connection.recv(timeout=PATIENCE)
            assert heard == message, (len(message), len(heard))
        assert connection.ping(b"are you there").wait(timeout=PATIENCE)
        connection.send("enough")
        try:
            raise AssertionError(connection.recv(timeout=PATIENCE))
        except ConnectionClosedOK:
            raise AssertionError("closed with 1000")
        except Exception as closed:
            assert closed.rcvd is not None and (closed.rcvd.code, closed.rcvd.reason) == (4001, "you said so"), closed


def refused(url, status):
    try:
        connect(url, open_timeout=PATIENCE, proxy=None)
    except InvalidStatus as answer:
        assert answer.response.status_code == int(status), answer
    else:
        raise AssertionError("it was let in")


{"serve": lambda rest: run(rest), "call": lambda rest: call(*rest), "refused": lambda rest: refused(*rest)}[sys.argv[1]](sys.argv[2:])
