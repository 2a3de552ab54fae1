"""Real servers for the tests, fetched from Maven Central and started as a person would.

Both fixtures give a URL, once a session. SPLADE_ES_TEST_OPENSEARCH_URL and
SPLADE_ES_TEST_ELASTICSEARCH_URL name servers that run already (from `compose/`, say) and win.
A server that cannot be had is a skip that says what to install, and a failure where CI is set.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CACHE = TESTS.parent / ".cache" / "servers"
OPENSEARCH, OPENSEARCH_OLD = "3.5.0", "3.2.0"
ELASTICSEARCH, ELASTICSEARCH_OLD = "9.5.0", "8.19.21"
STARTUP_SECONDS = 180
#: Users of the Elasticsearch started here: a superuser, one who may look but not write, one who may
#: no more than load and search books*, as the README says, and one who may create documents there
#: but not replace them.
USER, READER, LOADER, CREATOR = "tester", "reader", "loader", "creator"
PASSWORD = "splade-tests"
LOADER_PRIVILEGES = (
    "create_index", "index", "delete", "read", "view_index_metadata", "maintenance",
)  # fmt: skip
PASSWORD_BCRYPT = "$2a$10$kWBdKId1CvV3IOCO0qMek.mn0c48f9uIxePy4QprW4681Ih8vK4Ey"


class CannotStart(Exception):
    """Why a server cannot be had on this machine."""


@pytest.fixture(scope="session")
def opensearch_url() -> Iterator[str]:
    yield from _url("SPLADE_ES_TEST_OPENSEARCH_URL", "opensearch", OPENSEARCH)


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """Where the tests start it, security is on: the URL holds user and password."""
    yield from _url("SPLADE_ES_TEST_ELASTICSEARCH_URL", "elasticsearch", ELASTICSEARCH)


@pytest.fixture(scope="session")
def old_opensearch_url() -> Iterator[str]:
    yield from _url("SPLADE_ES_TEST_OLD_OPENSEARCH_URL", "opensearch", OPENSEARCH_OLD)


@pytest.fixture(scope="session")
def old_elasticsearch_url() -> Iterator[str]:
    yield from _url("SPLADE_ES_TEST_OLD_ELASTICSEARCH_URL", "elasticsearch", ELASTICSEARCH_OLD)


def _url(variable: str, product: str, version: str) -> Iterator[str]:
    if running := os.environ.get(variable):
        yield running
        return
    remedy = f" (or set {variable} to the URL of a running server)"
    with or_skip(remedy), running_server(product, version) as server:
        yield server.url


@contextmanager
def or_skip(remedy: str = "") -> Iterator[None]:
    """What cannot be had on this machine is skipped, and fails where CI is set."""
    try:
        yield
    except CannotStart as exc:
        if os.environ.get("CI"):
            pytest.fail(str(exc))
        pytest.skip(f"{exc}{remedy}")


class Server:
    """A server of the tests. It can be killed and started again, with its data and its port.

    url: with user and password where it asks for them; folder: all it has.
    """

    def __init__(
        self, command: list[str], folder: Path, environment: dict[str, str], url: str
    ) -> None:
        self.url = url
        self.folder = folder
        self._command, self._environment = command, environment
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Begin to start. The server lives no longer than the thread that calls this."""
        self._process = _spawn(self._command, self.folder, self._environment)

    def start(self) -> bool:
        """Spawn, and wait until it is up or gives up; whether it is up."""
        self.spawn()
        return self.answers()

    def answers(self) -> bool:
        """Whether it came up."""
        assert self._process is not None
        return _answers(self._process, self.url)

    def hang(self) -> None:
        """Answer nothing more, and keep every connection."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None:
            _kill(self._process)


@contextmanager
def running_server(
    product: str, version: str, files: Path | None = None, **settings: str
) -> Iterator[Server]:
    """A server of its own, with empty data, gone when the block ends.

    files, settings: for Elasticsearch's folder config, and elasticsearch.yml in it.
    """
    java, software = java_home(), fetched(product, version)
    folder = Path(tempfile.mkdtemp(prefix=f"splade-es-{product}-"))
    server = None
    try:
        for _ in range(3):  # another program may take the port between the look and the start
            if product == "opensearch":
                server = _opensearch(java, software, folder)
            else:
                server = _elasticsearch(java, software, folder, files, settings)
            if server.start():
                break
        else:
            log = (folder / "server.log").read_text(errors="replace")[-3000:]
            raise CannotStart(f"{product} {version} did not start; the end of its log:\n{log}")
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_cluster(count: int) -> Iterator[list[Server]]:
    """OpenSearch nodes that make one cluster, each in a process of its own."""
    java, software = java_home(), fetched("opensearch", OPENSEARCH)
    folder = Path(tempfile.mkdtemp(prefix="splade-es-cluster-"))
    names = [f"n{n}" for n in range(count)]
    transport = [str(_free_port()) for _ in names]
    hosts = ",".join(f"127.0.0.1:{port}" for port in transport)
    servers = []
    for name, port in zip(names, transport, strict=True):
        http = _free_port()
        command = [str(java / "bin/java"), "--enable-native-access=ALL-UNNAMED", "-Xmx400m"]
        command += ["-cp", f"{software}/*", str(TESTS / "Node.java"), str(folder / name)]
        command += [name, str(http), port, ",".join(names), hosts]
        (folder / name).mkdir()
        url = f"http://127.0.0.1:{http}"
        servers.append(Server(command, folder / name, dict(os.environ), url))
    try:
        for server in servers:
            server.spawn()  # none is up before they have found each other
        if not all(server.answers() for server in servers):
            raise CannotStart(f"the cluster did not start: look into {folder}")
        yield servers
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _opensearch(java: Path, software: Path, folder: Path) -> Server:
    base = next(  # the runner refuses other ports, and its first node listens on base + 1
        port for port in random.sample(range(9200, 9291), 91) if _is_free(port + 1)
    )
    command = [str(java / "bin/java"), "--enable-native-access=ALL-UNNAMED", "-Xmx512m"]
    command += ["-cp", f"{software}/*", "org.codelibs.opensearch.runner.OpenSearchRunner"]
    command += ["-numOfNode", "1", "-basePath", str(folder / f"node-{base}")]
    command += ["-baseHttpPort", str(base), "-clusterName", f"splade-es-{base}"]
    return Server(command, folder, dict(os.environ), f"http://127.0.0.1:{base + 1}")


def _elasticsearch(
    java: Path, software: Path, folder: Path, files: Path | None, settings: dict[str, str]
) -> Server:
    home = folder / "elasticsearch"  # its own copy: it writes keystore, data and logs there
    if not home.exists():
        shutil.copytree(software, home)
    if files:
        shutil.copytree(files, home / "config", dirs_exist_ok=True)
    http, transport = _free_port(), _free_port()
    (home / "config/elasticsearch.yml").write_text(
        f"discovery.type: single-node\nhttp.host: 127.0.0.1\nhttp.port: {http}\n"
        f"transport.port: {transport}\nxpack.security.enabled: true\n"
        "xpack.security.autoconfiguration.enabled: false\n"
        "cluster.routing.allocation.disk.threshold_enabled: false\n"  # a full laptop may test too
        + "".join(f"{name}: {value}\n" for name, value in settings.items())
    )
    (home / "config/users").write_text(
        "".join(f"{name}:{PASSWORD_BCRYPT}\n" for name in (USER, READER, LOADER, CREATOR))
    )
    (home / "config/users_roles").write_text(
        f"superuser:{USER}\nreader:{READER}\nloader:{LOADER}\ncreator:{CREATOR}\n"
    )
    (home / "config/roles.yml").write_text(
        "reader: {cluster: [monitor]}\n"
        "loader: {cluster: [], indices: [{names: ['books*'], privileges: "
        f"[{', '.join(LOADER_PRIVILEGES)}]}}]}}\n"
        "creator: {cluster: [], indices: [{names: ['books*'], privileges: "
        "[create_doc, read, view_index_metadata, maintenance]}]}\n"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "ES_JAVA_HOME": str(java)}
    environment["ES_JAVA_OPTS"] = "-Xms512m -Xmx512m"
    command = [str(home / "bin/elasticsearch")]
    if os.geteuid() == 0:  # which Elasticsearch refuses to run as
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, "nobody")
        command = ["setpriv", "--reuid", "nobody", "--clear-groups", *command]
    scheme = "https" if settings.get("xpack.security.http.ssl.enabled") == "true" else "http"
    url = f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{http}"
    return Server(command, folder, environment, url)


def _spawn(
    command: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """In a process group of its own, and killed by the kernel when this process dies first."""
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", *(command[command[0] == "setpriv" :])]
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
        )


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Whether the server is up before it dies or the time is over."""
    address = re.sub(r"//.*@", "//", url)
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/_cluster/health?wait_for_status=yellow").close()
            return True
        except urllib.error.HTTPError as exc:
            exc.close()
            if exc.code == 401:  # it is up, and asks for the password already
                return True
        except urllib.error.URLError as exc:
            if isinstance(exc.reason, ssl.SSLError):  # it is up, and nobody here trusts it
                return True
        except OSError:
            pass
        time.sleep(0.3)
    _kill(process)
    return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def fetched(product: str, version: str) -> Path:
    """The folder with the server's software, out of the cache or from Maven Central."""
    target = CACHE / f"{product}-{version}"
    if target.exists():
        return target
    if shutil.which("mvn") is None:
        raise CannotStart(f"{product} {version} is fetched by Maven: install `mvn`")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        goal = "copy-dependencies" if product == "opensearch" else "unpack"
        command = ["mvn", "-q", "-B", "-f", str(TESTS / f"poms/{product}.xml")]
        command += [f"-Dserver.version={version}", f"-Dserver.directory={folder}/out"]
        done = subprocess.run(
            [*command, f"dependency:{goal}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode:
            raise CannotStart(f"Maven cannot fetch {product} {version}:\n{done.stdout.decode()}")
        made = Path(folder) / "out" / ("" if product == "opensearch" else target.name)
        with suppress(OSError):  # another run of the tests may have been quicker
            made.rename(target)
    return target


def java_home() -> Path:
    """A full JDK of version 21 or newer: both servers need one, Elasticsearch all its modules."""
    named = [os.environ[name] for name in ("ES_JAVA_HOME", "JAVA_HOME") if name in os.environ]
    homes = [*map(Path, named), *sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)]
    if on_path := shutil.which("java"):
        homes.append(Path(on_path).resolve().parent.parent)
    for home in homes:
        release = home / "release"
        found = re.search(r'JAVA_VERSION="(\d+)', release.read_text()) if release.exists() else None
        if found and int(found[1]) >= 21 and (home / "bin/javac").exists():
            return home
    raise CannotStart("The servers need a JDK, 21 or newer: install one, or set ES_JAVA_HOME")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
