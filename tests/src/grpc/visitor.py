# A visitor of `service.py`. Arguments: address, authority, root certificate or "-", and the calls to make.
# Ends with 0 if every call went as it should.
import queue
import sys
import time

import grpc

address, authority, root = sys.argv[1:4]
options = (
    ("grpc.default_authority", authority),
    ("grpc.ssl_target_name_override", authority),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.enable_retries", 0),
)
if root == "-":
    channel = grpc.insecure_channel(address, options)
else:
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(open(root, "rb").read()), options)
LIMIT = 20


def equal(found, wanted):
    assert found == wanted, f"{found!r}, not {wanted!r}"


def unary():
    call = channel.unary_unary("/lab.Calls/Unary")
    for body in (b"", b"hello", b"x" * 5_000_000):
        answer, call_ = call.with_call(body, LIMIT, (("x-asked", "visitor"),))
        equal(answer, body)
        equal(dict(call_.initial_metadata())["x-first"], "visitor")
        equal(dict(call_.trailing_metadata())["x-last"], "visitor")
        equal(call_.code(), grpc.StatusCode.OK)


def failing():
    try:
        channel.unary_unary("/lab.Calls/Unary")(b"fail", LIMIT)
        raise SystemExit("a call that fails has succeeded")
    except grpc.RpcError as error:
        equal(error.code(), grpc.StatusCode.NOT_FOUND)
        equal(error.details(), "none of \u2603 here, 100%")
        trailing = dict(error.trailing_metadata())
        equal(trailing["x-note"], "from the origin")
        equal(trailing["x-details-bin"], b"\x00\xff details")
        equal(trailing["x-long"], "l" * 6000)


def unknown():
    try:
        channel.unary_unary("/lab.Calls/Nothing")(b"", LIMIT)
        raise SystemExit("an unknown method has answered")
    except grpc.RpcError as error:
        equal((error.code(), error.details()), (grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))


def down():
    messages = channel.unary_stream("/lab.Calls/Down")(b"5", LIMIT)
    for number in range(5):
        equal(next(messages), b"message %d" % number)
        channel.unary_unary("/lab.Calls/Unary")(b"open", LIMIT)
    equal(list(messages), [])
    equal(messages.code(), grpc.StatusCode.OK)


def up():
    sizes = [0, 1, 100, 70_000, 1_000_000]
    answer = channel.stream_unary("/lab.Calls/Up")((b"y" * size for size in sizes), LIMIT)
    equal(answer, b"5 messages, 1070101 bytes")


def talk():
    said = queue.Queue()
    answers = channel.stream_stream("/lab.Calls/Talk")(iter(said.get, None), LIMIT)
    # A ping-pong: neither direction waits for more than was said.
    for number in range(20):
        said.put(b"%d" % number)
        equal(next(answers), b"heard %d" % number)
    said.put(None)
    equal(list(answers), [])
    equal(answers.code(), grpc.StatusCode.OK)


def flood():
    sizes = [len(message) for message in channel.unary_stream("/lab.Calls/Flood")(b"40", LIMIT)]
    equal(sizes, [1_000_000] * 40)


def cancelled():
    messages = channel.unary_stream("/lab.Calls/Hang")(b"cancelled", LIMIT)
    equal(next(messages), b"hanging")
    messages.cancel()
    equal(messages.code(), grpc.StatusCode.CANCELLED)


def late():
    messages = channel.unary_stream("/lab.Calls/Hang")(b"late", 2)
    equal(next(messages), b"hanging")
    try:
        next(messages)
        raise SystemExit("a call is not over at its deadline")
    except grpc.RpcError as error:
        equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)


def until(is_it):
    # An edge may not know of a change at once.
    end = time.monotonic() + LIMIT
    while True:
        try:
            found = channel.unary_unary("/lab.Calls/Unary")(b"hello", LIMIT)
        except grpc.RpcError as error:
            found = error
        if is_it(found):
            return
        assert time.monotonic() < end, found
        time.sleep(0.1)


def ready():
    until(lambda found: found == b"hello")


def refused(code, part):
    until(
        lambda found: isinstance(found, grpc.RpcError)
        and found.code().name == code
        and found.details().startswith(part + ": ")
    )


for wanted in sys.argv[4:]:
    name, *arguments = wanted.split("=")
    globals()[name](*arguments)
    print("went well:", wanted, flush=True)
