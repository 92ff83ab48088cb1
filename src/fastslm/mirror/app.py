"""The mirror as an ASGI application: reads requests, asks the stock in threads, writes answers.

It is bare ASGI because the hub's addresses need the raw path, and nothing else is needed of a framework. The client's
``Authorization`` is not looked at.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qs, parse_qsl, quote

from fastslm.errors import FastSLMError, FileMissing
from fastslm.formats.safetensors import Region
from fastslm.mirror import answers
from fastslm.mirror.answers import Answer
from fastslm.mirror.flights import Flight
from fastslm.mirror.frames import FrameKeeper, frame_blocks, regions_of
from fastslm.mirror.ranges import Span, Unsatisfiable, asked_span, is_unchanged
from fastslm.mirror.routes import Route, parse_route
from fastslm.mirror.sending import Message, Receive, Send, flight_blocks, send_body, stored_blocks, until_readable
from fastslm.mirror.shelf import Stored, etag_of
from fastslm.mirror.stock import Stock

T = TypeVar("T")

ASKING_THREADS = 64
READING_THREADS = 4
MOST_BODY_BYTES = 1 << 20
PATIENCE_S = 5.0
"""How long a range of a growing file is waited for; then the whole file is sent from its beginning."""

ACCEPT_HEADER = "x-fastslm-accept"
"""Names the packing that a client understands; only fastslm sends it."""

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?", re.ASCII)


@dataclass(frozen=True)
class Request:
    """What of a request counts; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    url: str


@dataclass(frozen=True)
class Body:
    """An answer whose body is a file, or a part of one; packed when there are ``regions``."""

    content: Stored | Flight
    span: Span
    commit: str
    regions: tuple[Region, ...] = ()


