"""How often the page in the browser follows while a loop is dragged, and what 5,000 updates cost.

    python benchmarks/browser.py [OPTFILE]

Drags a loop of a shape of the model (`demo-vases-optfile.txt` by default) to and fro for some
seconds, with places of the gizmo as a browser sends them, 30 a second. Prints how many times a
second the loops reached a client, how long they took from the hand to there, and the processor time
of an update in the editor's thread, which hardly depends on what else the machine does. What the
browser then draws costs the machine in front of it, and is not counted.

After that, a page in Chromium (left out where there is none) gets 5,000 updates. Prints the memory
of this program and of the page's scripts along the way.
"""

import dataclasses
import shutil
import statistics
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).parent)]

from dragged import STARTS, session_of_optfile  # noqa: E402

SECONDS = 8
EVENTS_A_SECOND = 30
STEP = 0.004  # of a drag, in an event
N_UPDATES, MARKS = 5000, (500, 2500, 5000)
CLIENT = 0
LEAST_BYTES = 20_000  # a message of this size holds loops


def main():
    with session_of_optfile(__doc__) as (session, optfile):
        from loopdraw.view.browser.page import open_page

        page = open_page()
        thread = page.start_editing(session, "edit")
        print(f"{optfile}: {session.editor.shape.n_loops} loops")
        while session.dimensions is None or not page.editor.surfaces.is_fine:
            time.sleep(0.1)  # what is done once is done
        print("dragged loop   updates a second   from hand to client (median)   processor time")
        for start in STARTS:
            page.editor.events.ask(begin, page.editor, start).result()
            rate, delay, busy = drag(page)
            print(
                f"{start:12d}{rate:19.1f}{1000 * delay:24.0f} ms{1000 * busy:18.0f} ms", flush=True
            )
        remember(page)
        page.editor.finish()
        thread.join()
        page.close()


def begin(editor, loop):
    """Pick a loop of the shape without edits, with the hand off the gizmo."""
    editor.session.editor.set_edits([])
    editor.session.pick(loop)
    editor._hand = None
    editor.follow()


def drag(page):
    """Updates a second that reach a client, their median delay, and processor time of each."""
    editor, arrivals, places, times = page.editor, [], [], []
    connected, stop = threading.Event(), threading.Event()
    # The hand must be that of somebody who has the page open.
    client = types.SimpleNamespace(add_notification=lambda *_, **__: None)
    page.server.viser.get_clients = lambda: {CLIENT: client}

    def follow_hand(sent, place):
        places.append(sent)
        times.append(time.thread_time())
        editor._drag(CLIENT, place, wxyz)

    receiver = threading.Thread(target=receive, args=(page, arrivals, places, connected, stop))
    receiver.start()
    connected.wait()
    time.sleep(1.0)  # what was there before has arrived
    events, wxyz = editor.events, editor.gizmo.wxyz
    place, sideways = editor.gizmo.position.copy(), editor.session.editor.info.planes[0][2]
    events.put(editor._grasp, CLIENT)
    until = time.perf_counter() + SECONDS
    for n in range(SECONDS * EVENTS_A_SECOND):
        place = place + (STEP if n // 25 % 2 == 0 else -STEP) * sideways
        events.put(follow_hand, time.perf_counter(), place, latest=("gizmo", CLIENT))
        time.sleep(max(0.0, until - SECONDS + (n + 1) / EVENTS_A_SECOND - time.perf_counter()))
    in_time = list(arrivals)
    events.put(editor._let_go, CLIENT)
    stop.set()
    receiver.join()
    del page.server.viser.get_clients
    if not in_time or len(times) < 2:
        sys.exit("nothing arrived: this machine is too busy to measure")
    return len(in_time) / SECONDS, statistics.median(in_time), float(np.median(np.diff(times)))


def receive(page, arrivals, places, connected, stop):
    """Note how long after its place of the hand each message with loops arrives at a client."""
    import viser
    from websockets.sync.client import connect

    address = page.server.address.replace("http", "ws").rstrip("/")
    protocol = f"viser-v{viser.__version__}"
    with connect(address, subprotocols=[protocol], max_size=None) as connection:
        connected.set()
        while not stop.is_set():
            try:
                message = connection.recv(timeout=0.1)
            except TimeoutError:
                continue
            if len(message) > LEAST_BYTES and places:
                arrivals.append(time.perf_counter() - places[-1])


def remember(page):
    """Print the memory that this program and a page in Chromium take over many updates."""
    program = shutil.which("chromium")
    if program is None:
        print("no Chromium here: the memory of the page is not measured")
        return
    from playwright.sync_api import sync_playwright

    words = "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=words.split())
        tab = browser.new_page(viewport={"width": 400, "height": 300})
        tab.goto(page.server.address + "?fixedDpr=0.2", timeout=120_000)
        tab.wait_for_timeout(5000)
        tools = tab.context.new_cdp_session(tab)
        print("updates   this program   scripts of the page")
        for mark in range(1, N_UPDATES + 1):
            page.editor.events.ask(nudge, page.editor, mark).result()
            time.sleep(1 / 60)
            if mark in MARKS:
                tab.evaluate("new Promise(done => requestAnimationFrame(() => done()))")
                tools.send("HeapProfiler.collectGarbage")
                heap = tools.send("Runtime.getHeapUsage")["usedSize"]
                print(f"{mark:7d}{resident() / 2**20:12.0f} MB{heap / 2**20:18.0f} MB", flush=True)
        browser.close()


def nudge(editor, n):
    """Draw all loops anew, a little larger or smaller, as an update of a drag does."""
    size = 1 + 0.1 * np.sin(n / 10)
    scene = editor.drawn_scene
    loops = [[size * np.asarray(loop) for loop in of_plane] for of_plane in scene.loops_by_plane]
    editor.canvas.draw_loops(dataclasses.replace(scene, loops_by_plane=loops))


def resident():
    """Bytes of memory that this process has."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


if __name__ == "__main__":
    main()
