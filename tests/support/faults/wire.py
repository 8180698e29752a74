"""What can go wrong below the answer: connections, TLS, and the form of HTTP."""

from __future__ import annotations

import gzip
import random
from functools import cache

from .connection import Connection, response
from .fault import Catalogue, Kind, Stage

WIRE = Catalogue()

CHUNKED = {"Content-Length": None, "Transfer-Encoding": "chunked"}
GZIP = {"Content-Encoding": "gzip"}


def on_a_kept_connection(connection: Connection) -> bool:
    return connection.served > 0


@WIRE.enter(Kind.PASSING, "refused", stage=Stage.LISTENING, tls=True)
def refused(connection: Connection) -> None:
    """Nobody listens on the port."""


@WIRE.enter(
    Kind.PASSING, "reset|without an answer|EOF|not connected", stage=Stage.ACCEPTING, tls=True
)
def reset_when_accepted(connection: Connection) -> None:
    connection.reset()


@WIRE.enter(Kind.PASSING, "reset|without an answer|EOF", stage=Stage.ACCEPTING, tls=True)
def closed_when_accepted(connection: Connection) -> None:
    connection.close()


@WIRE.enter(Kind.SILENT, "time", stage=Stage.ACCEPTING, plain=False, tls=True)
def handshake_that_never_ends(connection: Connection) -> None:
    connection.hang()


@WIRE.enter(Kind.BROKEN, "SSL|TLS", stage=Stage.ACCEPTING, plain=False, tls=True)
def plain_http_on_the_tls_port(connection: Connection) -> None:
    connection.send(response(b"<html>The plain HTTP request was sent to HTTPS port</html>"))
    connection.close()


@WIRE.enter(Kind.REFUSAL, "certificate|[Hh]ostname", stage=Stage.ACCEPTING, plain=False, tls=True)
def certificate_of_another_host(connection: Connection) -> None:
    assert connection.server.certificates is not None
    connection.secure(connection.server.certificates.wrong_host)


@WIRE.enter(Kind.REFUSAL, "certificate", stage=Stage.ACCEPTING, plain=False, tls=True)
def certificate_of_an_unknown_authority(connection: Connection) -> None:
    assert connection.server.certificates is not None
    connection.secure(connection.server.certificates.unknown_authority)


@WIRE.enter(Kind.REFUSAL, "certificate", stage=Stage.ACCEPTING, plain=False, tls=True)
def certificate_that_has_expired(connection: Connection) -> None:
    assert connection.server.certificates is not None
    connection.secure(connection.server.certificates.expired)


@WIRE.enter(Kind.PASSING, "reset|without an answer|EOF", tls=True)
def reset_before_the_request_is_read(connection: Connection) -> None:
    connection.reset()


@WIRE.enter(Kind.PASSING, "reset|without an answer|EOF", tls=True)
def reset_after_the_request_is_read(connection: Connection) -> None:
    connection.read()
    connection.reset()


@WIRE.enter(Kind.PASSING, "reset|without an answer|EOF", tls=True)
def reset_after_the_command_is_run(connection: Connection) -> None:
    connection.run()
    connection.reset()


@WIRE.enter(Kind.PASSING, "reset|in the middle", tls=True)
def reset_in_the_middle_of_the_answer(connection: Connection) -> None:
    connection.send(response(connection.run())[:-3])
    connection.reset()


@WIRE.enter(Kind.PASSING, "reset|without an answer|EOF", tls=True)
def closed_without_an_answer(connection: Connection) -> None:
    connection.run()
    connection.close()


@WIRE.enter(Kind.PASSING, "StatusLine", tls=True)
def status_line_truncated(connection: Connection) -> None:
    connection.send(response(connection.run())[:10])
    connection.close()


@WIRE.enter(Kind.PASSING, "not an answer", tls=True)
def headers_truncated(connection: Connection) -> None:
    connection.send(response(connection.run())[:30])
    connection.close()


@WIRE.enter(Kind.PASSING, "in the middle", tls=True)
def body_truncated(connection: Connection) -> None:
    body = connection.run()
    connection.reply(body[:-3], headers={"Content-Length": str(len(body))})
    connection.close()


@WIRE.enter(Kind.PASSING, "in the middle|chunk", tls=True)
def chunked_body_truncated(connection: Connection) -> None:
    connection.send(_chunked(connection.run())[:-8])
    connection.close()


@WIRE.enter(Kind.HARMLESS, tls=True)
def kept_connection_closed_after_each_answer(connection: Connection) -> None:
    connection.reply()
    connection.close()