class MirrorApp:
    """The application; ``loopback`` refuses requests that name another host, as a hostile web page can make."""

    def __init__(self, stock: Stock, *, loopback: bool = False) -> None:
        self._stock = stock
        self._loopback = loopback
        self._keeper = FrameKeeper()
        self._asking = ThreadPoolExecutor(ASKING_THREADS, "fastslm-mirror-ask")
        self._reading = ThreadPoolExecutor(READING_THREADS, "fastslm-mirror-read")

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """One connection's event, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"].rpartition(".")[2]
            if kind == "shutdown":
                self.close()
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return

    def close(self) -> None:
        """End what is under way."""
        self._stock.close()
        self._asking.shutdown(wait=False, cancel_futures=True)
        self._reading.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            request = _request(scope, loopback=self._loopback)
            answer = request if isinstance(request, Answer) else await self._answer(request, scope, receive)
        except FastSLMError as error:
            answer = answers.refusal(error)
        if isinstance(answer, Body):
            await self._send_file(answer, receive, send)
        else:
            await _send_answer(answer, send, head=scope["method"] == "HEAD")

    async def _answer(self, request: Request, scope: Mapping[str, Any], receive: Receive) -> Answer | Body:
        route = parse_route(scope.get("raw_path") or quote(scope["path"]).encode("ascii"))
        if route.kind == "unknown":
            return answers.refused(404, "a mirror of models has nothing at this address")
        if request.method == "POST":
            if route.kind != "paths-info":
                return answers.refused(405, "a mirror is read-only", more={"allow": "GET, HEAD"})
            form = await _form(receive)
            too_large = answers.refused(413, f"the form has more than {MOST_BODY_BYTES} bytes")
            return too_large if form is None else await self._chosen(route, form)
        if request.method not in {"GET", "HEAD"} or route.kind == "paths-info":
            return answers.refused(405, "this address is not for that method")
        if route.kind == "resolve":
            return await self._file(route, request)
        return await self._ask(lambda: self._facts(route, request))

    async def _ask(self, question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._asking, question)

    def _facts(self, route: Route, request: Request) -> Answer:
        """Everything that is JSON."""
        if route.kind == "models":
            return answers.as_json([{"id": repo, "modelId": repo} for repo in self._stock.repos()])
        if route.kind == "refs":
            return answers.as_json(answers.refs(self._stock.refs(route.repo)))
        commit = self._stock.commit_of(route.repo, route.revision)
        files = self._stock.files(route.repo, commit)
        if route.kind == "revision":
            blobs = request.query.get("blobs", "").lower() in {"1", "true"}
            return answers.as_json(answers.info(route.repo, commit, files, blobs=blobs))
        recursive = request.query.get("recursive", "").lower() in {"1", "true"}
        entries = answers.tree(files, route.path, recursive=recursive)
        if route.path and not entries:
            raise FileMissing(f"`{route.repo}` has no folder `{route.path}`", what="folder", name=route.path)
        return answers.page(entries, request.url, request.query)

    async def _chosen(self, route: Route, form: Mapping[str, list[str]]) -> Answer:
        wanted = frozenset(path.strip("/") for path in form.get("paths", []))

        def look() -> Answer:
            files = self._stock.files(route.repo, self._stock.commit_of(route.repo, route.revision))
            entries = answers.tree(files, "", recursive=True)
            return answers.as_json([entry for entry in entries if entry["path"] in wanted])

        return await self._ask(look)

    async def _file(self, route: Route, request: Request) -> Answer | Body:
        commit = await self._ask(lambda: self._stock.commit_of(route.repo, route.revision))
        try:
            file = await self._ask(lambda: self._stock.entry(route.repo, commit, route.path))
        except FileMissing as error:
            missing = answers.refusal(error)
            return Answer(missing.status, {**missing.headers, "x-repo-commit": commit}, missing.body)
        headers = answers.file_headers(file, commit)
        if is_unchanged(request.headers, etag_of(file)):
            return Answer(304, headers)
        try:
            span = asked_span(request.headers, file.size, etag_of(file))
        except Unsatisfiable:
            return Answer(416, {**headers, "content-range": f"bytes */{file.size}"})
        if request.method == "HEAD":
            return _head(headers, span)
        content = await self._ask(lambda: self._stock.content(route.repo, commit, file))
        if isinstance(content, Flight):
            return await _on_its_way(content, span, commit)
        packed = request.headers.get(ACCEPT_HEADER) == await self._ask(_encoding)
        regions = await self._ask(lambda: regions_of(content)) if packed else ()
        return Body(content, span, commit, regions)

    async def _send_file(self, body: Body, receive: Receive, send: Send) -> None:
        head = _head(answers.file_headers(body.content.file, body.commit), body.span)
        if isinstance(body.content, Flight):
            blocks = flight_blocks(body.content, body.span, self._reading)
        elif body.regions:
            head = _packed(head)
            blocks = frame_blocks(body.content, body.span, self._reading, self._keeper, body.regions)
        else:
            blocks = stored_blocks(body.content, body.span, self._reading)
        await send(_start(head))
        await send_body(send, receive, blocks)


async def _on_its_way(flight: Flight, span: Span, commit: str) -> Body:
    """A growing file: from where it was asked for if that is soon there, else from its beginning."""
    if span.partial and not await until_readable(flight, span.begin, PATIENCE_S):
        span = Span(0, span.size, span.size, partial=False)
    await until_readable(flight, span.begin, float("inf"))
    return Body(flight, span, commit)


def _encoding() -> str:
    from fastslm import _native

    return _native.PLANES_ENCODING


def _packed(head: Answer) -> Answer:
    """The same with frames for a body, whose length nobody knows before they are made."""
    plain = {name: value for name, value in head.headers.items() if name != "content-length"}
    return Answer(head.status, {**plain, "x-fastslm-encoding": _encoding(), "vary": ACCEPT_HEADER})


def _request(scope: Mapping[str, Any], *, loopback: bool) -> Request | Answer:
    """What ASGI tells of a request; an answer at once when its host is none."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    if not _HOST.fullmatch(host) or (loopback and not _is_near(host)):
        return answers.refused(400, f"the mirror is not known as `{host}`")
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1").partition("?")[0]
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    return Request(scope["method"], path, headers, query, f"{scope.get('scheme', 'http')}://{host}{path}")


def _is_near(host: str) -> bool:
    """Whether a Host header is an address, or this machine's own name for itself."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.lower() == "localhost"
    return True


async def _form(receive: Receive) -> Mapping[str, list[str]] | None:
    """The fields of a form; nothing when there are too many."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return parse_qs(body.decode("utf-8", errors="replace"))


def _head(headers: Mapping[str, str], span: Span) -> Answer:
    length = {"content-length": str(span.end - span.begin)}
    ranged = {"content-range": span.content_range} if span.partial else {}
    return Answer(206 if span.partial else 200, {**headers, **length, **ranged})


def _start(answer: Answer) -> Message:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


async def _send_answer(answer: Answer, send: Send, *, head: bool) -> None:
    length = {} if answer.status == 304 else {"content-length": str(len(answer.body))}
    await send(_start(Answer(answer.status, {**length, **answer.headers})))
    await send({"type": "http.response.body", "body": b"" if head else answer.body, "more_body": False})
