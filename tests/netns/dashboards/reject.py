"""A subscriber that takes nothing: it rejects the first response it is sent, and ends when the next request is written.

Called with the address of a control plane, the name in its certificate, the file of its roots, and that of a token. Messages of
envoy.service.discovery.v3 are written here by the numbers of their fields.
"""

import queue
import sys

import grpc

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
TYPE = b"type.googleapis.com/istio.workload.Address"
PATIENCE = 20


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        else:
            length, at = read_varint(data, at)
            value, at = data[at : at + length], at + length
        yield key >> 3, value


def main(address, name, roots, token):
    with open(roots, "rb") as file:
        trusted = grpc.ssl_channel_credentials(file.read())
    with open(token) as file:
        bearer = "Bearer " + file.read().strip()
    requests = queue.Queue()
    requests.put(field(1, field(1, b"rejects")) + field(2, TYPE) + field(3, b"*"))
    with grpc.secure_channel(address, trusted, [("grpc.ssl_target_name_override", name)]) as channel:
        stream = channel.stream_stream(METHOD)
        responses = stream(iter(requests.get, None), metadata=[("authorization", bearer)], timeout=PATIENCE)
        nonce = next(value for number, value in fields(next(responses)) if number == 5)
        status = field(1, 3) + field(2, b"it is not to my taste")
        requests.put(field(2, TYPE) + field(6, nonce) + field(7, status))
        # Half closed: when the control plane has ended the stream, it has read everything.
        requests.put(None)
        try:
            for _ in responses:
                pass
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise


main(*sys.argv[1:])
