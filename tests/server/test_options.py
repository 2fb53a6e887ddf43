"""Every option of the table, by command line and by ini file, through the real program.

What is tried for a row comes from the row itself (`--options=json`): its default, minimum and
maximum, the values beside them, and garbage. What is wrong must give one exact sentence and
exit status 2.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness import BINARY, ROOT

Row = dict[str, Any]


def run(*args: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Any:
    """Run the program with nothing in the environment that it reads, unless given."""
    kept = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS") or k == "PATH"}
    command = [str(BINARY.absolute()), *args]
    return subprocess.run(
        command, env=kept | (env or {}), cwd=cwd, capture_output=True, text=True, timeout=60
    )


def refusal(*args: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """The sentence with which the program refuses its settings."""
    done = run(*args, env=env, cwd=cwd)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert re.fullmatch(r"myserver: [^\n]+\n", done.stderr), done.stderr
    return done.stderr.removeprefix("myserver: ").rstrip("\n")


@dataclass
class Value:
    """One line of --print-config."""

    text: str
    origin: str
    is_set: bool


def printed(
    *args: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> dict[str, list[Value]]:
    """The effective settings, from --print-config."""
    done = run(*args, "--print-config", env=env, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, ""), done
    first, *lines = done.stdout.splitlines()
    assert first == "[myserver]"
    values: dict[str, list[Value]] = {}
    for line in lines:
        match = re.fullmatch(r"(;?)([a-z-]+) =(?: (.*?))? +; (.+)", line)
        assert match, line
        value = Value((match[3] or "").replace("$$", "$"), match[4], not match[1])
        values.setdefault(match[2], []).append(value)
    return values


ROWS: list[Row] = json.loads(run("--options=json").stdout)
NAMES = [row["name"] for row in ROWS]
BOOLEANS = {row["name"] for row in ROWS if row["type"] == "BOOL"}

# ---------------------------------------------------------------- every row

NUMBER_TYPES = ("UINT", "SIZE", "MEMORY", "DURATION", "MODE", "WORKERS")


def spelled(row: Row, number: int) -> str:
    """A number as the program prints it."""
    if row["type"] == "MODE":
        return f"{number:04o}"
    if row["type"] == "DURATION":
        return f"{number}ms" if number % 1000 else f"{number // 1000}s"
    if row["type"] in ("SIZE", "MEMORY") and number:
        for power, unit in ((30, "g"), (20, "m"), (10, "k")):
            if number % (1 << power) == 0:
                return f"{number >> power}{unit}"
    return str(number)


def plain(row: Row, number: int) -> str:
    """A number in the unit that the table counts in."""
    return {"MODE": f"{number:o}", "DURATION": f"{number}ms"}.get(row["type"], str(number))


def text_of_length(row: Row, length: int) -> str:
    """A text that is right but perhaps for its length."""
    if row["type"] == "PREFIX":
        return "/x" * (length // 2) + ("x" if length % 2 else "")
    if row["name"] == "prewarm":
        return "/" + "x" * (length - 1)
    return "N=" + "x" * (length - 2) if row["type"] == "PAIRS" else "x" * length


def right(row: Row) -> Iterator[tuple[str, str]]:
    """Values that are right, and how the program prints them."""
    if row["default"] is not None and row["type"] != "WORKERS":
        yield row["default"], row["default"]
    if row["type"] in NUMBER_TYPES:
        for number in (row["min"], row["min"] + 1, row["max"] - 1, row["max"]):
            yield plain(row, number), spelled(row, number)
            yield spelled(row, number), spelled(row, number)
    elif row["type"] == "LEVEL":
        for level in ("debug", "info", "warning", "error", "critical"):
            yield from ((level, level), (level.upper(), level))
    elif row["type"] == "PROXY":
        for version in ("off", "v1", "v2", "auto"):
            yield version, version
    elif row["type"] == "BOOL":
        yield from (("true", "true"), ("false", "false"))
    elif row["name"] == "tmp-dir":
        yield "/var/tmp", "/var/tmp"
    else:
        for length in {max(row["min"], 2), row["max"]}:
            yield text_of_length(row, length), text_of_length(row, length)
    if row["type"] == "DURATION":
        yield from (("1.5", "1500ms"), ("2m", "120s"), ("0.5h", "1800s"), ("20s", "20s"))
    if row["type"] == "STRING" and row["min"] == 0:
        yield "", ""


def wrong(row: Row) -> Iterator[str]:
    """Values below, above, and garbage."""
    if row["type"] in NUMBER_TYPES:
        if row["min"] > 0 and row["name"] != "limit-request-fields":  # 0 is gunicorn's for all
            yield plain(row, row["min"] - 1)
        yield plain(row, row["max"] + 1)
        yield from ("", "x", "-1", "+1", "1x", "1 1", "0x10", "1,5", ".5", "7" * 30)
        if row["type"] == "MEMORY":
            yield from ("AUTO", "18446744073709551614", "18446744073709551615")
        if row["type"] != "DURATION":
            yield "1.5"
        else:
            yield from ("1.0005", "1.", "1 s", "5M")
    elif row["type"] == "LEVEL":
        yield from ("", "loud", "LOUD", "warn", "1")
    elif row["type"] == "PROXY":
        yield from ("", "v3", "V1", "on", "1")
    elif row["type"] == "BOOL":
        yield from ("", "x", "1", "yes", "TRUE")
    else:
        if row["min"] > 0:
            yield "x" * (row["min"] - 1)
        yield text_of_length(row, row["max"] + 1)
    if row["type"] == "PREFIX":
        yield from ("/", "shop", "/shop/", "/a b", "/a?b")
    if row["type"] == "PAIRS":
        yield from ("NAME", "=value", "1A=x", "A B=x")
    if row["type"] in ("STRING", "LIST", "PREFIX"):
        yield "/a\x1bb"
    if row["name"] == "tmp-dir":
        yield from ("relative", "/nonexistent", "/dev/null")


def variable(option: str) -> str:
    """The environment variable that gives an option its value."""
    return f"MYSERVER_{option.replace('-', '_').upper()}"


@dataclass
class Way:
    """How a setting gets to the program."""

    name: str
    directory: Path
    option: str = ""

    def arguments(self, option: str, value: str) -> tuple[list[str], dict[str, str]]:
        """The command line and the environment."""
        self.option = option
        if self.name == "--name value" and option in BOOLEANS:
            return [f"--{option}" if value == "true" else f"--no-{option}"], {}
        if self.name == "--name value":
            return [f"--{option}", value], {}
        if self.name == "--name=value":
            return [f"--{option.replace('-', '_')}={value}"], {}
        if self.name == "variable":
            return [], {variable(option): value}
        # A line of the file has an end; what a variable holds has none.
        shown = value if len(value) < 100 else "${VALUE}"
        (self.directory / "it.ini").write_text(f"[myserver]\n\n{option} = {shown}\n")
        return ["-c", "it.ini"], {"VALUE": value}

    def can_carry(self, value: str) -> bool:
        """Whether the way is open to such a value: an empty variable counts as not set."""
        return value != "" or self.name != "variable"

    @property
    def origin(self) -> str:
        """What the program calls it."""
        if self.name == "variable":
            return f"environment variable {variable(self.option)}"
        return "it.ini:3" if self.name == "ini" else "command line"


@pytest.fixture(params=["--name value", "--name=value", "ini", "variable"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """Each way that a setting can take."""
    return Way(request.param, tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_right(row: Row, way: Way) -> None:
    for text, shown in right(row):
        if not way.can_carry(text):
            continue
        args, env = way.arguments(row["name"], text)
        (value,) = printed(*args, env=env, cwd=way.directory)[row["name"]]
        is_set = shown != "" or row["default"] is not None
        assert value == Value(shown, way.origin, is_set)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_wrong(row: Row, way: Way) -> None:
    if way.name == "--name value" and row["type"] == "BOOL":
        way.name = "--name=value"  # the next word is not theirs
    for text in filter(way.can_carry, wrong(row)):
        args, env = way.arguments(row["name"], text)
        sentence = refusal(*args, "--print-config", env=env, cwd=way.directory)
        dashes = "" if way.name in ("ini", "variable") else "--"
        # 120 bytes of the value are quoted.
        quoted = text if len(text) <= 120 else text[:117] + "..."
        head = f'{way.origin}: {dashes}{row["name"]}: "{quoted}" '.replace("\x1b", "?")
        assert sentence.startswith(head), (text, sentence)
        assert "; write " in sentence


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_default(row: Row) -> None:
    (value,) = printed()[row["name"]]
    assert value.origin == "default"
    assert value.is_set == (row["default"] is not None)
    if row["type"] == "WORKERS":
        assert 1 <= int(value.text) <= 12
    else:
        assert value.text == (row["default"] or "")


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_twice(row: Row, tmp_path: Path) -> None:
    """Lists grow; anything else is an error, and the command line replaces the whole list."""
    short = min((text for text, _ in right(row) if text), key=len)
    text = text_of_length(row, 8) if row["repeatable"] else short
    other = text.replace("N", "M").replace("xx", "yy") if row["repeatable"] else text
    (tmp_path / "it.ini").write_text(f"[myserver]\n{row['name']} = {text}\n{row['name']} = {other}")
    twice = [f"--{row['name']}={text}", f"--{row['name']}={other}"]
    if not row["repeatable"]:
        sentence = refusal("it.ini", cwd=tmp_path)
        assert sentence == f"it.ini:3: {row['name']} is already set on line 2; keep one of them"
        assert refusal(*twice).endswith("; keep one of them")
        return
    values = printed("it.ini", cwd=tmp_path)[row["name"]]
    assert values == [Value(text, "it.ini:2", True), Value(other, "it.ini:3", True)]
    values = printed("it.ini", f"--{row['name']}={other}", cwd=tmp_path)[row["name"]]
    assert values == [Value(other, "command line", True)]
    values = printed("it.ini", *twice, cwd=tmp_path)[row["name"]]
    assert [value.text for value in values] == [text, other]


def test_short_flags() -> None:
    flags = {row["short"]: row["name"] for row in ROWS if row["short"]}
    assert flags == {
        "b": "bind",
        "e": "env",
        "g": "group",
        "m": "umask",
        "p": "pid",
        "t": "timeout",
        "u": "user",
        "w": "workers",
    }
    for args in (["-w", "7", "-b", "x:1"], ["-w7", "-bx:1"], ["-w=7", "-b=x:1"]):
        values = printed(*args)
        assert values["workers"] == [Value("7", "command line", True)]
        assert values["bind"] == [Value("x:1", "command line", True)]


# ---------------------------------------------------------------- sentences, exactly

FORMS = r"HOST:PORT, \[IPV6\]:PORT, :PORT, unix:PATH, fd://N"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], 'no application is given; write "myserver MODULE:CALLABLE", such as '
             '"myserver shop.wsgi", or app = MODULE:CALLABLE in an ini file'),
        (["--check-config"], "no application is given; .*"),
        (["a", "b"], 'command line: two applications are given, "a" and another; '
                     "keep one of them"),
        (["--preload", "false", "app"], "command line: true and false are no applications; write "
                                        "--OPTION=false, in one word"),
        (["a.ini", "-c", "b.ini"], "command line: two ini files are given, a.ini and another; "
                                   "keep one of them"),
        (["--check-config", "--print-config"], "command line: of --check-config, --print-config and "
                                               "--health two are given, or one of them twice; "
                                               "keep one of them"),
        (["--wokers", "4"], "command line: there is no option --wokers; "
                            "did you mean --workers\\?"),
        (["--keep_alvie=4"], "command line: there is no option --keep-alvie; "
                             "did you mean --keep-alive\\?"),
        (["--print-confg"], "command line: there is no option --print-confg; "
                            "did you mean --print-config\\?"),
        (["--zebra"], "command line: there is no option --zebra; myserver --help lists them"),
        (["--"], "command line: there is no option --; myserver --help lists them"),
        (["--no-workers"], "command line: there is no option --no-workers.*"),
        (["-Z"], "command line: there is no option -Z; myserver --help lists them"),
        (["--workers"], "command line: --workers needs a value; write --workers N"),
        (["--bind", "--workers", "4"], "command line: --bind needs a value; write --bind ADDR"),
        (["--config"], "command line: --config needs a value; write --config FILE.ini"),
        (["--help=x"], "command line: --help takes no value; write --help"),
        (["--options=xml"], 'command line: --options: "xml" is no format; '
                             "write md\\|man\\|ini\\|json\\|schema\\|foreign"),
        (["--workers", "0"], 'command line: --workers: "0" is out of range; '
                             "write a whole number from 1 to 256, or auto"),
        (["--workers", "four"], 'command line: --workers: "four" is not a whole number; '
                                "write a whole number from 1 to 256, or auto"),
        (["--log-level=warn"], 'command line: --log-level: "warn" is not a level; '
                               "write debug, info, warning, error or critical"),
        (["--script-name=/a/"], 'command line: --script-name: "/a/" is not the beginning of a '
                                "path; write a path that starts with / and does not end with it, "
                                "or nothing"),
        (["a", "-b", "x:1", "-b", "x:1"], 'command line: --bind: "x:1" is given twice; '
                                          "keep one of them"),
        (["a", "--env", "A=1", "--env", "A=2"], 'command line: --env: "A" is given twice; '
                                                "keep one of them"),
        (["missing.ini"], "missing.ini: cannot be opened: No such file or directory"),
        (["-c", "/"], "/: cannot be read: Is a directory"),
        (["--processes", "4"], "command line: --processes is called --workers here"),
        (["--socket", "x"], "command line: --socket is called --bind here; for nginx.*"),
        (["--worker-class", "gevent"], "command line: there is no --worker-class here: "
                                       "there is one kind of worker; write threads"),
        (["--ini=x"], "command line: there is no --ini here: all settings stand in one file; "
                      "write -c FILE.ini"),
        (["-k", "gevent"], "command line: -k: there is no --worker-class here: there is one kind .*"),
        (["-s", ":1"], "command line: -s: --uwsgi-socket is called --bind here; for nginx.*"),
        (["-D"], "command line: -D: there is no --daemon here: it stays in the foreground, .*"),
        (["-c", "gunicorn.conf.py"], "command line: --config gunicorn.conf.py: that is a Python "
                                     "file; settings stand in an ini file"),
        (["-p", "4"], 'command line: --pid: "4": pid is the path of a file; for the number of '
                      "processes write workers"),
        (["--error-logfile=~/log"], 'command line: --error-logfile: "~/log": ~ is not expanded; .*'),
        (["--prewarm", "boom"], 'command line: --prewarm: "boom": a request is a path, or a method '
                                "and a path; write /boom"),
    ],
)  # fmt: skip
def test_sentences_of_the_command_line(args: list[str], sentence: str) -> None:
    assert re.fullmatch(sentence, refusal(*args)), refusal(*args)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[myserver]\nworkerz = 4\n", "it.ini:2: there is no option workerz; "
                                      "did you mean workers\\?"),
        ("[myserver]\n\nprocesses = 4\n", "it.ini:3: processes is called workers here"),
        ("[myserver]\nwsgi_file = x\n", "it.ini:2: wsgi-file is called app here"),
        ("[myserver]\nmaster = false\n", "it.ini:2: there is no master here: "
                                         "there always is a master"),
        ("[myserver]\nno-reload = true\n", "it.ini:2: there is no option no-reload here; "
                                           "write reload = false"),
        ("[myserver]\nno-workers = 4\n", "it.ini:2: there is no option no-workers; .*"),
        ("[myserver]\nprint-config = true\n", "it.ini:2: print-config works on the "
                                              "command line only"),
        ("[uwsgi]\n", "it.ini:1: there is no section \\[uwsgi\\]; "
                      "all settings stand below \\[myserver\\]"),
        ("[myserver]\nthreads = 2\n[other]\n", "it.ini:3: there is no section \\[other\\]; .*"),
        ("[myserver\nthreads = 2\n", "it.ini:1: there is no section \\[myserver; .*"),
        ("[myserver] threads = 2\n", "it.ini:1: nothing may stand behind \\[myserver\\] on its "
                                     "line"),
        ("threads = 2\n[myserver]\n", "it.ini:1: threads stands above \\[myserver\\]; "
                                      "write that line first"),
        ("[myserver]\nthreads\n", "it.ini:2: this is no setting; write NAME = VALUE, "
                                  "or ; in front of a comment"),
        ("[myserver]\n= 2\n", "it.ini:2: there is no name in front of the =; write NAME = VALUE"),
        ("[myserver]\nthreads = 2\0\n", "it.ini:2: there is a NUL byte in this line; write text"),
        ("[myserver]\nthreads = 2 # two\n", "it.ini:2: threads: a comment stands on a line of its "
                                            "own, or has a ; in front of it"),
        ("[myserver]\nchdir = /a\t#b\n", "it.ini:2: chdir: a comment stands on a line of its .*"),
        ("[myserver]\nprewarm = boom | X: y\n",
         'it.ini:2: prewarm: "boom \\| X: y": a request is a path, or a method and a path; '
         "write /boom \\| X: y"),
        ("[myserver]\nvirtualenv = ~/v\n", 'it.ini:2: virtualenv: "~/v": ~ is not expanded; write '
                                           "the whole path, or \\${HOME} in an ini file"),
        ("[myserver]\nchdir = ${NOT_SET}\n", "it.ini:2: the environment variable NOT_SET "
                                             "is not set; set it, or write \\$\\$ for a \\$"),
        ("[myserver]\nchdir = ${SET\n", "it.ini:2: a \\${ without a name and }; "
                                        "write \\${NAME}, or \\$\\$ for a \\$"),
        ("[myserver]\nchdir = ${UNSET:-${SET:-x}\n", "it.ini:2: a \\${ without a name and }; .*"),
        ("[myserver]\nchdir = ${UNSET:-${NOT_SET}}\n", "it.ini:2: the environment variable NOT_SET .*"),
        ("[myserver]\nchdir = ${SET-x}\n", "it.ini:2: \\${SET-: write \\${NAME}, or "
                                           "\\${NAME:-DEFAULT}"),
        ("[myserver]\nchdir = ${a b}\n", "it.ini:2: \\${a : write \\${NAME}, or .*"),
        ("[myserver]\nchdir = ${}\n", "it.ini:2: a \\${ without a name and }; .*"),
        ("[myserver]\nchdir = /a$b\n", "it.ini:2: a \\$ stands alone; write \\${NAME} for "
                                       "a variable, or \\$\\$ for a \\$"),
        ("[myserver]\ntmp-dir = x\n", 'it.ini:2: tmp-dir: "x" is no directory to write to; '
                                      "write the absolute path of one"),
        ("[myserver]\nbind = a:1\nbind = b:1\nbind = a:1\n",
         'it.ini:4: bind: "a:1" is given twice; keep one of them'),
    ],
)  # fmt: skip
def test_sentences_of_the_ini_file(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "it.ini").write_text(text)
    shown = refusal("it.ini", "app", cwd=tmp_path)
    assert re.fullmatch(sentence, shown), shown


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("bind = foo", f"bind: foo is none of {FORMS}, or one of these behind uwsgi:"),
        ("control = foo", f"control: foo is none of {FORMS}, /PATH"),
        ("stats = foo", f"stats: foo is none of {FORMS}, /PATH"),
        (f"stats = /{'x' * 200}", f"stats: the path of unix:/{'x' * 200} is longer than 107 bytes"),
        ("user = no-such-user", 'user: there is no user "no-such-user"; .*'),
        ("group = no-such-group", 'group: there is no group "no-such-group"; .*'),
        ("chdir = /none", "chdir: cannot change to /none: No such file or directory"),
        ("access-logformat = %(zzz)s", "access-logformat: .*"),
        ("access-log-exclude = healthz", 'access-log-exclude: "healthz" is not right; write .*'),
        ("forwarded-allow-ips = ::1,x", 'forwarded-allow-ips: "x" is no address or network; .*'),
        ("refork-after = x", 'refork-after: "x" is not right; .*'),
        ("refork-after = 1\npreload = false", "refork-after: without preload .*"),
        ("log-format = xml", 'log-format: "xml" is neither text nor json'),
        ("error-logfile = /none/x", "error-logfile: cannot open /none/x: its directory .*"),
        ("access-logfile = /none/x", "access-logfile: cannot open /none/x: its directory .*"),
        ("virtualenv = /none", "virtualenv: /none: no pyvenv.cfg there, .*"),
        ("pid = /none/x", "pid: cannot open /none/x: its directory does not exist; .*"),
        ("pid = /", "pid: cannot open /: Is a directory"),
        (
            "max-requests-jitter = 5",
            "max-requests-jitter: without max-requests it does nothing; .*",
        ),
        ("pythonpath = /none", "pythonpath: /none does not exist"),
        ("control = 127.0.0.1:8000", "control: 127.0.0.1:8000 is the address of bind already"),
        ("stats = /x\nbind = unix:/x", "stats: /x is the address of bind already"),
        ("stats = /x\ncontrol = unix:/x", "stats: /x is the address of control already"),
    ],
)
@pytest.mark.parametrize("verb", [["--check-config"], []], ids=["check", "serve"])
def test_meanings(verb: list[str], line: str, sentence: str, tmp_path: Path) -> None:
    """What only the module that uses a value can judge has the place of the value all the same."""
    address = "" if "8000" in line or "bind" in line else "bind = :0\n"
    text = f"[myserver]\n{line}\npythonpath = {ROOT}/tests/apps\n{address}"
    (tmp_path / "it.ini").write_text(text)
    done = run(*verb, "it.ini", "hello", cwd=tmp_path)
    assert done.returncode == 2
    shown = rf"(^myserver|\(\d+\)): it\.ini:2: {sentence}$"
    assert re.search(shown, done.stderr, re.M), done.stderr


def test_pythonpath_within_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(ROOT / "tests" / "apps" / "hello.py", "lib/hello.py")
    done = run("--check-config", f"--pythonpath={tmp_path}/a.zip/lib", "hello", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_place_of_a_list_is_that_of_the_item(tmp_path: Path) -> None:
    (tmp_path / "it.ini").write_text("[myserver]\nbind = :1\nbind = foo\nbind = :2\n")
    assert refusal("it.ini", "app", cwd=tmp_path).startswith("it.ini:3: bind: foo is none of ")
    assert refusal("it.ini", "app", "-b:1", "-bfoo", cwd=tmp_path).startswith(
        "command line: --bind: foo is none of "
    )


def test_harmless_settings(tmp_path: Path) -> None:
    """A file to touch may be missing, ports of the kernel's choice differ, and nothing is made."""
    (tmp_path / "it.ini").write_text(
        f"[myserver]\npythonpath = {ROOT}/tests/apps\ntouch-reload = touched\npid = it.pid\n"
        "bind = :0\ncontrol = :0\nmax-requests-jitter = 0\ntouch-reload = none/touched\n"
    )
    done = run("--check-config", "it.ini", "hello", cwd=tmp_path)
    assert done.returncode == 0
    (warning,) = re.findall(r"\[warning\] .*? \(\d+\): (.*directory.*)", done.stderr)
    assert warning == "it.ini:8: touch-reload: the directory of none/touched does not exist yet"
    assert [path.name for path in tmp_path.iterdir()] == ["it.ini"]


