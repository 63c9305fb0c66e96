"""An address on an interface, by the kernel's own interface (rtnetlink(7)), and its announcement to the neighbours.

Three messages are all that is needed; a library for all of rtnetlink costs the supervisor 11 MiB.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct

from failover.ports import PortError

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface

NEWADDR, DELADDR, GETADDR = 20, 21, 22
ERROR, DONE = 2, 3
REQUEST, ACK, DUMP, REPLACE, CREATE = 0x1, 0x4, 0x300, 0x100, 0x400
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8
NODAD, NOPREFIXROUTE = 0x02, 0x200  # duplicates are decided elsewhere; the interface's own address has the route
HEADER = struct.Struct("=IHHII")
IFADDR = struct.Struct("=BBBBI")
ATTRIBUTE = struct.Struct("=HH")
BUFFER = 1 << 16
TIMEOUT_S = 2.0


def put(interface: str, address: Address, valid_s: int) -> None:
    """Have the address on the interface for so long; the kernel removes it then. Raises PortError."""
    index = _index(interface)
    lifetimes = struct.pack("=IIII", 0, valid_s, 0, 0)  # preferred for no time: it is no source of connections
    attributes = ((IFA_CACHEINFO, lifetimes), (IFA_FLAGS, struct.pack("=I", NODAD | NOPREFIXROUTE)))
    _ask(NEWADDR, REQUEST | ACK | CREATE | REPLACE, _body(index, address, attributes), f"{address} on {interface}")


def remove(interface: str, address: Address) -> None:
    """Have it there no longer; that it is not there is success. Raises PortError."""
    _ask(DELADDR, REQUEST | ACK, _body(_index(interface), address), f"{address} on {interface}")


def is_there(interface: str, address: Address) -> bool:
    """Whether the interface has it. Raises PortError."""
    index, found = _index(interface), False
    body = IFADDR.pack(_family(address), 0, 0, 0, 0)
    for kind, payload in _ask(GETADDR, REQUEST | DUMP, body, interface):
        if kind == NEWADDR and IFADDR.unpack_from(payload)[4] == index:
            told = _attributes(payload[IFADDR.size :])
            found = found or told.get(IFA_LOCAL, told.get(IFA_ADDRESS)) == address.ip.packed
    return found


def announce(interface: str, address: Address) -> None:
    """Tell everybody on the link where the address is now: unsolicited ARP, or a neighbour advertisement. Raises PortError."""
    try:
        (_arp if address.version == 4 else _advertise)(interface, address)  # noqa: PLR2004
    except OSError as error:
        raise PortError(f"{address} cannot be announced on {interface}: {error.strerror}; needs CAP_NET_RAW") from None


def _arp(interface: str, address: Address) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind((interface, 0))
        mine, everybody, ip = link.getsockname()[4], b"\xff" * 6, address.ip.packed
        if len(mine) != 6:  # noqa: PLR2004 - no Ethernet, no ARP
            return
        for operation in (1, 2):  # some take a request for news, some an answer
            arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mine + ip + everybody + ip
            link.send(everybody + mine + b"\x08\x06" + arp)


def _advertise(interface: str, address: Address) -> None:
    index = socket.if_nametoindex(interface)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind((interface, 0))
        mine = link.getsockname()[4]
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as neighbours:
        neighbours.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        neighbours.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        message = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + address.ip.packed + b"\x02\x01" + mine
        neighbours.sendto(message, ("ff02::1", 0, 0, index))


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise PortError(f"there is no interface {interface}; see [address.virtual_ip] interface") from None


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004


def _body(index: int, address: Address, attributes: tuple[tuple[int, bytes], ...] = ()) -> bytes:
    body = IFADDR.pack(_family(address), address.network.prefixlen, 0, 0, index)
    for kind, value in ((IFA_LOCAL, address.ip.packed), (IFA_ADDRESS, address.ip.packed), *attributes):
        body += ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value  # all are multiples of four bytes
    return body


def _attributes(raw: bytes) -> dict[int, bytes]:
    found = {}
    while len(raw) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(raw)
        if length < ATTRIBUTE.size:
            break
        found[kind] = raw[ATTRIBUTE.size : length]
        raw = raw[(length + 3) & ~3 :]
    return found


def _ask(kind: int, flags: int, body: bytes, what: str) -> list[tuple[int, bytes]]:
    """Send one message and return what is answered."""
    answers: list[tuple[int, bytes]] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(TIMEOUT_S)
            kernel.send(HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body)
            while True:
                raw = kernel.recv(BUFFER)
                while len(raw) >= HEADER.size:
                    length, told = HEADER.unpack_from(raw)[:2]
                    if told in (ERROR, DONE):
                        number = -struct.unpack_from("=i", raw, HEADER.size)[0] if told == ERROR else 0
                        _check(number, kind, what)
                        return answers
                    answers.append((told, raw[HEADER.size : length]))
                    raw = raw[(length + 3) & ~3 :]
    except OSError as error:
        raise PortError(f"{what}: the kernel does not answer: {error}") from None


def _check(number: int, kind: int, what: str) -> None:
    gone = kind == DELADDR and number == errno.EADDRNOTAVAIL
    if number and not gone:
        hint = "; needs CAP_NET_ADMIN" if number == errno.EPERM else ""
        raise PortError(f"{what}: {os.strerror(number)}{hint}")
