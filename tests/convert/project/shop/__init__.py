"""The package of a project that is configured for other servers."""