@pytest.mark.parametrize("length", [180, 197, 198, 199, 260, 390, 4000, 100_000])
def test_long_lines(length: int, tmp_path: Path) -> None:
    """Comments may be of any length, and values of what the option allows."""
    line = "access-logformat = " + "x" * (length - 19)
    comment = f"; {line}"
    text = f"[myserver] {comment}\nthreads = 7\n# {line}\n{comment}\n{line} {comment}\n"
    (tmp_path / "it.ini").write_text(text)
    if length > 5000:
        sentence = refusal("it.ini", "app", cwd=tmp_path)
        assert re.fullmatch(r"it.ini:5: access-logformat: .* is too long; .*", sentence), sentence
        return
    values = printed("it.ini", cwd=tmp_path)
    assert values["access-logformat"][0].text == line.removeprefix("access-logformat = ")
    assert values["threads"] == [Value("7", "it.ini:2", True)]


def test_a_hash_in_a_value(tmp_path: Path) -> None:
    """Right where it is likely to be meant, and from a variable."""
    lines = ["env = A=b #c", "access-logformat = %(h)s #%(s)s", "chdir = /a#b", "pid = ${PID}"]
    (tmp_path / "it.ini").write_text("\n".join(["[myserver]", *lines]))
    values = printed("it.ini", env={"PID": "x #y"}, cwd=tmp_path)
    found = [values[name][0].text for name in ("env", "access-logformat", "chdir", "pid")]
    assert found == ["A=b #c", "%(h)s #%(s)s", "/a#b", "x #y"]


