"""What is outside of a mesh: servers of HTTP over TLS, and of DNS. OpenSSL's TLS, by Python's standard library.

`outside.py tls CERTIFICATE KEY CLIENTS ADDRESS...` says what it was told in the handshake; CLIENTS is a file of roots that a client's certificate must lead to,
or `-`. `outside.py dns FILE ADDRESS...` answers for the names of a JSON file, `{"a.example": ["192.0.2.1"]}`, which it reads anew each time.
"""

import json
import socket
import ssl
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def address(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        shown = self.connection.getpeercert() or {}
        subject = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
        told = {
            "sni": getattr(self.connection, "asked", None),
            "alpn": self.connection.selected_alpn_protocol(),
            "version": self.connection.version(),
            "client": subject[0] if subject else None,
            "host": self.headers.get("host"),
            "path": self.path,
        }
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        # Each request has a handshake of its own.
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


def noted(connection, name, context):
    connection.asked = name


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, at, context):
        self.address_family, self.context = family(at[0]), context
        super().__init__(at, Handler)

    def finish_request(self, request, client):
        try:
            request.settimeout(20)
            with self.context.wrap_socket(request, server_side=True) as wrapped:
                super().finish_request(wrapped, client)
        except (ssl.SSLError, OSError) as error:
            print(f"{client}: {error}", flush=True)

    def shutdown_request(self, request):
        request.close()


def tls(certificate, key, clients, *addresses):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    context.sni_callback = noted
    if clients != "-":
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    threads = [threading.Thread(target=Server(address(at), context).serve_forever) for at in addresses]
    for thread in threads:
        thread.start()


def answered(query, names):
    """RFC 1035 section 4: one question, and the records of its type."""
    number, labels, at = query[:2], [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    question = query[12 : at + 5]
    (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
    known = names.get(".".join(labels))
    width = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
    found = [ip for ip in known or [] if width is not None and family(ip) == width]
    records = [
        b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 1, len(packed)) + packed
        for packed in (socket.inet_pton(width, ip) for ip in found)
    ]
    flags = 0x8580 if known is not None else 0x8583
    return number + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(records)


def dns(path, *addresses):
    def serve(at):
        with socket.socket(family(at[0]), socket.SOCK_DGRAM) as server:
            server.bind(at)
            while True:
                query, client = server.recvfrom(4096)
                with open(path) as file:
                    names = json.load(file)
                server.sendto(answered(query, names), client)

    for at in addresses:
        threading.Thread(target=serve, args=[address(at)]).start()
    print("listening", flush=True)


{"tls": tls, "dns": dns}[sys.argv[1]](*sys.argv[2:])
