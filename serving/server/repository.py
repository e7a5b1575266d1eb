"""A directory of models -> the models that a server holds, in versions that can be replaced while it serves.

A model's folder holds a card and its files, which is then version 1, or numbered folders, each with a card. The newest
version that opens answers. Nothing takes its place before it is verified, opened and run once; a request that has found
a model keeps it, whatever happens meanwhile. A name that a client sends is looked up in a table, and never becomes a
path. Who serves may put links to folders there; a file that leads out of its own folder is refused.
"""

import logging
import re
import threading
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from serving.card import Card, CardError, read_card, to_line
from serving.pipeline import Pipeline
from serving.server.batching import BatchingOptions
from serving.server.errors import UnavailableError, UnknownModelError
from serving.server.inference import ServedModel
from serving.server.metrics import Metrics
from serving.session import ModelFileError, ProviderError, count_cores

logger = logging.getLogger("serving")

INTERVAL = 2.0  # seconds between two looks at the directory
QUOTE = 200  # characters of what a client sent, in a message
LOADING_ERRORS = (CardError, ModelFileError, ProviderError, OSError)
Signature = tuple[tuple[str, int, int, int], ...]
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


class _SecondModelError(CardError):
    """Another folder has a model of this name already."""


@dataclass(eq=False)
class _Version:
    """What is known of one folder with a card.

    home: the model's folder. files: those that the card says are served. signature: of the files when they were last
    tried. seen: at the last look, as what is still being written is not tried. missing: whether the last look did not
    find it. reason: why its files, as they are now, do not serve. state: empty where it is none of those to be served.
    """

    name: str
    version: str
    folder: Path
    home: Path
    files: tuple[str, ...] = ()
    signature: Signature = ()
    seen: Signature = ()
    missing: bool = False
    reason: str = ""
    state: str = ""
    model: ServedModel | None = None