def test_a_long_line_without_a_value(tmp_path: Path) -> None:
    (tmp_path / "it.ini").write_text(f"[myserver]\n{'x' * 500}\n")
    assert (
        refusal("it.ini", "app", cwd=tmp_path) == "it.ini:2: the line is long, and no NAME = VALUE"
    )


# ---------------------------------------------------------------- where values come from


def test_ini_file_and_command_line(tmp_path: Path) -> None:
    (tmp_path / "it.ini").write_text(
        "\ufeff[myserver] ; a comment\r\n"
        "  app = ini.wsgi\r\n"
        "\tthreads = 2 ; two\r\n"
        "keep_alive: 5\r\n"
        "[myserver]\r\n"
        "access-logformat = %(h)s $$ ${EMPTY}${NAME};\r\n"
        "backlog = 9"
    )
    env = {"NAME": "value $$", "EMPTY": ""}
    for args in (["it.ini"], ["-c", "it.ini"], ["--config=it.ini"]):
        values = printed(*args, env=env, cwd=tmp_path)
        assert values["app"] == [Value("ini.wsgi", "it.ini:2", True)]
        assert values["threads"] == [Value("2", "it.ini:3", True)]
        assert values["keep-alive"] == [Value("5s", "it.ini:4", True)]
        assert values["access-logformat"] == [Value("%(h)s $ value $$;", "it.ini:6", True)]
        assert values["backlog"] == [Value("9", "it.ini:7", True)]
    values = printed("--threads", "3", "it.ini", "line.wsgi", env=env, cwd=tmp_path)
    assert values["app"] == [Value("line.wsgi", "command line", True)]
    assert values["threads"] == [Value("3", "command line", True)]
    assert values["backlog"] == [Value("9", "it.ini:7", True)]


