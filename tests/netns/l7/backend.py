"""An HTTP server of another make: says what it was asked, and misbehaves when the path tells it to.

Called with its name and the addresses to listen at. /status/CODE is answered so; /flaky/KEY/N with 503 for the first N requests; /sleep/MS
late; /size/N with so many bytes; /part/KEY never to its end. /counts says how often each method and path came.
"""

import json
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN = Counter()
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while length := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def respond(self, status, body, length=None):
        self.send_response(status)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.send_header("x-name", NAME)
        self.end_headers()
        # A length where there is no body, as some have it, and then none.
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def answer(self):
        if self.path == "/counts":
            with LOCK:
                self.respond(200, json.dumps(SEEN).encode())
            return
        with LOCK:
            SEEN[f"{self.command} {self.path}"] += 1
            times = SEEN[f"{self.command} {self.path}"]
        body = self.body()
        kind, *words = self.path.split("?")[0].strip("/").split("/")
        seen = {
            "name": NAME,
            "client": ("[%s]:%d" if ":" in self.client_address[0] else "%s:%d") % self.client_address[:2],
            "method": self.command,
            "path": self.path,
            "headers": {key.lower(): value for key, value in self.headers.items()},
            "length": len(body),
            "times": times,
        }
        status = 200
        if kind == "status":
            status = int(words[0])
        elif kind == "flaky":
            status = 503 if times <= int(words[1]) else 200
        elif kind == "sleep":
            time.sleep(int(words[0]) / 1000)
        elif kind == "size":
            self.respond(200, b"w" * int(words[0]))
            return
        elif kind == "part":
            self.respond(200, b"the first part", length=1000)
            threading.Event().wait()
        self.respond(status, json.dumps(seen).encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()


NAME = sys.argv[1]
for at in sys.argv[2:]:
    host, port = at.rsplit(":", 1)
    Server.address_family = socket.AF_INET6 if "[" in host else socket.AF_INET
    threading.Thread(target=Server((host.strip("[]"), int(port)), Handler).serve_forever).start()
