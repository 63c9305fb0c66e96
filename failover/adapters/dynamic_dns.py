"""A name that follows the leader: updates of its zone (RFC 2136), signed with a shared key (TSIG)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dns.asyncquery
import dns.exception
import dns.rcode
import dns.tsig
import dns.update

from failover.ports import PortError

if TYPE_CHECKING:
    from pathlib import Path

RENEW_S = 60.0  # a name server may have lost it
KEY = re.compile(
    r'key\s+"?(?P<name>[^"\s{]+)"?\s*\{\s*algorithm\s+"?(?P<algorithm>[\w-]+)"?\s*;\s*secret\s+"(?P<secret>[^"]+)"\s*;\s*\}\s*;?'
)


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """Which name is to be which address, and who is told. Durations are seconds."""

    server: tuple[str, int]  # an address, not a name
    zone: str
    name: str
    own: str  # the address that the name has while this node leads
    ttl_s: int
    key_file: Path  # as `tsig-keygen` prints it
    timeout_s: float = 2.0


class DynamicDns:
    """A kind of address. What the other node has written is never taken away, only replaced by a leader."""

    def __init__(self, settings: DnsSettings) -> None:
        self._settings = settings
        self.name = f"{settings.name} at {settings.server[0]}"
        self.renew_s = RENEW_S

    async def take(self) -> None:
        """Let the name be this node's address alone."""
        update = self._update()
        update.replace(self._name(), self._settings.ttl_s, self._type(), self._settings.own)
        await self._send(update)

    async def drop(self) -> None:
        """Take this node's own address away; that of another leader stays."""
        update = self._update()
        update.delete(self._name(), self._type(), self._settings.own)
        await self._send(update)

    async def begin(self) -> None:
        """Leave the record: a leader that goes on needs it, and another one replaces it."""

    def _name(self) -> dns.name.Name:
        return dns.name.from_text(self._settings.name)

    def _type(self) -> str:
        return "A" if ipaddress.ip_address(self._settings.own).version == 4 else "AAAA"  # noqa: PLR2004

    def _update(self) -> dns.update.UpdateMessage:
        try:
            told = KEY.search(self._settings.key_file.read_text(encoding="ascii"))
            key = None if told is None else dns.tsig.Key(told["name"], told["secret"], told["algorithm"])
        except (OSError, ValueError) as error:
            raise PortError(f"[address.dns] key_file {self._settings.key_file} cannot be used: {error}") from None
        if key is None:
            raise PortError(f"[address.dns] key_file {self._settings.key_file} is not what tsig-keygen prints")
        return dns.update.UpdateMessage(self._settings.zone, keyring=key)

    async def _send(self, update: dns.update.UpdateMessage) -> None:
        host, port = self._settings.server
        try:
            answer = await dns.asyncquery.tcp(update, host, timeout=self._settings.timeout_s, port=port)
        except (dns.exception.DNSException, OSError, EOFError) as error:
            why = str(error) or type(error).__name__
            raise PortError(f"{self.name}: no update: {why}") from None
        if answer.rcode() != dns.rcode.NOERROR:
            told = dns.rcode.to_text(answer.rcode())
            raise PortError(f"{self.name}: the server refuses the update ({told}); see its key and update policy")