@pytest.mark.parametrize(
    ("option", "variable", "text", "shown"),
    [
        ("bind", "PORT", "8123", "0.0.0.0:8123"),
        ("workers", "WEB_CONCURRENCY", "9", "9"),
        ("virtualenv", "VIRTUAL_ENV", "/venv", "/venv"),
        ("forwarded-allow-ips", "FORWARDED_ALLOW_IPS", "*", "*"),
        ("script-name", "SCRIPT_NAME", "/shop", "/shop"),
    ],
)
def test_environment(option: str, variable: str, text: str, shown: str) -> None:
    origin = f"environment variable {variable}"
    assert printed(env={variable: text})[option] == [Value(shown, origin, True)]
    assert printed(env={variable: ""})[option] == printed()[option]
    given = {"workers": "7", "script-name": "/x"}.get(option, "/")
    values = printed(f"--{option}={given}", env={variable: "garbage"})[option]
    assert values == [Value(given, "command line", True)]


def test_bad_environment() -> None:
    sentence = refusal("app", env={"WEB_CONCURRENCY": "many"})
    assert sentence == (
        'environment variable WEB_CONCURRENCY: workers: "many" is not a whole number; '
        "write a whole number from 1 to 256, or auto"
    )
    sentence = refusal("app", env={"PORT": "80x"})
    assert sentence.startswith("environment variable PORT: bind: 0.0.0.0:80x is none of HOST:PORT")


