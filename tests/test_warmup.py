"""A warm-up that opens connections: workers never share one."""

import pytest

from harness import Server, StartFailed


def test_the_default_does_no_harm(server) -> None:
    """Nobody asked for a warm-up, so it is left out where it would leave a connection open."""
    site: Server = server(app="keeps_connection:application", workers=2)
    assert site.log_contains(r"\[info\].* no prewarm is configured: .* so it is not used")
    assert {site.get("/").body for _ in range(10)} == {b"own"}


def test_a_configured_one_is_refused(server) -> None:
    """The sentence says what to do."""
    with pytest.raises(StartFailed, match=r"that all workers would share.*@myserver\.prefork"):
        server(app="keeps_connection:application", prewarm="/")


@pytest.mark.parametrize("options", [{}, {"prewarm": "/"}])
def test_a_hook_that_closes_it(server, options: dict[str, str]) -> None:
    """Then the warm-up is used, and each worker opens its own."""
    site: Server = server(app="closes_connection:application", workers=2, **options)
    assert site.log_contains(r"warmed up: 25 rounds")
    assert {site.get("/").body for _ in range(10)} == {b"own"}


def test_without_preload_nothing_is_shared(server) -> None:
    """Each worker loads and warms its own application."""
    site: Server = server(app="keeps_connection:application", workers=2, preload=False)
    assert {site.get("/").body for _ in range(10)} == {b"own"}
