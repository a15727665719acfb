"""Ports at which the processes of a program meet."""

import socket


def free() -> int:
    """One at which nobody listens; somebody else may, before it is used."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def taken(errors: str) -> bool:
    """Whether process 0, which listens, ended since somebody else does; by its standard error."""
    return "No address added" in errors or "Address already in use" in errors
