"""gRPC's own library at both ends: `serve ADDRESS...` answers, `call TARGET` asks for everything and ends with 0 when all was as it should be."""

import sys
import threading
from concurrent import futures

import grpc

PATIENCE = 20
GAVE_UP = threading.Event()


def unary(request, context):
    context.set_trailing_metadata((("x-length", str(len(request))),))
    return request


def down(request, _):
    for number in range(int(request)):
        yield b"%d" % number


def up(requests, _):
    return b"%d" % sum(len(request) for request in requests)


def both(requests, _):
    for request in requests:
        yield request.upper()


def fail(request, context):
    context.set_trailing_metadata((("x-why", "nobody knows"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such %s" % request.decode())


def fail_late(request, context):
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "and then it broke")


def slow(request, context):
    context.add_callback(GAVE_UP.set)
    threading.Event().wait(PATIENCE)
    return b""


def gave_up(request, _):
    return b"yes" if GAVE_UP.wait(PATIENCE) else b"no"


def serve(addresses):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
        "GaveUp": grpc.unary_unary_rpc_method_handler(gave_up),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Peer", handlers),))
    for address in addresses:
        assert server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


def call(target):
    with grpc.insecure_channel(target) as channel:
        method = lambda kind, name: getattr(channel, kind)("/test.Peer/" + name)
        # Longer than a frame, and than the window that HTTP/2 begins with.
        for length in (0, 1, 100_000, 3_000_000):
            answer, ended = method("unary_unary", "Unary").with_call(b"x" * length, timeout=PATIENCE)
            assert answer == b"x" * length, length
            assert ("x-length", str(length)) in ended.trailing_metadata(), ended.trailing_metadata()
        assert list(method("unary_stream", "Down")(b"500", timeout=PATIENCE)) == [b"%d" % n for n in range(500)]
        assert method("stream_unary", "Up")(iter([b"x" * 10_000] * 200), timeout=PATIENCE) == b"2000000"

        # Each message is answered before the next is sent: nothing on the way waits for more.
        answered = threading.Semaphore(0)

        def one_by_one():
            for number in range(20):
                yield b"message %d" % number
                assert answered.acquire(timeout=PATIENCE)

        for number, message in enumerate(method("stream_stream", "Both")(one_by_one(), timeout=PATIENCE)):
            assert message == b"MESSAGE %d" % number, message
            answered.release()
        assert number == 19

        error = failure(lambda: method("unary_unary", "Fail")(b"thing", timeout=PATIENCE))
        assert error.code() == grpc.StatusCode.NOT_FOUND and error.details() == "no such thing", error
        assert ("x-why", "nobody knows") in error.trailing_metadata(), error.trailing_metadata()
        heard = []
        error = failure(lambda: collect(method("unary_stream", "FailLate")(b"", timeout=PATIENCE), heard))
        assert heard == [b"one", b"two"] and error.code() == grpc.StatusCode.DATA_LOSS, (heard, error)
        error = failure(lambda: method("unary_unary", "Nothing")(b"", timeout=PATIENCE))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error

        # A client that gives up is heard by the server.
        error = failure(lambda: method("unary_unary", "Slow")(b"", timeout=0.5))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        assert method("unary_unary", "GaveUp")(b"", timeout=PATIENCE * 2) == b"yes"


def collect(messages, heard):
    for message in messages:
        heard.append(message)


def denied(target):
    with grpc.insecure_channel(target) as channel:
        error = failure(lambda: channel.unary_unary("/test.Peer/Unary")(b"x", timeout=PATIENCE))
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error


def only_unary(target):
    with grpc.insecure_channel(target) as channel:
        assert channel.unary_unary("/test.Peer/Unary")(b"x", timeout=PATIENCE) == b"x"
        error = failure(lambda: list(channel.unary_stream("/test.Peer/Down")(b"5", timeout=PATIENCE)))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


KINDS = {"call": call, "denied": denied, "only-unary": only_unary}
if sys.argv[1] == "serve":
    serve(sys.argv[2:])
else:
    KINDS[sys.argv[1]](*sys.argv[2:])
