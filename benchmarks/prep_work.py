"""The work of the benchmark of preparation: generated images with captions, a server for them, and who packs them."""

import csv
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

PREPARE = """
import json, resource, sys
from data_prep.pipeline import prepare
if __name__ == "__main__":
    prepare("csv", sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))
    kilobytes = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(max(kilobytes))
"""
FETCH = """
import csv, sys
from multiprocessing.pool import ThreadPool
from img2dataset.downloader import download_image_with_retry
urls = [row["url"] for row in csv.DictReader(open(sys.argv[1]))]
fetch = lambda row: download_image_with_retry(row, 10, 0, None, ["noai", "noimageai", "noindex", "noimageindex"])
with ThreadPool(int(sys.argv[2])) as pool:
    assert all(error is None for _, _, error in pool.imap_unordered(fetch, enumerate(urls)))
"""
"""What img2dataset does to get its images, by its own function, and nothing else."""

SERVE = """
import functools, http.server, os, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.request_queue_size = 256
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=sys.argv[1]))
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def generate(folder: Path, count: int, side: int) -> Path:
    """JPEGs of `side` pixels like photographs, all different, with a .txt each; and pairs.csv, which names them."""
    from PIL import Image

    folder.mkdir(parents=True)
    with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["filepath", "title"])
        for n in range(count):
            coarse = np.random.default_rng(n).integers(0, 256, (12, 12, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
            caption = f"Axial slice {n} of a generated study, with an arrow at the {n % 12 + 1} o'clock position."
            (folder / f"{n:06d}.jpg").write_bytes(buffer.getvalue())
            (folder / f"{n:06d}.txt").write_text(caption)
            table.writerow([f"{n:06d}.jpg", caption])
    return folder / "pairs.csv"


def list_urls(folder: Path, address: str, count: int) -> Path:
    """img2dataset's list of the first images and captions that `generate` made."""
    path = folder / f"urls{count}.csv"
    with open(folder / f"in{count}" / "pairs.csv", encoding="utf-8", newline="") as table, open(path, "w") as file:
        lines = csv.writer(file)
        lines.writerow(["url", "caption"])
        lines.writerows([f"{address}/{row['filepath']}", row["title"]] for row in csv.DictReader(table))
    return path


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of the folder's files, in a process of its own whose time is nobody's."""
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        _await(address)
        yield address
    finally:
        server.kill()
        server.wait()


def _await(address: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{address}/pairs.csv").read()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the server at {address} does not answer")


def prepare(table: Path, output: Path, choices: str) -> int:
    """medvlp's preparation in a new process; choices are JSON. Returns its peak memory in KiB, that of workers included."""
    command = [sys.executable, "-c", PREPARE, str(table), str(output), choices]
    return int(_run(command).split()[-1])


def img2dataset(python: str, urls: Path, output: Path, threads: int) -> None:
    """img2dataset, told to leave bytes as they are and to look for nothing in them."""
    options = {
        "url_list": urls,
        "input_format": "csv",
        "url_col": "url",
        "caption_col": "caption",
        "output_format": "webdataset",
        "output_folder": output,
        "disable_all_reencoding": True,
        "extract_exif": False,
        "processes_count": 1,
        "thread_count": threads,
        "number_sample_per_shard": 1000,
    }
    _run([python, "-c", "from img2dataset.main import main; main()", *(f"--{k}={v}" for k, v in options.items())])


def fetch(python: str, urls: Path, threads: int) -> None:
    """The transfer alone."""
    _run([python, "-c", FETCH, str(urls), str(threads)])


def tar(folder: Path, output: Path) -> None:
    """Images and captions into one tar: nothing is checked, hashed or known of them."""
    _run(["tar", "--create", "--file", str(output), "--directory", str(folder), "--exclude", "pairs.csv", "."])


def pairs_in(folder: Path) -> dict[str, str]:
    """Caption → sha256 of the image's bytes, of all tars below the folder."""
    hashes: dict[str, str] = {}
    for path in folder.rglob("*.tar"):
        members: dict[str, bytes] = {}
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member)
                members[member.name] = content.read() if content else b""
        for name, data in members.items():
            if name.endswith(".txt"):
                hashes[data.decode()] = hashlib.sha256(members[f"{name.removesuffix('txt')}jpg"]).hexdigest()
    return hashes


def _run(command: list[str]) -> str:
    # One of img2dataset's libraries asks the network for news of itself when it is imported.
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{ran.stdout}\n{ran.stderr}")
    return ran.stdout