@WIRE.enter(Kind.HARMLESS, tls=True)
def kept_connection_reset_after_each_answer(connection: Connection) -> None:
    connection.reply()
    # An RST drops what was not yet sent, so it has to wait until the answer is there.
    connection.server.closing.wait(0.02)
    connection.reset()


@WIRE.enter(Kind.HARMLESS)
def connection_close_announced(connection: Connection) -> None:
    connection.reply(headers={"Connection": "close"})
    connection.close()


@WIRE.enter(Kind.HARMLESS)
def timeout_pushed_on_the_idle_connection(connection: Connection) -> None:
    """What HAProxy, for one, does to a connection that it is about to close."""
    connection.reply()
    connection.reply(b"", status=408)
    connection.close()


@WIRE.enter(Kind.HARMLESS, fits=on_a_kept_connection, tls=True)
def kept_connection_closed_at_the_next_request(connection: Connection) -> None:
    connection.close()


@WIRE.enter(Kind.HARMLESS, fits=on_a_kept_connection, tls=True)
def kept_connection_reset_at_the_next_request(connection: Connection) -> None:
    connection.reset()


@WIRE.enter(Kind.HARMLESS, fits=on_a_kept_connection, tls=True)
def kept_connection_swallowed(connection: Connection) -> None:
    """A middlebox has forgotten it: nothing comes through, and nobody says so."""
    connection.hang()


@WIRE.enter(Kind.SILENT, "time", tls=True)
def never_answers(connection: Connection) -> None:
    connection.read()
    connection.hang()


@WIRE.enter(Kind.SILENT, "time", tls=True)
def never_reads(connection: Connection) -> None:
    # Longer than any client waits, and no longer than the server keeps the connection.
    connection.interrupted.wait(60)
    connection.close()


@WIRE.enter(Kind.SILENT, "time", tls=True)
def headers_trickled(connection: Connection) -> None:
    connection.trickle(response(connection.run()))
    connection.close()


@WIRE.enter(Kind.SILENT, "time", tls=True)
def body_trickled(connection: Connection) -> None:
    answer = response(connection.run() + b" " * 60)
    start = answer.index(b"\r\n\r\n") + 4
    connection.send(answer[:start])
    connection.trickle(answer[start:])
    connection.close()


@WIRE.enter(Kind.SILENT, "time")
def chunks_trickled(connection: Connection) -> None:
    connection.run()
    connection.send(response(b"", headers=CHUNKED))
    connection.trickle(b"1\r\n \r\n" * 12)
    connection.close()


@WIRE.enter(Kind.SILENT, "time", tls=True)
def silence_after_half_an_answer(connection: Connection) -> None:
    connection.send(response(connection.run())[:-3])
    connection.hang()


@WIRE.enter(Kind.BROKEN, "more than")
def huge_content_length(connection: Connection) -> None:
    connection.reply(headers={"Content-Length": "999999999999999999999"})
    connection.hang()


@WIRE.enter(Kind.SILENT, "time")
def header_without_a_colon(connection: Connection) -> None:
    """The standard library's parser stops there, and so misses the length of the body."""
    start, end = response(connection.run()).split(b"\r\n", 1)
    connection.send(start + b"\r\nthis is no header\r\n" + end)
    connection.hang()


@WIRE.enter(Kind.SILENT, "time")
def endless_100_continue(connection: Connection) -> None:
    connection.run()
    for _ in range(5000):
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)
        connection.server.closing.wait(0.001)


@WIRE.enter(Kind.HARMLESS)
def answer_in_pieces(connection: Connection) -> None:
    answer = response(connection.run())
    for start in range(0, len(answer), 50):
        connection.send(answer[start : start + 50])
        connection.server.closing.wait(0.002)


