"""A subscriber of another make: gRPC's own library, with schemas written down here by their numbers.

Called with the address of a control plane whose mesh is the one of discovery.rs. A word on standard output asks the test for a change; a
line on standard input says that it is made. Ends with 0 when everything was as it should be.
"""

import queue
import sys

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, struct_pb2

ADDRESS = "type.googleapis.com/istio.workload.Address"
POLICY = "type.googleapis.com/istio.security.Authorization"
SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
PATIENCE = 20

Field = descriptor_pb2.FieldDescriptorProto
KINDS = {
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
    "int32": Field.TYPE_INT32,
    "uint32": Field.TYPE_UINT32,
    "bool": Field.TYPE_BOOL,
}

# Message -> field -> (number, type), a list for what is repeated, a pair of types for a map.
SCHEMA = {
    "NetworkAddress": {"network": (1, "string"), "address": (2, "bytes"), "length": (3, "uint32")},
    "Port": {"service_port": (1, "uint32"), "target_port": (2, "uint32"), "app_protocol": (3, "int32")},
    "PortList": {"ports": (1, ["Port"])},
    "Workload": {
        "uid": (20, "string"),
        "name": (1, "string"),
        "namespace": (2, "string"),
        "addresses": (3, ["bytes"]),
        "tunnel_protocol": (5, "int32"),
        "service_account": (7, "string"),
        "node": (9, "string"),
        "services": (22, ("string", "PortList")),
        "cluster_id": (18, "string"),
    },
    "Service": {
        "name": (1, "string"),
        "namespace": (2, "string"),
        "hostname": (3, "string"),
        "addresses": (4, ["NetworkAddress"]),
        "ports": (5, ["Port"]),
    },
    "Address": {"workload": (1, "Workload"), "service": (2, "Service")},
    "Authorization": {
        "name": (1, "string"),
        "namespace": (2, "string"),
        "scope": (3, "int32"),
        "action": (4, "int32"),
        "rules": (5, ["Rule"]),
        "dry_run": (6, "bool"),
        "extensions": (7, ["Extension"]),
    },
    "Rule": {"clauses": (1, ["Clause"])},
    "Clause": {"matches": (2, ["Match"])},
    "Match": {
        "namespaces": (1, ["StringMatch"]),
        "principals": (3, ["StringMatch"]),
        "not_principals": (4, ["StringMatch"]),
        "source_ips": (5, ["Range"]),
        "not_source_ips": (6, ["Range"]),
        "destination_ports": (9, ["uint32"]),
        "service_accounts": (11, ["ServiceAccountMatch"]),
    },
    # A oneof, whose members here show by themselves whether they are there.
    "StringMatch": {
        "exact": (1, ["string"]),
        "prefix": (2, ["string"]),
        "suffix": (3, ["string"]),
        "presence": (4, ["Empty"]),
    },
    "Empty": {},
    "Range": {"address": (1, "bytes"), "length": (2, "uint32")},
    "ServiceAccountMatch": {"namespace": (1, "string"), "service_account": (2, "string")},
    "Extension": {"name": (1, "string"), "config": (2, ".google.protobuf.Any")},
    "Status": {"code": (1, "int32"), "message": (2, "string")},
    "Node": {"id": (1, "string"), "cluster": (2, "string"), "metadata": (3, ".google.protobuf.Struct")},
    "Resource": {
        "version": (1, "string"),
        "resource": (2, ".google.protobuf.Any"),
        "name": (3, "string"),
        "aliases": (4, ["string"]),
    },
    "Request": {
        "node": (1, "Node"),
        "type_url": (2, "string"),
        "subscribe": (3, ["string"]),
        "unsubscribe": (4, ["string"]),
        "versions": (5, ("string", "string")),
        "nonce": (6, "string"),
        "error": (7, "Status"),
    },
    "Response": {
        "version": (1, "string"),
        "resources": (2, ["Resource"]),
        "type_url": (4, "string"),
        "nonce": (5, "string"),
        "removed": (6, ["string"]),
    },
}


