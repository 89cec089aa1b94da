"""What the protocol answers to a peer's bytes: pongs and closes, in the order of what they answer.

It is websockets' `ServerProtocol` that answers, but for one thing: a close frame between the fragments of a message is
a close like any other (RFC 6455, 5.4: control frames may stand there), and is not answered as an error.
"""

from __future__ import annotations

from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.server import ServerProtocol


def answers_to(protocol: ServerProtocol, data: bytes) -> list[bytes]:
    """Hands bytes to the protocol; gives one pong for every ping in them, and last what closes the connection."""
    has_closed = protocol.close_sent is not None
    protocol.receive_data(data)
    answers = protocol.data_to_send()
    if answers and not has_closed:
        received = protocol.close_rcvd
        if received is not None and received is not protocol.close_sent:
            answers[-2] = _echo(received)  # before the end of the stream
    return answers


def _echo(close: Close) -> bytes:
    data = b"" if close.code == CloseCode.NO_STATUS_RCVD else close.serialize()
    return Frame(Opcode.CLOSE, data).serialize(mask=False)