class Repository:
    """Models by name, each in versions; safe to share between threads.

    Attributes: metrics, of all models; options, of their batches.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        require_gpu: bool = False,
        watch: bool = False,
        interval: float = INTERVAL,
        names: Sequence[str] = (),
        batching: BatchingOptions = BatchingOptions(),  # noqa: B008 (frozen)
        unload_after: float | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Open every model, and run each once.

        Args:
            directory: one folder for each model: a card with its files, or numbered folders of such.
            threads: CPU threads of one model's run; as many as there are cores for this process when not given.
            providers, require_gpu: as in `Session`.
            watch: look at the directory from time to time: what is new there, or changed, or gone. What can't be opened
                is then reported, and does not stop the others; otherwise it is an error.
            interval: seconds between two looks. What is found is opened when it has not changed from one to the next.
            names: of the models to serve; all when empty.
            batching: how requests share batches, and how large they may be.
            unload_after: seconds without a request after which a model's memory is given back; its next request opens
                it again. Never when not given.
            metrics: to count in; of its own when not given.

        Raises:
            CardError: there is no such directory, or, without `watch`: there is no model, or none of a name that was
                given, two have one name, or a card or file is not what it should be.
            ModelFileError: without `watch`, as in `Session`.
            ProviderError: as in `Session`.
        """
        self._root, self._names = Path(directory), tuple(names)
        if not self._root.is_dir():
            raise CardError(f"{self._root}: there is no such directory of models")
        if interval <= 0 or (unload_after is not None and unload_after <= 0):
            raise ValueError(f"interval={interval}, unload_after={unload_after}: give seconds, more than 0")
        self.metrics, self.options = metrics or Metrics(), batching
        self._open = partial(
            Pipeline.from_directory,
            threads=threads or count_cores(),
            providers=providers,
            require_gpu=require_gpu,
            spinning=False,  # whoever shares the machine needs the cores that would wait busily
        )
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._records: dict[Path, _Version] = {}
        self._unreadable: set[Path] = set()
        self._unload_after, self._watching = unload_after, watch
        self._closed = threading.Event()
        self._look(first=True)
        if not watch:
            self._require_models()
        self._thread: threading.Thread | None = None
        if watch or unload_after is not None:
            self._thread = threading.Thread(target=self._repeat, args=(interval,), name="serving-models", daemon=True)
            self._thread.start()

    def names(self) -> list[str]:
        """Of all models that answer, in order."""
        with self._lock:
            return sorted({record.name for record in self._records.values() if record.model})

    def versions(self, name: str) -> list[str]:
        """Of a model, those that answer, oldest first.

        Raises:
            UnknownModelError: there is no such model.
        """
        return [record.version for record in self._of(name) if record.model]

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """A model by name, in its newest version that opens, or the one that is asked for; nothing is opened by this.

        Raises:
            UnknownModelError: there is no such model or version; the message names those there are.
            UnavailableError: it is there, and does not open.
        """
        records = self._of(name)
        if version is not None:
            records = [record for record in records if record.version == version]
            if not records:
                raise UnknownModelError(f"{name!r} has no version {version[:QUOTE]!r}: it has {self.versions(name)}")
        answering = [record.model for record in records if record.model]
        if not answering:
            raise UnavailableError(f"{name!r} can't be opened; the server's log says why")
        return answering[-1]

    def state(self, name: str) -> dict[str, Any]:
        """What a status page says of a model.

        Returns:
            state: "ready", or "loading", "broken" or "unloading" where no version answers; reason, why not all is well,
            empty where it is; version, that answers where none is asked for, or None; provider, of ONNX Runtime, or
            None; loaded, whether it is in memory; versions, by number: state and reason of each.

        Raises:
            UnknownModelError: there is no such model.
        """
        records = self._of(name)
        answering = next((record.model for record in reversed(records) if record.model), None)
        state = "unloading" if self._closed.is_set() else "ready" if answering else records[-1].state
        return {
            "state": state,
            "reason": next((record.reason for record in reversed(records) if record.reason), ""),
            "version": answering.version if answering else None,
            "provider": answering.provider if answering else None,
            "loaded": answering is not None and answering.loaded,
            "versions": {record.version: {"state": record.state, "reason": record.reason} for record in records},
        }

    def states(self) -> dict[str, dict[str, Any]]:
        """The state of every model, of those that do not answer as well."""
        with self._lock:
            names = sorted({record.name for record in self._records.values() if record.state})
        return {name: self.state(name) for name in names}

    def ready(self) -> bool:
        """Whether it answers: from the end of its constructor, which opens all models, until it is closed."""
        return not self._closed.is_set()

    def look(self) -> None:
        """Take up what has changed in the directory, where it is watched, and unload what was not used for long.

        What is new or changed is opened if it is as it was at the look before.
        """
        if self._watching:
            self._look(first=False)
        if self._unload_after is not None:
            with self._lock:
                models = [record.model for record in self._records.values() if record.model]
            for model in models:
                if model.loaded and not model.in_hand and time.monotonic() - model.used >= self._unload_after:
                    model.unload()
                    logger.info("%s, version %s: unloaded, as nothing asks for it", model.card.name, model.version)

    def close(self) -> None:
        """Stop looking at the directory; who has found a model can use it on."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _of(self, name: str) -> list[_Version]:
        """The records of a model, by ascending version."""
        with self._lock:
            records = [record for record in self._records.values() if record.name == name and record.state]
        if not records:
            raise UnknownModelError(f"there is no model {name[:QUOTE]!r}: this server has {self.names()}")
        return sorted(records, key=lambda record: int(record.version))

    def _repeat(self, interval: float) -> None:
        while not self._closed.wait(interval):
            try:
                self.look()
            except Exception:  # whatever it was, the models that there are answer on
                logger.exception("looking at %s failed", self._root)

    def _look(self, first: bool) -> None:
        """Compare the directory with what is known of it; first: at the start, when nothing is still being written."""
        with self._looking:
            try:
                found = dict(self._list_folders())
            except OSError as error:
                if first:
                    raise
                logger.warning("%s can't be read, and what was found there is served on: %s", self._root, error)
                return
            self._forget(found)
            for folder, (name, version, home) in found.items():
                with self._lock:
                    record = self._records.setdefault(folder, _Version(name, version, folder, home))
                signature = _sign(folder, record.files)
                settled = first or signature == record.seen
                record.seen = signature
                if settled and signature != record.signature:
                    self._try(record, first)

    def _list_folders(self) -> Iterator[tuple[Path, tuple[str, str, Path]]]:
        """Folder with a card -> name of the model as far as the folder says it, version, and the model's folder."""
        for home in sorted(self._root.iterdir()):
            if home.name.startswith(".") or not home.is_dir():
                continue
            try:
                yield from self._list_versions(home)
                self._unreadable.discard(home)
            except OSError as error:  # such as the folder lost+found of a disk
                if home not in self._unreadable:
                    logger.warning("%s can't be read, and what was found there is served on: %s", home, error)
                self._unreadable.add(home)
                known = [record for record in self._records.values() if record.home == home]
                yield from ((record.folder, (record.name, record.version, home)) for record in known)

    def _list_versions(self, home: Path) -> Iterator[tuple[Path, tuple[str, str, Path]]]:
        if (home / "card.json").exists():
            yield home, (home.name, "1", home)
            return
        for folder in sorted(home.iterdir()):
            if _VERSION.fullmatch(folder.name) and (folder / "card.json").exists():
                yield folder, (home.name, folder.name, home)

    def _try(self, record: _Version, first: bool) -> None:
        """Open a version whose files are new or changed; what it was before serves on if that fails."""
        name, card = record.name, None
        record.signature = _sign(record.folder, record.files)
        try:
            card = read_card(record.folder)
            # A folder without numbers may have any name. In one with numbers, it would not be clear whose they are.
            if record.folder != record.home and card.name != record.home.name:
                raise CardError(
                    f"{record.folder / 'card.json'}: a card of {card.name!r} in the folder of another model"
                )
            name = card.name
            if not self._is_wanted(name):
                return
            if card.abilities[card.default_ability].file is None:
                logger.warning("%s: not served: its default ability has no ONNX file", record.folder)
                return
            record.files = tuple(sorted({ability.file for ability in card.abilities.values() if ability.file}))
            record.signature = _sign(record.folder, record.files)
            self._require_single(record, name)
            self._replace(record, card)
        except LOADING_ERRORS as error:
            if not self._is_wanted(name):
                return
            # With a watched directory, what is wrong there is reported; that there is no GPU will not change.
            if first and (isinstance(error, ProviderError) or not self._watching):
                raise
            self._fail(record, name, error)

    def _replace(self, record: _Version, card: Card) -> None:
        before, began = record.model, time.monotonic()
        if not before:
            record.name, record.state = card.name, "loading"
        model = ServedModel(
            card,
            partial(self._open_pipelines, record.folder, card),
            self.options,
            version=record.version,
            metrics=self.metrics,
        )
        with self._lock:
            record.name, record.state, record.reason, record.model = card.name, "ready", "", model
            record.seen = record.signature
        if before:
            self.metrics.unset_serving(before.card.name, before.version, before.provider)
        self.metrics.set_serving(card.name, record.version, model.provider)
        self.metrics.count_load(card.name, "ready")
        logger.info(
            "%s, version %s: ready on %s in %.1f s: %s",
            *(card.name, record.version, model.provider, time.monotonic() - began, ", ".join(model.abilities)),
        )
        # Who asks for an older one by its number gets it all the same.
        for older in [each.model for each in self._of(card.name) if each.model][:-1]:
            older.unload()

    def _open_pipelines(self, folder: Path, card: Card) -> dict[str, Pipeline]:
        names = sorted(name for name, ability in card.abilities.items() if ability.file)
        pipelines = {name: self._open(folder, ability=name) for name in names}
        if any(pipeline.card != card for pipeline in pipelines.values()):
            raise CardError(f"{folder / 'card.json'}: changed while the model was opened")
        return pipelines

    def _fail(self, record: _Version, name: str, error: Exception) -> None:
        reason = to_line(str(error))
        if reason != record.reason:
            serves_on = "; what it was before serves on" if record.model else ""
            logger.error("%s, version %s: not served: %s%s", name, record.version, reason, serves_on)
            self.metrics.count_load(name, "broken")
        if isinstance(error, _SecondModelError | OSError):  # may be right without any change of these files
            record.signature = ()
        with self._lock:
            record.reason = reason
            if not record.model:
                record.name, record.state = name, "broken"

    def _forget(self, found: Container[Path]) -> None:
        """Drop what is gone for two looks: a folder that is replaced by another is away for a moment."""
        for folder, record in list(self._records.items()):
            gone, record.missing = record.missing and folder not in found, folder not in found
            if gone:
                with self._lock:
                    del self._records[folder]
                logger.info("%s, version %s: its folder is gone, not served any more", record.name, record.version)
                if record.model:
                    self.metrics.unset_serving(record.name, record.version, record.model.provider)

    def _require_single(self, record: _Version, name: str) -> None:
        with self._lock:
            others = [each for each in self._records.values() if each.name == name and each.state]
        if any(each.home != record.home for each in others):
            raise _SecondModelError(f"{record.folder / 'card.json'}: a second model named {name!r}")

    def _is_wanted(self, name: str) -> bool:
        return not self._names or name in self._names

    def _require_models(self) -> None:
        names = self.names()
        if missing := [name for name in self._names if name not in names]:
            raise CardError(f"{self._root}: no model to serve is named {', '.join(missing)}")
        if not names:
            raise CardError(f"{self._root}: no model to serve: each is a subdirectory with a card.json")


def _sign(folder: Path, files: Sequence[str]) -> Signature:
    """Changes when a file is replaced or written to."""
    found = []
    for name in ("card.json", *files):
        try:
            stat = (folder / name).stat()
        except OSError:
            found.append((name, 0, 0, 0))
        else:
            found.append((name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)