@WIRE.enter(Kind.HARMLESS)
def continue_100_first(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection.reply()


@WIRE.enter(Kind.BROKEN, "103")
def early_hints_103_first(connection: Connection) -> None:
    """If the hints are taken for the answer, the answer is taken for that of the next request."""
    connection.read()
    connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
    # Time for the next request, if the client thinks that this one is done with.
    connection.server.closing.wait(0.05)
    connection.reply()


@WIRE.enter(Kind.HARMLESS)
def answered_twice(connection: Connection) -> None:
    """The second must not be taken for the answer to the next request."""
    connection.send(response(connection.run()) + response(b'{"result": "stale"}'))


@WIRE.enter(Kind.HARMLESS)
def http_1_0_without_a_length(connection: Connection) -> None:
    connection.send(b"HTTP/1.0 200 OK\r\n\r\n" + connection.run())
    connection.close()


@WIRE.enter(Kind.HARMLESS)
def status_line_without_a_phrase(connection: Connection) -> None:
    connection.send(response(connection.run()).replace(b"200 OK", b"200", 1))


@WIRE.enter(Kind.HARMLESS)
def set_cookie_and_twice_the_same_header(connection: Connection) -> None:
    connection.reply(headers={"Set-Cookie": "a=b\r\nSet-Cookie: c=d\r\nX-A: 1\r\nX-A: 1"})


@WIRE.enter(Kind.HARMLESS)
def strange_sync_token(connection: Connection) -> None:
    """It is sent back with the next request, where it must do no harm."""
    connection.reply(headers={"Upstash-Sync-Token": "\xff" * 30000 + "\r\n folded"})


@WIRE.enter(Kind.HARMLESS)
def two_sync_tokens(connection: Connection) -> None:
    connection.reply(headers={"Upstash-Sync-Token": "one\r\nUpstash-Sync-Token: two"})


@WIRE.enter(Kind.BROKEN, "HTTPException|headers")
def two_hundred_headers(connection: Connection) -> None:
    connection.reply(headers={f"X-{number}": "x" for number in range(200)})


@WIRE.enter(Kind.BROKEN, "LineTooLong|line")
def huge_header(connection: Connection) -> None:
    connection.reply(headers={"X-Huge": "x" * 100_000})


@WIRE.enter(Kind.BROKEN, "InvalidHeader|not an answer")
def two_content_lengths(connection: Connection) -> None:
    length = len(connection.run())
    connection.reply(headers={"Content-Length": f"{length - 1}\r\nContent-Length: {length}"})
    connection.close()


@WIRE.enter(Kind.HARMLESS)
def content_length_that_is_no_number(connection: Connection) -> None:
    """As good as none: the body ends where the connection does."""
    connection.reply(headers={"Content-Length": "many"})
    connection.close()


@WIRE.enter(Kind.HARMLESS)
def gzip_encoded(connection: Connection) -> None:
    connection.reply(gzip.compress(connection.run()), headers=GZIP)


@WIRE.enter(Kind.BROKEN, "gzip|decode|decompress")
def gzip_that_is_none(connection: Connection) -> None:
    connection.run()
    connection.reply(b"this is no gzip", headers=GZIP)


@WIRE.enter(Kind.BROKEN, "not an answer|decompress")
def gzip_truncated(connection: Connection) -> None:
    connection.reply(gzip.compress(connection.run())[:-12], headers=GZIP)


@WIRE.enter(Kind.BROKEN, "more than|time")
def gzip_bomb(connection: Connection) -> None:
    """A gibibyte in one megabyte, which is what makes it a bomb."""
    connection.run()
    connection.reply(_bomb(), headers=GZIP)


@cache
def _bomb() -> bytes:
    return gzip.compress(b" " * 2**24) * 64


@WIRE.enter(Kind.HARMLESS)
def chunked(connection: Connection) -> None:
    connection.send(_chunked(connection.run()))


@WIRE.enter(Kind.BROKEN, "[Cc]hunk|ValueError")
def chunk_size_that_is_no_number(connection: Connection) -> None:
    connection.run()
    connection.send(response(b"many\r\n{}\r\n", headers=CHUNKED))
    connection.close()


@WIRE.enter(Kind.BROKEN, "more than|time")
def endless_chunked_body(connection: Connection) -> None:
    connection.run()
    connection.send(response(b"", headers=CHUNKED))
    _flood(connection, b"10000\r\n" + b" " * 65536 + b"\r\n")


@WIRE.enter(Kind.BROKEN, "more than|time", tls=True)
def endless_body(connection: Connection) -> None:
    connection.run()
    connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
    _flood(connection, b" " * 65536)


@WIRE.enter(Kind.BROKEN, "StatusLine")
def garbage(connection: Connection) -> None:
    connection.run()
    connection.send(random.Random(7).randbytes(2000))
    connection.close()


def _flood(connection: Connection, piece: bytes) -> None:
    for _ in range(2**30 // len(piece)):
        connection.send(piece)
    connection.close()


def _chunked(body: bytes) -> bytes:
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return response(chunks + b"0\r\n\r\n", headers=CHUNKED)
