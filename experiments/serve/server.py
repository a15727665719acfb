"""A page and a JSON API for one trained model; needs the extra `serve`.

Requests wait in a bounded queue. One thread, the only one that decodes and calls JAX, answers those
that came within a few ms together. Every refusal is `{"error": ...}`, and the server goes on.
"""

import asyncio
import contextlib
import itertools
import os
import pathlib
import queue
import re
import shlex
import socket
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from PIL import Image
from pydantic import create_model
from starlette.exceptions import HTTPException as AnyHTTPException  # A missing route's, too.

from experiments.search import nearest, read_gallery
from experiments.serve.pictures import FORMATS, read, segmented
from zoo.data.images import File
from zoo.infer.embed import embed
from zoo.infer.load import Trained, fingerprint
from zoo.infer.predict import predict
from zoo.infer.tiles import TILE
from zoo.infer.verify import threshold
from zoo.train.embedding import Embedding, pair_distances
from zoo.train.segmentation import Segmentation

MAX_BYTES = 2**25  # Of a request.
# Of a gallery's picture: no other site shows it, and no cache gives it for a later gallery's.
OWN = {"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-cache"}
WAITING = 64  # Requests; further ones are refused.
BATCH, PATIENCE = 4, 0.004  # Requests at a time, and seconds that the first waits for others.

Error = create_model("Error", error=str)
Run = create_model("Run", name=str, step=int, task=str, gallery=int)  # How many pictures.
Class = create_model("Class", id=int, name=str, colour=str, share=float)  # Of the pixels, 0..1.
Segmented = create_model("Segmented", classes=list[Class], ids_png=str)  # Palette PNG, base64.
Verdict = create_model(
    "Verdict", distance=float, threshold=float, same=bool, false_accept_rate=float
)
Neighbour = create_model("Neighbour", __base__=Verdict, index=int, path=str)  # In the gallery.


def serve(run: Trained, *, gallery: File | None, host: str, port: int) -> None:
    """Serves until Ctrl-C. OSError where the port is taken, ValueError for none, and as below."""
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must be in 0..65535, 0 for a free one; got {port}.")
    config = uvicorn.Config(application(run, gallery, names(host)), log_level="warning")
    server = uvicorn.Server(config)
    six = ":" in host
    family = socket.AF_INET6 if six else socket.AF_INET
    with (
        socket.create_server((host, port), family=family) as listener,
        contextlib.suppress(KeyboardInterrupt),
    ):
        at = f"http://{f'[{host}]' if six else host}:{listener.getsockname()[1]}"
        print(f"{run.name}, step {run.step}: {at}, API {at}/openapi.json; Ctrl-C stops", flush=True)
        server.run(sockets=[listener])


def names(host: str) -> set[str] | None:
    """By which a server at `host` may be asked for; None for any, at all addresses."""
    if host in ("", "0.0.0.0", "::"):
        return None
    return {f"[{host}]" if ":" in host else host.lower(), "localhost", "127.0.0.1", "[::1]"}


