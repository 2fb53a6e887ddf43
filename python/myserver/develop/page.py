"""The page that a browser shows instead of the application: a traceback with its source lines.

Everything in it is escaped; values of the environment that look like secrets are replaced. It shows
no variables.
"""

import html
import importlib
import linecache
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator

_AROUND = 5  # source lines before and after the one that matters
_FRAMES_MOST = 50
_LINE_MOST, _MESSAGE_MOST, _TEXT_MOST = 400, 4000, 200_000
_PACKAGES = ("site-packages", "dist-packages")
_SECRET_LEAST = 6  # a shorter value is a word that may stand anywhere
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_STDLIB = sysconfig.get_path("stdlib") + os.sep
_SECRET = re.compile(r"SECRET|PASS|TOKEN|KEY|CREDENTIAL|PRIVATE|_URL$|_URI$|DSN", re.IGNORECASE)

HEADERS = [
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]

FOREIGN_HOST = (
    "The application is broken; the terminal of `myserver dev` says how.\n"
    "It is shown here only at an address of this machine, such as http://127.0.0.1 or "
    "http://localhost,\nor anywhere with `myserver dev --public`.\n"
)

# Asks which generation serves, and loads the page again when it is another one. While the new code
# is loaded, the question waits.
LIVE_JS = """\
(() => {
  const script = document.currentScript;
  const question = script.src.replace(/live\\.js.*$/, "generation");
  let known = script.dataset.generation || "";
  let timer = 0;
  async function look() {
    clearTimeout(timer);
    try {
      const answer = await fetch(question, {cache: "no-store"});
      const generation = answer.ok ? await answer.text() : "";
      if (known && generation && generation !== known) {
        location.reload();
        return;
      }
      known = known || generation;
    } catch {
      // The server is not there: it may come back.
    }
    timer = setTimeout(look, document.hidden ? 5000 : 400);
  }
  document.addEventListener("visibilitychange", () => document.hidden || look());
  look();
})();
"""


def live_script(prefix: str) -> str:
    """What makes a page load itself again; `prefix` is the path of what the server itself answers."""
    return f'<script async src="{html.escape(prefix)}live.js"></script>\n'