def add_field(message, name, number, kind, label=Field.LABEL_OPTIONAL):
    field = message.field.add(name=name, number=number, label=label)
    if kind in KINDS:
        field.type = KINDS[kind]
    else:
        field.type = Field.TYPE_MESSAGE
        field.type_name = kind if kind.startswith(".") else ".wire." + kind


def messages():
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, struct_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="wire.proto", package="wire", syntax="proto3")
    file.dependency.extend(["google/protobuf/any.proto", "google/protobuf/struct.proto"])
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            if isinstance(kind, list):
                add_field(message, field, number, kind[0], Field.LABEL_REPEATED)
            elif isinstance(kind, tuple):
                entry = field.capitalize() + "Entry"
                nested = message.nested_type.add(name=entry)
                nested.options.map_entry = True
                add_field(nested, "key", 1, kind[0])
                add_field(nested, "value", 2, kind[1])
                add_field(message, field, number, f"{name}.{entry}", Field.LABEL_REPEATED)
            else:
                add_field(message, field, number, kind)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName("wire." + name)) for name in SCHEMA}


WIRE = messages()


class Stream:
    """One delta stream."""

    def __init__(self, channel, method="DeltaAggregatedResources"):
        self.requests = queue.Queue()
        call = channel.stream_stream(
            SERVICE + method,
            request_serializer=lambda request: request if isinstance(request, bytes) else request.SerializeToString(),
            response_deserializer=WIRE["Response"].FromString,
        )
        self.responses = call(iter(self.requests.get, None), timeout=PATIENCE)

    def send(self, type_url=ADDRESS, **fields):
        error = fields.pop("error", None)
        request = WIRE["Request"](type_url=type_url, **fields)
        if error:
            request.error.code, request.error.message = 3, error
        self.requests.put(request)

    def first(self, **fields):
        node = WIRE["Node"](id="ztunnel~10.0.0.1~other.default~x")
        node.metadata.update({"NODE_NAME": "node-1", "A_NUMBER": 7, "A_LIST": ["x"]})
        self.send(node=node, **fields)

    def receive(self):
        return next(self.responses)

    def ack(self, response):
        self.send(type_url=response.type_url, nonce=response.nonce)

    def end(self):
        """The status the stream ends with."""
        try:
            for _ in self.responses:
                pass
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError("the stream ended well")

    def close(self):
        self.requests.put(None)
        self.responses.cancel()


def ask(word):
    print(word, flush=True)
    assert sys.stdin.readline() == "done\n", "the test is gone"


def equal(got, want):
    assert got == want, f"got {got!r}, expected {want!r}"


def by_name(response):
    return {resource.name.rsplit("/", 1)[-1]: resource for resource in response.resources}


def content(resource, kind="Address"):
    return WIRE[kind].FromString(resource.resource.value)


def policies(got):
    """What who does not know our extension reads of them."""
    equal(set(got), {"broken", "allow", "audit"})
    broken = content(got["broken"], "Authorization")
    equal((broken.scope, broken.action, broken.dry_run), (1, 1, False))
    equal([len(rule.clauses) for rule in broken.rules], [0])
    audit = content(got["audit"], "Authorization")
    equal((audit.scope, audit.action, audit.dry_run, len(audit.rules)), (0, 1, True, 0))
    allow = content(got["allow"], "Authorization")
    equal((allow.name, allow.namespace, allow.scope, allow.action), ("allow", "default", 2, 0))
    equal([extension.name for extension in allow.extensions], ["weir.dev/policy"])
    first, second = allow.rules
    source, port = [clause.matches for clause in first.clauses]
    equal([list(text.exact) + list(text.prefix) for text in source[0].namespaces], [["web"], ["team-"]])
    equal([len(text.presence) for text in source[0].not_principals], [1])
    ranges = [(bytes(one.address), one.length) for one in source[0].source_ips]
    equal(ranges, [(bytes([10, 0, 0, 0]), 8), (bytes([0xFD] + [0] * 15), 8)])
    equal([(one.namespace, one.service_account) for one in source[1].service_accounts], [("web", "front")])
    equal([list(match.destination_ports) for match in port], [[80, 8080]])
    # A trust domain, as far as it can be said.
    equal([list(text.prefix) for text in second.clauses[0].matches[0].principals], [["cluster.local/"]])


