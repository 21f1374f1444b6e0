"""Large filters: splits a pcap-filter(7) expression into parts that libpcap optimises one by one, and links them.

libpcap's optimiser takes cubic time in the length of an expression: 100 hosts 0.05 s, 800 hosts 25 s. parse() finds
chains of `or` and of `and`, link() joins the compiled parts by jumps. Text that parse() does not understand stays one
part.

Inside VLAN tags the same expression is tested again: `vlan` moves the offsets of everything behind it, so each part is
compiled once more behind one tag and behind two. No I/O; the compiler is an argument.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

PART_TERMS = 32  # terms of one part of a chain: fast to optimise, and the kernel's jumps of 8 bits suffice
OPTIMISED_TERMS = 100  # an indivisible part with more of them is compiled without the optimiser
MOST_TERMS = 1000  # of such a part; without the optimiser it still takes a second or two
MOST_INSTRUCTIONS = 0xFFFF  # struct sock_fprog has 16 bits for them
VLAN_TAGS = 2

WHOLE_FRAME = 262144  # return value for an accepted frame, if no part sets one
INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jt, jf, k
RETURN, RETURN_A, JUMP = 0x06, 0x16, 0x05  # BPF_RET|BPF_K, BPF_RET|BPF_A, BPF_JMP|BPF_JA

_TOKEN = re.compile(r"\(|\)|\|\||&&|!=|!|[^\s()|&!]+|[|&]")
_OR, _AND, _NOT = ("or", "||"), ("and", "&&"), ("not", "!")
_MOVING = {"vlan", "mpls", "pppoes", "pppoed", "geneve", "vxlan"}  # they move the offsets behind them fmt: off
_HEADS = frozenset(
    (
        "ether",
        "link",
        "fddi",
        "tr",
        "wlan",
        "ppp",
        "slip",
        "ip",
        "ip6",
        "arp",
        "rarp",
        "tcp",
        "udp",
        "sctp",
        "icmp",
        "icmp6",
        "src",
        "dst",
        "host",
        "net",
        "port",
        "portrange",
        "proto",
    )
)
_WORDS = _HEADS | frozenset(
    (
        "gateway",
        "broadcast",
        "multicast",
        "less",
        "greater",
        "inbound",
        "outbound",
        "ifindex",
        "igmp",
        "igrp",
        "pim",
        "vrrp",
        "carp",
        "ah",
        "esp",
        "atalk",
        "aarp",
        "decnet",
        "lat",
        "moprc",
        "mopdl",
        "iso",
        "stp",
        "ipx",
        "netbeui",
        "clnp",
        "esis",
        "isis",
        "protochain",
        "mask",
        "len",
        "type",
        "subtype",
        "dir",
        "ra",
        "ta",
        "addr1",
        "addr2",
        "addr3",
        "addr4",
        "rnr",
        "rulenum",
        "ruleset",
        "reason",
        "srnr",
        "subrulenum",
        "action",
        "on",
        "ifname",
    )
)
# fmt: on


class UnusableExpression(ValueError):
    """The expression cannot become a program: a part would take minutes to compile, or no frame can match it."""


class Part(NamedTuple):
    """A text that libpcap compiles as one. terms: the number of primitives."""

    text: str
    terms: int


class Chain(NamedTuple):
    """Several expressions: one of them has to match, or all."""

    any: bool
    members: tuple[Node, ...]


class Negation(NamedTuple):
    """The negation of an expression."""

    of: Node


Node = Part | Chain | Negation
Compiler = Callable[[str, bool], bytes]  # text, whether to optimise; the instructions


def parse(text: str) -> Node:
    """Return the expression in parts. Raises UnusableExpression."""
    tokens = [(match[0], match.start(), match.end()) for match in _TOKEN.finditer(text)]
    words = [token for token, _, _ in tokens]
    terms = _terms(words)
    if terms <= PART_TERMS or _MOVING.intersection(words):
        return _part(text, terms)
    return _Parser(text, tokens).chain(0, len(tokens))


def link(node: Node, compiler: Compiler, *, vlan_aware: bool = False, only: str = "") -> bytes:
    """Return the instructions of the whole expression. vlan_aware: also for frames inside one or two VLAN tags.

    only: a second expression that has to match as well, on the frame as it is. Raises UnusableExpression and the
    compiler's exceptions.
    """
    layout = _Layout(compiler)
    accept, refuse, body = _Label(), _Label(), _Label()
    if only:
        layout.part(only, _terms(words_of(only)), body, refuse)
        layout.here(body)
    for tags in range(VLAN_TAGS + 1 if vlan_aware else 1):
        following = refuse if tags == VLAN_TAGS or not vlan_aware else _Label()
        inside = "vlan and " * tags
        if tags:
            behind = _Label()
            layout.part(" and ".join(["vlan"] * tags), tags, behind, following)
            layout.here(behind)
        layout.lay(node, inside, accept, following)
        if following is not refuse:
            layout.here(following)
    return layout.finish(accept, refuse)


def words_of(text: str) -> list[str]:
    """Return the words and signs of an expression."""
    return _TOKEN.findall(text)


def _terms(words: list[str]) -> int:
    return 1 + sum(word in _OR or word in _AND for word in words)


def _part(text: str, terms: int) -> Part:
    if terms > MOST_TERMS:
        raise UnusableExpression(
            f"{terms:,} terms cannot be split, at most {MOST_TERMS:,} may: put related terms in parentheses"
        )
    return Part(text, terms)


class _Parser:
    """Splits tokens [begin, end) of one text."""

    def __init__(self, text: str, tokens: list[tuple[str, int, int]]) -> None:
        self.text = text
        self.tokens = tokens
        self.word = [token for token, _, _ in tokens]

    def chain(self, begin: int, end: int) -> Node:
        """Return a chain of one kind of operator; a mixed one is one part, because `and` and `or` bind alike."""
        operators = list(self._operators(begin, end))
        kinds = {self.word[at] in _OR for at in operators}
        if not operators:
            return self._single(begin, end)
        if len(kinds) != 1:
            return self._whole(begin, end)
        bounds = [begin, *(at + 1 for at in operators), end + 1]
        members: list[Node] = []
        head: str | None = None
        for first, last in zip(bounds, (bound - 1 for bound in bounds[1:]), strict=False):
            if first >= last:
                return self._whole(begin, end)  # `a or or b`: libpcap reports the error
            member: Node
            if self._is_bare(first):
                if head is None:
                    return self._whole(begin, end)
                member = Part(f"{head} {self._slice(first, last)}", 1)
            else:
                head = self._head(first, last)
                member = self._single(first, last)
            members.append(member)
        return _grouped(kinds.pop(), members)

    def _operators(self, begin: int, end: int) -> Iterator[int]:
        """Yield the positions of `or` and `and` outside parentheses; not those of `src or dst`."""
        depth = 0
        for at in range(begin, end):
            word = self.word[at]
            depth += (word == "(") - (word == ")")
            if depth or (word not in _OR and word not in _AND):
                continue
            if at > begin and self.word[at - 1] in ("src", "dst") and self.word[at + 1 : at + 2] in (["src"], ["dst"]):
                continue
            yield at

    def _single(self, begin: int, end: int) -> Node:
        """Parse one member; a member that is only a group in parentheses becomes its content."""
        if self.word[begin] in _NOT and begin + 1 < end and self._is_group(begin + 1, end):
            return Negation(self.chain(begin + 2, end - 1))
        if self._is_group(begin, end):
            return self.chain(begin + 1, end - 1)
        return self._list(begin, end) or self._whole(begin, end)

    def _list(self, begin: int, end: int) -> Node | None:
        """Parse `host (a or b or c)`: one head for many values."""
        first = next((at for at in range(begin, end) if self.word[at] not in _HEADS), end)
        if first == begin or not self._is_group(first, end):
            return None
        head = self._slice(begin, first)
        values = self.word[first + 1 : end - 1]
        if any(word not in _OR for word in values[1::2]) or len(values) % 2 == 0:
            return None
        if any(word in _WORDS or word in ("(", ")") or word in _NOT for word in values[0::2]):
            return None
        return _grouped(True, [Part(f"{head} {value}", 1) for value in values[0::2]])

    def _is_group(self, begin: int, end: int) -> bool:
        if end - begin < 3 or self.word[begin] != "(" or self.word[end - 1] != ")":
            return False
        depth = 0
        for at in range(begin, end):
            depth += (self.word[at] == "(") - (self.word[at] == ")")
            if depth == 0:
                return at == end - 1
        return False

    def _is_bare(self, at: int) -> bool:
        """Return whether a member is a value alone, which takes the head of the member before: `host a or b`."""
        word = self.word[at]
        return word not in _WORDS and word not in _NOT and word != "(" and "[" not in word

    def _head(self, begin: int, end: int) -> str | None:
        """Return what a value alone behind this member would take from it, if that is plain to see."""
        while begin < end and self.word[begin] in _NOT:
            begin += 1
        words = self.word[begin : end - 1]
        plain = words and all(word in _HEADS or word in _OR or word in _AND for word in words)
        return self._slice(begin, end - 1) if plain and self.word[end - 1] not in _WORDS else None

    def _slice(self, begin: int, end: int) -> str:
        return self.text[self.tokens[begin][1] : self.tokens[end - 1][2]]

    def _whole(self, begin: int, end: int) -> Part:
        return _part(self._slice(begin, end), _terms(self.word[begin:end])) if begin < end else Part("", 1)


def _grouped(any_of: bool, members: list[Node]) -> Node:
    """Return a chain whose small parts are joined again, up to PART_TERMS together."""
    joined: list[Node] = []
    run: list[Part] = []

    def flush() -> None:
        if run:
            texts = [part.text if part.terms == 1 else f"({part.text})" for part in run]
            joined.append(Part((" or " if any_of else " and ").join(texts), sum(part.terms for part in run)))
            run.clear()

    for member in members:
        if not isinstance(member, Part) or member.terms > PART_TERMS:
            flush()
            joined.append(member)
            continue
        if sum(part.terms for part in run) + member.terms > PART_TERMS:
            flush()
        run.append(member)
    flush()
    return joined[0] if len(joined) == 1 else Chain(any_of, tuple(joined))


class _Label:
    """A position in a program, set later."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = -1


