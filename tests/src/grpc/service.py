# A gRPC service of raw bytes, with one method of each kind. Arguments: certificate, key.
# Says on its standard output where it listens and how calls ended that wait for their visitor.
import sys
import threading
import time
from concurrent import futures

import grpc

gates = threading.Semaphore(0)


def say(*words):
    print(*words, flush=True)


def unary(request, context):
    if request == b"fail":
        context.set_trailing_metadata(
            (("x-note", "from the origin"), ("x-details-bin", b"\x00\xff details"), ("x-long", "l" * 6000))
        )
        context.abort(grpc.StatusCode.NOT_FOUND, "none of \u2603 here, 100%")
    if request == b"open":
        gates.release()
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-first", metadata.get("x-asked", "")),))
    context.set_trailing_metadata((("x-last", metadata.get("x-asked", "")),))
    return request


def down(request, context):
    for number in range(int(request)):
        yield b"message %d" % number
        # The visitor has this one before it lets the next one go.
        gates.acquire()


def up(requests, context):
    sizes = [len(request) for request in requests]
    return b"%d messages, %d bytes" % (len(sizes), sum(sizes))


def talk(requests, context):
    for request in requests:
        yield b"heard " + request


def hang(request, context):
    ended = threading.Event()

    # Said here: what follows the message may never run.
    def end():
        say("ended", request.decode())
        ended.set()

    context.add_callback(end)
    say("hangs", request.decode(), "remaining", context.time_remaining())
    yield b"hanging"
    ended.wait(60)


def flood(request, context):
    for _ in range(int(request)):
        yield b"x" * 1_000_000


handlers = grpc.method_handlers_generic_handler(
    "lab.Calls",
    {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
        "Hang": grpc.unary_stream_rpc_method_handler(hang),
        "Flood": grpc.unary_stream_rpc_method_handler(flood),
    },
)
# Nothing on the way may set its own bound on messages.
server = grpc.server(futures.ThreadPoolExecutor(32), options=(("grpc.max_receive_message_length", 16 << 20),))
server.add_generic_rpc_handlers((handlers,))
certificate, key = (open(path, "rb").read() for path in sys.argv[1:3])
plain = server.add_insecure_port("127.0.0.1:0")
tls = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(((key, certificate),)))
server.start()
say("listening", plain, tls)
while True:
    time.sleep(3600)