def application(
    run: Trained, gallery: File | None = None, hosts: AbstractSet[str] | None = None
) -> FastAPI:
    """The page and the API, for those who ask for one of `hosts`; None: by any name.

    A page in a browser must be of such a host, too; with None, of the one that it asks. Raises
    ValueError where a run has no threshold, or the gallery is not of its embeddings.
    """
    segments, answers = isinstance(run.experiment.task, Segmentation), Answers(run)
    known, paths, points = {} if segments else threshold(run), [], np.zeros((0, 0))
    if gallery is not None:
        run.check(Embedding)
        gallery = os.path.expanduser(gallery)  # A shell leaves the ~ of --gallery=~/x as it is.
        paths, points, _, mark = read_gallery(gallery)
        if mark != fingerprint(run):
            problem = f"{gallery} was embedded by another model, or at another step"
            command = f"python -m zoo embed {shlex.quote(str(run.workdir))} PICTURES"
            command += f" --out {shlex.quote(str(gallery))}"
            raise ValueError(f"{problem}; write it by {command}, at the same --step.")
        paths = paths.tolist()
    api = FastAPI(
        title=run.name,
        docs_url=None,  # FastAPI's own page loads its scripts from the net.
        redoc_url=None,
        responses={code: {"model": Error} for code in (403, 404, 413, 415, 422, 503)},
        exception_handlers=dict.fromkeys(
            (AnyHTTPException, RequestValidationError, ValueError, Exception), refuse
        ),
    )

    @api.middleware("http")
    async def limit(request: Request, call_next):
        # Else a page of the net could use all, by a name that is made to mean this machine,
        # or make it work, by a form or a script: of these a browser tells the page's Origin.
        asked = request.headers.get("host", "")
        named = asked, request.headers.get("origin", asked).rpartition("//")[2]
        host, page = (re.sub(r":\d*$", "", name.lower()) for name in named)
        allowed = hosts or {host}
        if strange := {host, page} - allowed:
            alone = f"This server answers to {', '.join(sorted(allowed))} alone"
            problem = f"{alone}, not to {min(strange)}; see --host."
            return await refuse(request, HTTPException(403, problem))
        # The header, which uvicorn holds the body to, tells before anything is read.
        length = int(request.headers.get("content-length", 0))
        if length > MAX_BYTES or "transfer-encoding" in request.headers:
            problem = f"A request holds at most {MAX_BYTES} bytes, told by its Content-Length."
            return await refuse(request, HTTPException(413, problem))
        return await call_next(request)

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page():
        return pathlib.Path(__file__).with_name("page.html").read_text("utf-8")

    @api.get("/api/run", response_model=Run)
    async def facts():
        task = "segmentation" if segments else "embedding"
        return {"name": run.name, "step": run.step, "task": task, "gallery": len(paths)}

    if segments:

        @api.post("/api/segment", response_model=Segmented)
        async def segment(picture: UploadFile):
            return await answers.ask(lambda ids: segmented(ids, run.info), picture)

        return api

    def verdict(distance: float) -> dict:
        return {"distance": distance, "same": distance <= known["threshold"], **known}

    @api.post("/api/verify", response_model=Verdict)
    async def verify(a: UploadFile, b: UploadFile):
        """Whether two pictures show the same, by a threshold of their distance.

        It is Euclidean, or minus the logit where the model judges pairs.
        """

        def judged(x: np.ndarray, y: np.ndarray) -> dict:
            return verdict(float(pair_distances(run.model, run.variables, x[None], y[None])[0]))

        return await answers.ask(judged, a, b)

    @api.post("/api/search", response_model=list[Neighbour])
    async def search(picture: UploadFile, k: int = Query(12, ge=1, le=100)):
        """The gallery's k nearest pictures, nearest first, by the distance of /api/verify."""
        if gallery is None:
            hint = "give it a FILE.npz that python -m zoo embed wrote"
            raise HTTPException(404, f"This server was started without --gallery; {hint}.")

        def found(x: np.ndarray) -> list[dict]:
            rows, distances = (them.tolist() for them in nearest(run, points, x, k))
            pairs = zip(rows, distances, strict=True)
            return [{"index": n, "path": printable(paths[n]), **verdict(d)} for n, d in pairs]

        return await answers.ask(found, picture)

    @api.get("/api/gallery/{index}", response_class=FileResponse)
    def show(index: int):
        if not 0 <= index < len(paths):
            raise HTTPException(404, f"The gallery has no picture {index}.")
        path, shown = paths[index], printable(paths[index])
        if not os.path.isfile(path):
            raise HTTPException(404, f"{shown} is gone; embed the gallery's pictures anew.")
        # An edited gallery may name any file, and a name may lie of what is inside.
        with contextlib.suppress(Exception), Image.open(path, formats=FORMATS) as header:
            # A phone's MPO begins as a JPEG, which browsers know.
            kind = "image/jpeg" if header.format == "MPO" else header.get_format_mimetype()
            return FileResponse(path, media_type=kind, headers=OWN)
        raise HTTPException(404, f"{shown} is none of {', '.join(FORMATS)} inside.")

    return api


def printable(path: str) -> str:
    """A path as JSON takes it: what is no UTF-8 is escaped."""
    return path.encode(errors="backslashreplace").decode()


async def refuse(_: Request, error: Exception) -> JSONResponse:
    """An error as JSON; what is no fault of the request is also logged by uvicorn."""
    status, headers = getattr(error, "status_code", 422), getattr(error, "headers", None)
    if isinstance(error, RequestValidationError):
        problem = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
    elif isinstance(error, ValueError | AnyHTTPException):
        problem = getattr(error, "detail", str(error))
    else:
        status, problem = 500, "The server failed; its terminal says why."
    return JSONResponse({"error": problem}, status, headers)


class Answers:
    """The queue and the thread."""

    def __init__(self, run: Trained):
        self.run, self.queue = run, queue.Queue(WAITING)
        threading.Thread(target=self._go_on, daemon=True).start()

    def ask(self, finish: Callable[..., Any], *uploads: UploadFile) -> asyncio.Future:
        """`finish` of what the model says of each upload: class ids [h, w], or embedding [d]."""
        future = Future()
        try:
            self.queue.put_nowait((finish, uploads, future))
        except queue.Full:
            wait = {"Retry-After": "1"}
            raise HTTPException(503, f"{WAITING} requests wait; try again.", wait) from None
        return asyncio.wrap_future(future)

    def _go_on(self) -> None:
        while True:
            asked = [self.queue.get()]
            time.sleep(PATIENCE)
            while len(asked) < BATCH and not self.queue.empty():
                asked.append(self.queue.get_nowait())
            # False of those who are gone; the others can no longer go.
            self._answer([one for one in asked if one[2].set_running_or_notify_cancel()])

    def _answer(self, asked: list) -> None:
        try:
            uploads = [upload for _, own, _ in asked for upload in own]
            said = iter(self._apply([read(upload, self.run.info.channels) for upload in uploads]))
            done = [finish(*itertools.islice(said, len(own))) for finish, own, _ in asked]
        except Exception as error:  # noqa: BLE001 It is raised where it was asked for.
            if len(asked) == 1:
                return asked[0][2].set_exception(error)
            for one in asked:  # Each by itself: one's fault is not the others'.
                self._answer([one])
        else:
            for (_, _, future), answer in zip(asked, done, strict=True):
                future.set_result(answer)

    def _apply(self, images: list[np.ndarray]) -> Sequence[np.ndarray]:
        how = {"preprocess": self.run.preprocess}
        if not isinstance(self.run.experiment.task, Segmentation):
            return embed(self.run.model, self.run.variables, images, **how)
        shapes = {image.shape for image in images}
        # All or each: two programs to compile for a size. Of large ones the tiles are batch enough.
        together = len(images) == BATCH and len(shapes) == 1 and images[0].size <= 3 * TILE**2
        batches = [np.stack(images)] if together else [image[None] for image in images]
        return [i for b in batches for i in predict(self.run.model, self.run.variables, b, **how)]