class Fault:
    """An exception as it is shown: nothing of the exception itself is kept.

    Attributes:
        title: one line, as at the end of a traceback.
        text: the whole traceback, without a newline at its end.
    """

    def __init__(self, error: BaseException) -> None:
        self._mask = _masks()
        self._error = traceback.TracebackException.from_exception(error, compact=True)
        for each in _all(self._error):
            each.stack[:] = [frame for frame in each.stack if not _is_ours(frame.filename)]
        name, message = self._headline(self._error)
        self.title = f"{name}: {message}".removesuffix(": ").partition("\n")[0][:200]
        self.text = self._clean("".join(self._error.format())).rstrip("\n")[:_TEXT_MOST]

    def html(self, prefix: str, generation: str) -> str:
        """The page.

        Args:
            prefix: the path of what the server itself answers.
            generation: the one that shows the page, which loads itself again for another one; "" if
                the request must not be repeated.
        """
        if generation:
            note = "This page goes away by itself when the code is fixed."
            script = live_script(prefix).replace(
                "<script ", f'<script data-generation="{html.escape(generation)}" '
            )
        else:
            note = "Send the form again when the code is fixed."
            script = ""
        name, message = self._headline(self._error)
        return _PAGE.format(
            title=html.escape(self.title),
            style=_STYLE,
            name=html.escape(name),
            message=html.escape(message),
            note=note,
            culprit=self._culprit(),
            chain="".join(self._chain(self._error)),
            text=html.escape(self.text),
            python=html.escape(f"Python {sys.version.split()[0]}"),
            directory=html.escape(os.getcwd()),
            script=script,
        )

    def _clean(self, text: str) -> str:
        for secret, shown in self._mask:
            text = text.replace(secret, shown)
        return text

    def _headline(self, error: traceback.TracebackException) -> tuple[str, str]:
        """Name and message."""
        return _type_name(error), self._clean(_message(error))[:_MESSAGE_MOST]

    # ---- the parts of the page

    def _culprit(self) -> str:
        """The line to look at first: that of a syntax error, or the last one of the project."""
        for error in _line_of_causes(self._error):
            if _is_syntax_error(error):
                return self._source(_place_of(error), is_open=True)
            for frame in reversed(error.stack):
                if not _is_library(frame.filename):
                    return self._source(frame, is_open=True)
        return self._source(self._error.stack[-1], is_open=True) if self._error.stack else ""

    def _chain(self, error: traceback.TracebackException) -> Iterator[str]:
        """The exceptions that led to this one, and then it, as Python prints them."""
        if error.__cause__ is not None:
            yield from self._chain(error.__cause__)
            yield "<p class=link>was the direct cause of</p>"
        elif error.__context__ is not None and not error.__suppress_context__:
            yield from self._chain(error.__context__)
            yield "<p class=link>and while that was handled, came</p>"
        name, message = self._headline(error)
        colon = ": " if message else ""
        yield f"<section><h3>{html.escape(name)}{colon}<span>{html.escape(message)}</span></h3>"
        for note in getattr(error, "__notes__", None) or ():
            yield f"<p class=note>{html.escape(self._clean(str(note)))}</p>"
        yield from self._frames(error.stack)
        if _is_syntax_error(error):
            yield self._source(_place_of(error), is_open=True)
        yield "</section>"
        for each in error.exceptions or ():
            yield "<div class=group>"
            yield from self._chain(each)
            yield "</div>"

    def _frames(self, frames: list[traceback.FrameSummary]) -> Iterator[str]:
        """Frames of the project one by one; those of libraries folded together."""
        if len(frames) > _FRAMES_MOST:
            most = _FRAMES_MOST // 2
            yield from self._frames(frames[:most])
            yield f"<p class=link>{len(frames) - 2 * most} more</p>"
            frames = frames[-most:]
        folded: list[traceback.FrameSummary] = []
        for frame in [*frames, None]:
            if frame and _is_library(frame.filename):
                folded.append(frame)
                continue
            if folded:
                yield self._folded(folded)
                folded = []
            if frame:
                yield self._source(frame, is_open=True)

    def _folded(self, frames: list[traceback.FrameSummary]) -> str:
        names = ", ".join(dict.fromkeys(_library(frame.filename) for frame in frames))
        count = f"{len(frames)} call{'' if len(frames) == 1 else 's'} in "
        inner = "".join(self._source(frame, is_open=False) for frame in frames)
        return (
            f"<details class=folded><summary>{count}{html.escape(names)}</summary>{inner}</details>"
        )

    def _source(self, frame: traceback.FrameSummary, is_open: bool) -> str:
        """A frame: its place, and the lines around it."""
        number = frame.lineno or 0
        lines = linecache.getlines(frame.filename)
        first = max(1, number - _AROUND)
        shown = []
        for at, line in enumerate(lines[first - 1 : number + _AROUND], start=first):
            mark = " class=here" if at == number else ""
            text = self._line(line, frame) if at == number else html.escape(self._cut(line))
            shown.append(f"<li{mark} value={at}><code>{text or ' '}</code></li>")
        where = f"<b>{html.escape(_path(frame.filename))}</b>, line {number}"
        if frame.name and frame.name != "<module>":
            where += f", in {html.escape(frame.name)}"
        code = f"<ol>{''.join(shown)}</ol>" if shown else ""
        return f"<details class=frame{' open' if is_open else ''}><summary>{where}</summary>{code}</details>"

    def _line(self, line: str, frame: traceback.FrameSummary) -> str:
        """The line that matters, with what failed in it marked where Python knows that."""
        begin, end = frame.colno, frame.end_colno
        text = line.rstrip("\n")
        if begin is None or end is None or frame.end_lineno != frame.lineno:
            return html.escape(self._cut(line))
        raw = text.encode("utf-8", "surrogatepass")  # columns count bytes
        parts = [
            part.decode("utf-8", "replace") for part in (raw[:begin], raw[begin:end], raw[end:])
        ]
        if self._cut(line) != text or not parts[1].strip():
            return html.escape(self._cut(line))
        before, failed, after = map(html.escape, parts)
        return f"{before}<mark>{failed}</mark>{after}"

    def _cut(self, line: str) -> str:
        return self._clean(line.rstrip("\n"))[:_LINE_MOST]


# ---- what is known of exceptions


def _is_syntax_error(error: traceback.TracebackException) -> bool:
    """With a place in a file."""
    return bool(getattr(error, "filename", None) and getattr(error, "lineno", None))


def _place_of(error: traceback.TracebackException) -> traceback.FrameSummary:
    """The place of a syntax error, whose columns count characters from 1."""
    filename, number = str(error.filename), int(error.lineno or 0)
    line = linecache.getline(filename, number)
    begin, end = error.offset or 0, error.end_offset or 0
    end = end if end > begin else begin + 1
    columns = [len(line[: at - 1].encode("utf-8", "surrogatepass")) for at in (begin, end)]
    known = begin > 0 and columns[0] < columns[1]
    return traceback.FrameSummary(
        filename,
        number,
        "",
        lookup_line=False,
        end_lineno=number,
        colno=columns[0] if known else None,
        end_colno=columns[1] if known else None,
    )


def _type_name(error: traceback.TracebackException) -> str:
    shown = getattr(error, "exc_type_str", None)  # 3.13
    if shown is None:
        kind = error.exc_type
        shown = kind.__qualname__ if kind else ""
        if kind and kind.__module__ not in ("__main__", "builtins"):
            shown = f"{kind.__module__}.{shown}"
    return str(shown)


def _message(error: traceback.TracebackException) -> str:
    return str(error.msg) if _is_syntax_error(error) else str(error)