def test_variables_of_options(tmp_path: Path) -> None:
    """Above the ini file and below the command line; a list has a line for each item."""
    (tmp_path / "it.ini").write_text("[myserver]\nthreads = 2\nbacklog = 3\nbind = a:1\n")
    env = {
        "MYSERVER_CONFIG": "it.ini",
        "MYSERVER_THREADS": "4",
        "MYSERVER_BIND": "b:1\n\nc:1\n",
        "MYSERVER_WORKERS": "5",
        "MYSERVER_KEEP_ALIVE": "",
        "WEB_CONCURRENCY": "many",
    }
    values = printed("app", "--workers=6", env=env, cwd=tmp_path)
    assert values["backlog"] == [Value("3", "it.ini:3", True)]
    assert values["threads"] == [Value("4", "environment variable MYSERVER_THREADS", True)]
    assert values["bind"] == [
        Value("b:1", "environment variable MYSERVER_BIND", True),
        Value("c:1", "environment variable MYSERVER_BIND", True),
    ]
    assert values["workers"] == [Value("6", "command line", True)]
    assert values["keep-alive"] == [Value("100s", "default", True)]
    (tmp_path / "other.ini").write_text("[myserver]\nbacklog = 9\n")
    values = printed("-c", "other.ini", env=env, cwd=tmp_path)
    assert values["backlog"] == [Value("9", "other.ini:2", True)]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("MYSERVER_WOKERS", "there is no option MYSERVER_WOKERS; did you mean MYSERVER_WORKERS\\?"),
        ("MYSERVER_keep_alive", "write MYSERVER_KEEP_ALIVE, in capital letters and with _"),
        ("MYSERVER_KEEP-ALIVE", "write MYSERVER_KEEP_ALIVE, in capital letters and with _"),
        ("MYSERVER_PROCESSES", "MYSERVER_PROCESSES is called MYSERVER_WORKERS here"),
        ("MYSERVER_LOG_FILE", "MYSERVER_LOG_FILE is called MYSERVER_ERROR_LOGFILE here"),
        ("MYSERVER_HELP", "MYSERVER_HELP works on the command line only"),
        ("MYSERVER_NO_RELOAD", "there is no option MYSERVER_NO_RELOAD here; .*"),
        ("MYSERVER_", "there is no option MYSERVER_; .*"),
        ("MYSERVER_ZEBRA", "there is no option MYSERVER_ZEBRA; myserver --help lists them"),
    ],
)
def test_variables_that_are_no_option(name: str, sentence: str) -> None:
    shown = refusal("app", env={name: "1"})
    assert re.fullmatch(f"environment variable {name}: {sentence}", shown), shown


