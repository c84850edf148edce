"""What a descriptor is called, and that finding it out stays cheap."""

from __future__ import annotations

import os
import socket

import pytest

from ftdiag.sources.kernel import procfs
from ftdiag.sources.kernel.procfs import DescriptorNames


def test_a_socket_has_its_peer_and_many_sockets_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a hundred connections of ours
    looks = 0
    look = DescriptorNames._sockets

    def counted(self: DescriptorNames) -> object:
        nonlocal looks
        looks += 1
        return look(self)

    monkeypatch.setattr(DescriptorNames, "_sockets", counted)
    monkeypatch.setattr(procfs, "MAX_SOCKET_LOOK_S", 30.0)
    monkeypatch.setattr(procfs, "SOCKET_CREDIT_S", 1e-9)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        pairs = [(socket.create_connection(("127.0.0.1", port)), server.accept()[0]) for _ in range(50)]
        try:
            # WHEN they are described
            names = DescriptorNames(os.getpid())
            said = {names.describe(client.fileno()) for client, _ in pairs}

            # THEN all have their peer, after one look
            assert said == {f"socket 127.0.0.1:{port}"}
            assert looks == 1

            # AND one that came since is just a socket, for now, without another look
            with socket.create_connection(("127.0.0.1", port)) as late:
                assert names.describe(late.fileno()) == "socket"
            assert looks == 1
        finally:
            for pair in pairs:
                for one in pair:
                    one.close()