def _line_of_causes(error: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """The exception, and those that it came from; the first of a group."""
    at: traceback.TracebackException | None = error
    while at is not None:
        yield at
        inner = at.exceptions[0] if at.exceptions else None
        at = inner or at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _all(error: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    yield error
    for each in (error.__cause__, error.__context__, *(error.exceptions or ())):
        if each is not None:
            yield from _all(each)


# ---- what is known of files


def _is_ours(filename: str) -> bool:
    """Frames of the server, and of how Python imports and runs files."""
    return filename == importlib.__file__ or filename.startswith(
        (_OURS, "<frozen importlib", "<frozen runpy")
    )


def _is_library(filename: str) -> bool:
    is_installed = any(f"{os.sep}{name}{os.sep}" in filename for name in _PACKAGES)
    return is_installed or filename.startswith((_STDLIB, "<"))


def _library(filename: str) -> str:
    """The package of an installed file, or the module of the standard library."""
    for name in _PACKAGES:
        _, found, inner = filename.rpartition(f"{os.sep}{name}{os.sep}")
        if found:
            return inner.partition(os.sep)[0].removesuffix(".py")
    return filename.removeprefix(_STDLIB).partition(os.sep)[0].removesuffix(".py")


def _path(filename: str) -> str:
    """As short as it is still clear: from the working directory, or from where packages are."""
    here = os.getcwd() + os.sep
    for name in _PACKAGES:
        _, found, inner = filename.rpartition(f"{os.sep}{name}{os.sep}")
        if found:
            return inner
    return filename.removeprefix(here)


def _masks() -> list[tuple[str, str]]:
    """Values of the environment that are nobody's business, and what stands in their place."""
    found = [
        (value, f"[value of {name}]")
        for name, value in os.environ.items()
        if len(value) >= _SECRET_LEAST and _SECRET.search(name)
    ]
    return sorted(found, key=lambda pair: -len(pair[0]))


_STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --soft: #5b6478; --paper: #f6f7f9; --card: #fff;
  --line: #dfe3ea; --bad: #b3261e; --here: #fdecea; --mark: #f9c6c1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ee; --soft: #9aa3b5; --paper: #14171d;
  --card: #1c2028; --line: #2e3440; --bad: #ff8a80; --here: #3a2325; --mark: #7a2f2c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main, header > div { max-width: 64rem; margin: 0 auto; padding: 0 1rem; }
header { background: var(--card); border-top: 4px solid var(--bad);
  border-bottom: 1px solid var(--line); padding: 1.25rem 0 1rem; }
h1 { margin: 0; font-size: 1.05rem; color: var(--bad); overflow-wrap: anywhere; }
h1 + p { margin: .25rem 0 0; font-size: 1.4rem; line-height: 1.35; font-weight: 600;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.wait { margin: .75rem 0 0; color: var(--soft); font-size: .9rem; }
.wait::before { content: ""; display: inline-block; width: .55em; height: .55em; margin-right: .5em;
  border-radius: 50%; background: var(--bad); animation: beat 1.6s ease-in-out infinite; }
@keyframes beat { 50% { opacity: .25; } }
@media (prefers-reduced-motion: reduce) { .wait::before { animation: none; } }
h2 { margin: 2rem 0 .5rem; font-size: 1rem; }
h3 { margin: 1rem 0 .5rem; font-size: .95rem; overflow-wrap: anywhere; white-space: pre-wrap; }
h3 span { font-weight: 400; }
details.frame, details.folded { margin: .5rem 0; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
details.folded { background: none; border-style: dashed; color: var(--soft); }
details.folded > details { margin: .5rem; color: var(--ink); }
summary { padding: .5rem .75rem; cursor: pointer; font-size: .9rem; overflow-wrap: anywhere; }
ol { margin: 0; padding: .25rem 0; list-style: none; overflow-x: auto; border-top: 1px solid var(--line);
  font: 13px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
li { display: flex; width: max-content; min-width: 100%; }
li::before { content: attr(value); flex: none; width: 3.5rem; padding-right: .75rem; text-align: right;
  color: var(--soft); user-select: none; }
li code { font: inherit; white-space: pre; padding-right: 1rem; tab-size: 4; }
li.here { background: var(--here); }
li.here::before { color: var(--bad); font-weight: 700; }
mark { background: var(--mark); color: inherit; border-radius: 2px; }
.culprit details.frame { border-color: var(--bad); margin-top: 1.25rem; }
.link, .note { margin: .75rem 0; color: var(--soft); font-size: .9rem; white-space: pre-wrap; }
.note { color: var(--ink); }
.group { margin-left: .5rem; padding-left: .75rem; border-left: 3px solid var(--line); }
pre { margin: 0; padding: .75rem; overflow-x: auto; border-top: 1px solid var(--line);
  font: 12px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
footer { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: var(--soft); font-size: .85rem;
  overflow-wrap: anywhere; }
@media (max-width: 40rem) { main, header > div, footer { padding: 0 .6rem; }
  h1 + p { font-size: 1.15rem; } li::before { width: 2.6rem; padding-right: .5rem; } }
"""

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<header><div>
<h1>{name}</h1>
<p>{message}</p>
<p class="wait">{note}</p>
</div></header>
<main>
<div class="culprit">{culprit}</div>
<h2>Traceback, the most recent call last</h2>
{chain}
<h2>As text</h2>
<details class="frame"><summary>To copy</summary><pre>{text}</pre></details>
</main>
<footer>{python} in {directory}, served by <b>myserver dev</b></footer>
{script}</html>
"""
