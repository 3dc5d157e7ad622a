"""What ports are called, by their numbers: for the agent's process and for who plugs them in."""

from __future__ import annotations


def port_id(number: int) -> str:
    return f"33333333-0000-4000-8000-{number:012x}"


def mac_address(number: int) -> str:
    return "fa:16:3e:" + ":".join(f"{number >> shift & 255:02x}" for shift in (16, 8, 0))


def interface(number: int) -> str:
    return f"tap{port_id(number)[-11:]}"
