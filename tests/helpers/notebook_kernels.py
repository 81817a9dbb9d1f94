"""A notebook's kernel, forked from a process that has imported masc, for nbclient.

Not called `kernels`: transformers looks whether a package of that name is there, and would find this file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from nbclient import NotebookClient
from nbformat import NotebookNode

from warm import heavy


@contextmanager
def kernel(folder: Path, scratch: Path) -> Iterator[BlockingKernelClient]:
    """One that runs in a folder; it ends with the context. scratch: where its own files go."""
    place, script = str(scratch / "kernel.json"), scratch / "kernel.py"
    write_connection_file(place, ip="127.0.0.1")
    script.write_text("from ipykernel.kernelapp import launch_new_instance\nlaunch_new_instance()\n")
    running = threading.Thread(target=lambda: heavy().call("-f", place, script=script, cwd=folder))
    running.start()
    client = BlockingKernelClient()
    client.load_connection_file(place)
    client.start_channels(hb=False)  # it beats only once the kernel has started
    try:
        client.wait_for_ready(timeout=120)
        yield client
    finally:
        client.shutdown()
        running.join()
        client.stop_channels()


def execute(notebook: NotebookNode, folder: Path, scratch: Path) -> None:
    """Run all cells in a folder; their outputs are put into the notebook. CellExecutionError where one fails."""
    with kernel(folder, scratch) as client:
        runner = NotebookClient(notebook, timeout=200)
        runner.kc = client
        for number, cell in enumerate(notebook.cells):
            runner.execute_cell(cell, number)