def test_variables_of_a_service_called_myserver() -> None:
    """Kubernetes and Docker set them in every container beside it."""
    env = {
        "MYSERVER_SERVICE_HOST": "10.0.0.1",
        "MYSERVER_SERVICE_PORT": "80",
        "MYSERVER_SERVICE_PORT_HTTP": "80",
        "MYSERVER_PORT": "tcp://10.0.0.1:80",
        "MYSERVER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "MYSERVER_PORT_80_TCP_PROTO": "tcp",
        "MYSERVER_PORT_80_TCP_PORT": "80",
        "MYSERVER_PORT_80_TCP_ADDR": "10.0.0.1",
        "MYSERVER_WEB_SERVICE_HOST": "10.0.0.2",
    }
    assert printed(env=env) == printed()
    assert "MYSERVER_PORT is called MYSERVER_BIND here" in refusal(env={"MYSERVER_PORT": "80"})


def test_defaults_of_variables(tmp_path: Path) -> None:
    (tmp_path / "it.ini").write_text(
        "[myserver]\nbind = 0.0.0.0:${PORT:-8321}\nworkers = ${A:-${B:-3}}\nthreads=${A:-}7\n"
    )
    values = printed("it.ini", cwd=tmp_path)
    assert [values[name][0].text for name in ("bind", "workers", "threads")] == [
        "0.0.0.0:8321",
        "3",
        "7",
    ]
    values = printed("it.ini", env={"PORT": "80", "A": "", "B": "4"}, cwd=tmp_path)
    assert [values[name][0].text for name in ("bind", "workers")] == ["0.0.0.0:80", "4"]


