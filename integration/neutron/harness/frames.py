"""Frames made by hand, for what a kernel would not send. Each carries a marker, by which its receiver
knows it."""

import os
import socket
import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58


@dataclass(frozen=True)
class Endpoint:
    """Whom a frame is from, or to."""

    mac: str
    ip: str


@dataclass(frozen=True)
class Frame:
    """A frame and the bytes by which it is known again."""

    data: bytes
    marker: bytes = field(repr=False)


def new_marker() -> bytes:
    return b"sgflow" + os.urandom(10)


def udp(source: Endpoint, target: Endpoint, source_port: int, target_port: int) -> Frame:
    marker = new_marker()
    head = struct.pack("!HHHH", source_port, target_port, 8 + len(marker), 0)
    return Frame(_ip(source, target, _UDP, _with_checksum(source, target, _UDP, head + marker, 6)), marker)


def tcp(source: Endpoint, target: Endpoint, source_port: int, target_port: int, *, syn: bool) -> Frame:
    """A first segment, or (`syn` false) one from the middle of a connection that nobody has seen begin."""
    marker = new_marker()
    flags = 0x02 if syn else 0x18
    head = struct.pack(
        "!HHIIBBHHH", source_port, target_port, 1000, 0 if syn else 2000, 5 << 4, flags, 8192, 0, 0
    )
    return Frame(_ip(source, target, _TCP, _with_checksum(source, target, _TCP, head + marker, 16)), marker)


def ping(source: Endpoint, target: Endpoint) -> Frame:
    marker = new_marker()
    v6 = ":" in source.ip
    protocol, kind = (_ICMPV6, 128) if v6 else (_ICMP, 8)
    body = struct.pack("!BBHHH", kind, 0, 0, int.from_bytes(marker[-2:], "big"), 1) + marker
    return Frame(_ip(source, target, protocol, _with_checksum(source, target, protocol, body, 2)), marker)


def arp_reply(sender_mac: str, sender_ip: str, target: Endpoint, *, frame_source: str | None = None) -> Frame:
    """Says that `sender_ip` is at `sender_mac`. The padding carries the marker."""
    marker = new_marker()
    body = struct.pack("!HHBBH", 1, _IPV4, 6, 4, 2) + _mac(sender_mac) + socket.inet_aton(sender_ip)
    body += _mac(target.mac) + socket.inet_aton(target.ip)
    return Frame(_ethernet(target.mac, frame_source or sender_mac, _ARP, body + marker + b"\0\0"), marker)


def neighbour_advertisement(source: Endpoint, target: Endpoint, claimed: str) -> Frame:
    """Says that `claimed` is at the source's MAC (RFC 4861, 4.4). The marker is in an option that nobody
    knows."""
    marker = new_marker()
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + ip_address(claimed).packed
    body += struct.pack("!BB", 2, 1) + _mac(source.mac) + _unknown_option(marker)
    checked = _with_checksum(source, target, _ICMPV6, body, 2)
    return Frame(_ip(source, target, _ICMPV6, checked, hop_limit=255), marker)


def router_advertisement(source: Endpoint) -> Frame:
    """To all nodes (RFC 4861, 4.2)."""
    marker = new_marker()
    target = Endpoint("33:33:00:00:00:01", "ff02::1")
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + _unknown_option(marker)
    checked = _with_checksum(source, target, _ICMPV6, body, 2)
    return Frame(_ip(source, target, _ICMPV6, checked, hop_limit=255), marker)


def dhcp(source: Endpoint, target_mac: str, *, from_server: bool) -> Frame:
    """The envelope of a DHCP message of a server, or of a client that has no address yet."""
    ports = (67, 68) if from_server else (68, 67)
    sender = source if from_server else Endpoint(source.mac, "0.0.0.0")
    return udp(sender, Endpoint(target_mac, "255.255.255.255"), *ports)


def dhcpv6(source: Endpoint, target: Endpoint, *, from_server: bool) -> Frame:
    ports = (547, 546) if from_server else (546, 547)
    return udp(source, target, *ports)


def tagged(frame: Frame, vlan: int) -> Frame:
    """The same with a VLAN tag in front of its EtherType."""
    return Frame(frame.data[:12] + struct.pack("!HH", 0x8100, vlan) + frame.data[12:], frame.marker)


def _unknown_option(marker: bytes) -> bytes:
    length = 2 + len(marker)
    padding = -length % 8
    return struct.pack("!BB", 253, (length + padding) // 8) + marker + b"\0" * padding


def _ip(source: Endpoint, target: Endpoint, protocol: int, payload: bytes, hop_limit: int = 64) -> bytes:
    if ":" in source.ip:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
        packet = head + ip_address(source.ip).packed + ip_address(target.ip).packed + payload
        return _ethernet(target.mac, source.mac, _IPV6, packet)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, hop_limit, protocol, 0)
    head += socket.inet_aton(source.ip) + socket.inet_aton(target.ip)
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    return _ethernet(target.mac, source.mac, _IPV4, head + payload)


def _with_checksum(source: Endpoint, target: Endpoint, protocol: int, body: bytes, at: int) -> bytes:
    """The body with its checksum in its place; ICMP of IPv4 has no pseudo header."""
    pseudo = b""
    if ":" in source.ip:
        pseudo = (
            ip_address(source.ip).packed
            + ip_address(target.ip).packed
            + struct.pack("!II", len(body), protocol)
        )
    elif protocol != _ICMP:
        pseudo = (
            socket.inet_aton(source.ip)
            + socket.inet_aton(target.ip)
            + struct.pack("!HH", protocol, len(body))
        )
    total = _checksum(pseudo + body)
    if protocol == _UDP and total == 0:
        total = 0xFFFF
    return body[:at] + struct.pack("!H", total) + body[at + 2 :]


def _ethernet(target: str, source: str, ethertype: int, payload: bytes) -> bytes:
    return _mac(target) + _mac(source) + struct.pack("!H", ethertype) + payload


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