def everything(channel):
    """A wildcard subscription, what changes of it, and a refusal. What it has in the end, by version."""
    stream = Stream(channel)
    stream.first()
    response = stream.receive()
    got = by_name(response)
    equal(set(got), {"web", "other", "shop.default.svc.cluster.local"})
    equal({resource.resource.type_url for resource in got.values()}, {ADDRESS})
    web = content(got["web"]).workload
    equal(web.uid, "Kubernetes//v1/Pod/default/web")
    equal([len(address) for address in web.addresses], [4, 16])
    equal((web.name, web.namespace, web.tunnel_protocol, web.cluster_id), ("web", "default", 1, "Kubernetes"))
    equal(list(got["web"].aliases), ["/10.0.0.1", "/fd00::1"])
    ports = web.services["default/shop.default.svc.cluster.local"].ports
    equal([(port.service_port, port.target_port) for port in ports], [(80, 8080)])
    shop = content(got["shop.default.svc.cluster.local"]).service
    equal((shop.name, shop.hostname), ("shop", "shop.default.svc.cluster.local"))
    equal([bytes(address.address) for address in shop.addresses], [bytes([10, 96, 0, 1])])
    stream.ack(response)
    stream.send(type_url=POLICY)
    response = stream.receive()
    policies(by_name(response))
    stream.ack(response)

    ask("change")
    response = stream.receive()
    equal([set(by_name(response)), list(response.removed)], [{"later"}, ["Kubernetes//v1/Pod/default/other"]])
    stream.send(nonce=response.nonce, error="I do not like it")
    ask("refused")
    stream.close()
    got.pop("other")
    got.update(by_name(response))
    return {resource.name: resource.version for resource in got.values()}


def reconnect(channel, versions):
    stream = Stream(channel)
    stream.first(versions=versions)
    response = stream.receive()
    equal((len(response.resources), list(response.removed)), (0, []))
    stream.close()
    stream = Stream(channel)
    versions = dict(versions, **{"Kubernetes//v1/Pod/default/web": "old", "Kubernetes//v1/Pod/default/gone": "1"})
    stream.first(versions=versions)
    response = stream.receive()
    equal((set(by_name(response)), list(response.removed)), ({"web"}, ["Kubernetes//v1/Pod/default/gone"]))
    stream.close()


def on_demand(channel):
    stream = Stream(channel)
    stream.first(subscribe=["*"], unsubscribe=["*"])
    response = stream.receive()
    equal((len(response.resources), list(response.removed)), (0, []))
    stream.ack(response)
    stream.send(subscribe=["/10.96.0.1", "/10.99.0.1"])
    response = stream.receive()
    equal((set(by_name(response)), list(response.removed)), ({"web", "shop.default.svc.cluster.local"}, ["/10.99.0.1"]))
    stream.ack(response)
    stream.send(unsubscribe=["/10.96.0.1"])
    equal(len(stream.receive().removed), 2)
    stream.close()


def attacks(channel):
    stream = Stream(channel)
    stream.first(subscribe=[f"name-{number}" for number in range(1_000_000)])
    equal(stream.end()[0], grpc.StatusCode.RESOURCE_EXHAUSTED)
    stream = Stream(channel)
    stream.first(subscribe=["x" * 5000])
    equal(stream.end()[0], grpc.StatusCode.INVALID_ARGUMENT)
    stream = Stream(channel)
    stream.send()
    equal(stream.end()[0], grpc.StatusCode.INVALID_ARGUMENT)
    stream = Stream(channel)
    stream.requests.put(b"\xff\xff\xff\xff")
    assert stream.end()[0] in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
    stream = Stream(channel, "StreamAggregatedResources")
    stream.first()
    code, details = stream.end()
    equal((code, "DeltaAggregatedResources" in details), (grpc.StatusCode.UNIMPLEMENTED, True))


def main():
    with grpc.insecure_channel(sys.argv[1]) as channel:
        versions = everything(channel)
        reconnect(channel, versions)
        on_demand(channel)
        attacks(channel)


main()