def test_empty_text_unsets(tmp_path: Path) -> None:
    (tmp_path / "it.ini").write_text("[myserver]\naccess-logfile = x\n")
    values = printed("it.ini", "--access-logfile=", "--virtualenv", "", cwd=tmp_path,
                     env={"VIRTUAL_ENV": "/venv"})  # fmt: skip
    assert values["access-logfile"] == [Value("", "command line", False)]
    assert values["virtualenv"] == [Value("", "command line", False)]


def test_printed_settings_are_an_ini_file(tmp_path: Path) -> None:
    args = ["a$b.wsgi", "--env=A=$", "--env=B=", "-b:1", "-bx:2", "--keep-alive=0.25", "-w3"]
    (tmp_path / "it.ini").write_text(run(*args, "--print-config").stdout)
    before, after = printed(*args), printed("it.ini", cwd=tmp_path)
    assert {k: [v.text for v in values] for k, values in before.items()} == {
        k: [v.text for v in values] for k, values in after.items()
    }


# ---------------------------------------------------------------- documents


@pytest.mark.parametrize(
    ("kind", "path"),
    [("ini", "conf/myserver.ini"), ("md", "conf/OPTIONS.md"), ("man", "conf/myserver.1")],
)
def test_documents_are_fresh_and_whole(kind: str, path: str) -> None:
    text = run(f"--options={kind}").stdout
    assert (ROOT / path).read_text() == text, f"{path} is stale: make docs"
    for row in ROWS:
        name = row["name"].replace("-", "\\-") if kind == "man" else row["name"]
        entry = {"ini": f"\n;{name} =", "md": f"| `--{name}`", "man": f"\\-\\-{name}\\fR"}
        assert entry[kind] in text