class _Layout:
    """Compiled parts one behind another; the returns of a part become jumps to labels, all of them forward."""

    def __init__(self, compiler: Compiler) -> None:
        self.compiler = compiler
        self.code: list[tuple[int, int, int, int]] = []
        self.jumps: list[tuple[int, _Label]] = []
        self.accepted = 0  # libpcap's return value for an accepted frame: its snap length

    def here(self, label: _Label) -> None:
        label.at = len(self.code)

    def lay(self, node: Node, inside: str, yes: _Label, no: _Label) -> None:
        if isinstance(node, Part):
            text = f"{inside}({node.text})" if inside and node.text else inside.removesuffix(" and ") or node.text
            self.part(text, node.terms, yes, no)
        elif isinstance(node, Negation):
            self.lay(node.of, inside, no, yes)
        else:
            for member in node.members[:-1]:
                following = _Label()
                self.lay(member, inside, *((yes, following) if node.any else (following, no)))
                self.here(following)
            self.lay(node.members[-1], inside, yes, no)

    def part(self, text: str, terms: int, yes: _Label, no: _Label) -> None:
        for code, jt, jf, k in INSTRUCTION.iter_unpack(self.compiler(text, terms <= OPTIMISED_TERMS)):
            if code == RETURN_A:
                raise UnusableExpression("libpcap made a program that computes its answer")
            if code == RETURN:
                self.accepted = max(self.accepted, k)
                self.jumps.append((len(self.code), yes if k else no))
            self.code.append((code, jt, jf, k))

    def finish(self, accept: _Label, refuse: _Label) -> bytes:
        if not any(label is accept for _, label in self.jumps):
            raise UnusableExpression("expression rejects all packets")  # libpcap's words, for the whole
        self.here(accept)
        self.code.append((RETURN, 0, 0, self.accepted or WHOLE_FRAME))
        self.here(refuse)
        self.code.append((RETURN, 0, 0, 0))
        if len(self.code) > MOST_INSTRUCTIONS:
            raise UnusableExpression(
                f"its program has {len(self.code):,} instructions, at most {MOST_INSTRUCTIONS:,} can be set"
            )
        for at, label in self.jumps:
            self.code[at] = (JUMP, 0, 0, label.at - at - 1)
        return b"".join(INSTRUCTION.pack(*instruction) for instruction in self.code)
