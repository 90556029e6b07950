"""The server behind the page: viser on one port, for those who know the address.

The address holds a token. Without it the server answers nothing, neither to other users of this
machine nor to pages of other sites that a browser has open. Files are not served: what can be
downloaded is made by the functions in `Server.answers`.
"""

import contextlib
import dataclasses
import errno
import functools
import getpass
import html
import importlib.util
import ipaddress
import logging
import os
import secrets
import socket
import traceback
import urllib.parse

from loopdraw.files import UserError

LOCAL, PORT = "127.0.0.1", 8080
MOST_PORTS = 200  # tried from PORT on
MOST_UPLOAD = 2**26  # bytes of a file that is sent to the page
MOST_UPLOADS = 2  # at a time
NOTICE_SECONDS, ERROR_SECONDS = 5.0, 12.0
VISER_MISSING = (
    "viser, which shows shapes in the browser, is not installed; install it with: pip install viser"
)
GREEN, RED = (47, 158, 68), (224, 49, 49)


def browser_available():
    """Whether viser is installed."""
    return importlib.util.find_spec("viser") is not None


class Server:
    """A running server.

    Parameters
    ----------
    host : address to listen on; by default this machine alone can connect

    Raises
    ------
    UserError
        When viser is not installed, or nothing can listen there.
    """

    def __init__(self, host=None):
        if not browser_available():
            raise UserError(f"viewer: {VISER_MISSING}")
        self.host = host or LOCAL
        self.token = secrets.token_urlsafe(16)
        self.answers = {}  # first word of a path -> function (rest of the path) -> Answer or None
        port = _free_port(self.host)
        import rich
        import viser

        rich.get_console().quiet = True  # viser would print a table, and more when it ends
        # Nobody need hear of a browser that went away, or of somebody who knocks at the port.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        self._guarding = False
        with self._guarded():
            self.viser = viser.ViserServer(self.host, port, verbose=False)
        self.port = self.viser.get_port()
        if not self._guarding:
            self.stop()
            raise UserError(
                "viewer: this version of viser cannot be guarded by a token; install "
                "the one in requirements.txt"
            )
        self._close_doors()
        self.gui, self.scene = self.viser.gui, self.viser.scene
        self.gui.configure_theme(show_logo=False, show_share_button=False)
        self.gui.set_panel_label("LoopDraw")
        self.scene.set_up_direction("+y")
        self.clear()
        # Shadows and reflections cost more time than all else without a graphics card.
        self.scene.configure_default_lights(cast_shadow=False)

    @property
    def address(self):
        """What to open in a browser."""
        host = self.host
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        return (
            f"http://[{host}]:{self.port}/{self.token}/"
            if ":" in host
            else (f"http://{host}:{self.port}/{self.token}/")
        )

    def greeting(self):
        """Lines that say where the page is and how to get there."""
        lines = [f"shapes are shown at {self.address}"]
        if self.port != PORT:
            lines[0] += f"  (port {PORT} is taken)"
        if _is_local(self.host):
            lines.append(
                f"from another machine, first: ssh -L {self.port}:{self.host}:{self.port} {_here()}"
                f"  (the page listens on {self.host} alone)"
            )
        else:
            lines.append("whoever has this address can see and edit")
        return lines

    def clear(self):
        """Make the page an empty one."""
        self.answers.clear()
        self.gui.reset()
        self.gui.main_panel.dock_right()
        self.scene.reset()
        self.scene.remove_click_callback()

    def stop(self):
        self.viser.stop()

    def notify(self, text, is_error=False):
        """Show a line to all who have the page open."""
        for client in self.viser.get_clients().values():
            client.add_notification(
                "That did not work" if is_error else "LoopDraw",
                text,
                auto_close_seconds=ERROR_SECONDS if is_error else NOTICE_SECONDS,
                color=RED if is_error else GREEN,
            )

    def perform(self, action, arguments=(), told=None):
        """Do what somebody asked for on the page; errors become a notice.

        Parameters
        ----------
        action : function
        arguments : of the function
        told : set of the errors that were shown already and need not be again, or None
        """
        try:
            action(*arguments)
        except Exception as error:
            expected = isinstance(error, (UserError, ValueError))
            text = str(error) if expected else f"{type(error).__name__}: {error}"
            if told is not None:
                if text in told:
                    return
                told.add(text)
            self.notify(text, is_error=True)
            if not expected:
                traceback.print_exc()

    # ------------------------------------------------------------------------------------ the door

    @contextlib.contextmanager
    def _guarded(self):
        """While viser starts to listen, put our guard before it: it has no place for one."""
        import websockets.asyncio.server as sockets

        serve = sockets.serve

        def guarded(*arguments, process_request=None, **named):
            self._guarding = True
            guard = functools.partial(self._guard, process_request)
            return serve(*arguments, process_request=guard, **named)

        sockets.serve = guarded
        try:
            yield
        finally:
            sockets.serve = serve

    async def _guard(self, serve_page, connection, request):
        """The response to a request; None to go on with a connection of the page."""
        path = request.path.partition("?")[0]
        token, slash, rest = path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            return connection.respond(
                403, "Not the whole address: copy all of it, with the letters at its end.\n"
            )
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return None
        if not slash:
            response = connection.respond(302, "")
            response.headers["Location"] = f"/{self.token}/"
            return response
        word, _, rest_of_path = rest.partition("/")
        if word in self.answers:
            return await self._answer(connection, word, urllib.parse.unquote(rest_of_path))
        response = serve_page(connection, dataclasses.replace(request, path=f"/{rest}"))
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def _answer(self, connection, word, rest):
        try:
            answer = await self.answers[word](rest)
        except UserError as error:
            return connection.respond(404, f"{error}\n")
        except Exception:
            traceback.print_exc()
            return connection.respond(500, "an error; the program has printed it\n")
        response = connection.respond(200, "")
        if answer is not None:
            response.body = answer.content
            del response.headers["Content-Type"], response.headers["Content-Length"]
            response.headers["Content-Type"] = answer.kind
            response.headers["Content-Length"] = str(len(answer.content))
            if answer.name:
                response.headers["Content-Disposition"] = f'attachment; filename="{answer.name}"'
        response.headers["Cache-Control"] = "no-store"
        return response

    def _close_doors(self):
        """Leave out what viser offers and this page must not: sharing, uploads without bounds."""
        from viser import _messages as messages

        listener, gui = self.viser._websock_server, self.viser.gui
        for kind in (messages.ShareUrlRequest, messages.ShareUrlDisconnect):
            listener.unregister_handler(kind)

        def begin(client_id, message):
            running = gui._current_file_upload_states
            if message.size_bytes <= MOST_UPLOAD and len(running) < MOST_UPLOADS:
                gui._handle_file_transfer_start(client_id, message)
                return
            # As if it had all come: else the browser would show its progress for ever.
            listener.queue_message(
                messages.FileTransferPartAck(
                    source_component_uuid=message.source_component_uuid,
                    transfer_uuid=message.transfer_uuid,
                    transferred_bytes=message.size_bytes,
                    total_bytes=message.size_bytes,
                )
            )
            why = f"send at most {MOST_UPLOAD >> 20} MB, and one file after the other"
            self.notify(f"{message.filename}: not taken; {why}", is_error=True)

        def go_on(client_id, message):
            state = gui._current_file_upload_states.get(message.transfer_uuid)
            if state is None:
                return
            if state["transferred_bytes"] + len(message.content) > state["total_bytes"]:
                del gui._current_file_upload_states[message.transfer_uuid]
                return
            gui._handle_file_transfer_part(client_id, message)

        listener.unregister_handler(messages.FileTransferStartUpload)
        listener.register_handler(messages.FileTransferStartUpload, begin)
        listener.unregister_handler(messages.FileTransferPart)
        listener.register_handler(messages.FileTransferPart, go_on)