def test_schema_for_editors() -> None:
    """It has every option, takes what is right and refuses what is wrong, as far as patterns can."""
    text = run("--options=schema").stdout
    assert (ROOT / "conf/myserver.schema.json").read_text() == text, "stale: make docs"
    section = json.loads(text)["properties"]["myserver"]
    assert list(section["properties"]) == NAMES and section["additionalProperties"] is False
    for row in ROWS:
        entry = section["properties"][row["name"]]
        assert entry["description"] == row["help"] and entry.get("default") == row["default"]
        item = entry["anyOf"][0] if row["repeatable"] else entry
        assert (
            (entry["anyOf"][1] == {"type": "array", "items": item}) if row["repeatable"] else True
        )

        def takes(value: str, item: Row = item) -> bool:
            if "enum" in item:
                return value in item["enum"]
            fits = len(value) >= item.get("minLength", 0) and re.search(
                item.get("pattern", ""), value
            )
            return bool(fits) and len(value) <= item.get("maxLength", len(value))

        for value, _ in right(row):
            assert takes(value.lower() if row["type"] == "LEVEL" else value), (row["name"], value)
        if row["type"] in NUMBER_TYPES:
            assert takes("${NAME:-7}")
        if row["type"] in ("LEVEL", "PROXY", "BOOL", *NUMBER_TYPES):
            for value in ("x", "-1", "1 1", "0x10"):
                assert not takes(value), (row["name"], value)


def test_documents_say_what_a_reload_applies() -> None:
    page, manual = run("--options=md").stdout, run("--options=man").stdout
    for row in ROWS:
        line = next(line for line in page.splitlines() if line.startswith(f"| `--{row['name']}`"))
        assert f" | {row['when']} | " in line
    assert manual.count("Needs a restart") == sum(row["when"] == "restart" for row in ROWS)
    assert "`--no-reload`" in page and "\\-\\-no\\-\\fINAME" in manual


def test_documents_have_every_atom() -> None:
    sentence = refusal("--access-logformat=%(zz)s", "app")
    more = ["%({NAME}i)s", "%({NAME}o)s", "%({COST}m)s", "%%"]
    begin, end = re.escape(", ".join(more[:-1])), re.escape(more[-1])
    found = re.search(rf"X one of (\w+), {begin} and {end}", sentence)
    assert found, sentence
    atoms = sorted([*(f"%({c})s" for c in found[1]), *more])
    assert sorted(re.findall(r"^\| `(%\S+)` \| ", run("--options=md").stdout, re.M)) == atoms
    assert sorted(re.findall(r"^\\fB(%\S+)\\fR$", run("--options=man").stdout, re.M)) == atoms


def test_manual_has_every_signal() -> None:
    section = (ROOT / "README.md").read_text().partition("### Signals")[2].partition("###")[0]
    signals = re.findall(r"^\| ([A-Z0-9, ]+[A-Z0-9])[ ,|]", section, re.M)
    assert len(signals) == 7, signals
    for names in signals:
        assert f"\n\\fB{names}" in run("--options=man").stdout


def test_sample_ini_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "conf/myserver.ini").read_text()
    (tmp_path / "it.ini").write_text(re.sub("^;", "", text, flags=re.MULTILINE))
    values = printed("it.ini", cwd=tmp_path)
    for row in ROWS:
        (value,) = values[row["name"]]
        assert value.origin.startswith("it.ini:")
        if row["default"] is not None and row["type"] != "WORKERS":
            assert value.text == row["default"]
    (tmp_path / "it.ini").write_text(text)
    assert printed("it.ini", cwd=tmp_path) == printed()


def test_help_and_version() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for row in ROWS:
        lines = [line for line in done.stdout.splitlines() if f" --{row['name']} " in line]
        assert len(lines) == 1 and row["help"] in lines[0]
        assert row["default"] in (None, "") or lines[0].endswith(f"[{row['default']}]")
    assert run("-h").stdout == done.stdout
    assert re.fullmatch(r"myserver \d\S* \(Python 3\.\d+\S*\)\n", run("--version").stdout)


def test_output_that_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([BINARY, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == ("myserver: cannot write to standard output: No space left on device\n")


def test_rows() -> None:
    """The table keeps its own rules."""
    assert len(set(NAMES)) == len({row["field"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert re.fullmatch("[a-z]+(-[a-z]+)*", row["name"])
        assert row["min"] < row["max"]
        assert row["help"][0].isupper() and row["help"].endswith(".")
        unit = {"DURATION": "_ms", "SIZE": "_bytes"}.get(row["type"], "")
        c_name = row["name"].replace("-", "_")
        field = "static_dirs" if c_name == "static" else c_name  # that is a keyword of C
        assert row["field"] == field + unit
    sections = [row["section"] for row in ROWS]
    assert [s for i, s in enumerate(sections) if i == 0 or s != sections[i - 1]] == list(
        dict.fromkeys(sections)
    )