@dataclasses.dataclass
class Answer:
    """What a path of the page gives: bytes of some kind, to be saved under a name or shown."""

    content: bytes
    kind: str = "application/octet-stream"
    name: str = ""


def escape(text):
    """Text for HTML of the page."""
    return html.escape(str(text), quote=True)


def _is_local(host):
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _here():
    """This machine, as an `ssh` line names it."""
    connection = os.environ.get("SSH_CONNECTION", "").split()
    machine = connection[2] if len(connection) == 4 else socket.gethostname()
    with contextlib.suppress(Exception):  # who has no name here
        return f"{getpass.getuser()}@{machine}"
    return machine


def _free_port(host):
    """The first port from PORT on that nobody listens on."""
    try:
        family, *_, (address, *_) = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError) as error:  # ValueError: no name can be like that
        raise UserError(
            f"--viewer_host {host}: no such address ({error}); leave it out to listen on {LOCAL}"
        ) from None
    for port in range(PORT, PORT + MOST_PORTS):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except PermissionError:
                continue
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise UserError(
                    f"--viewer_host {host}: nothing can listen there ({error.strerror}); name an "
                    f"address of this machine, or leave it out"
                ) from None
            return port
    raise UserError(f"viewer: the ports {PORT} to {PORT + MOST_PORTS - 1} are all taken")
