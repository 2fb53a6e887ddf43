"""The patterns, of which some are included and some are translated."""

import os
import sys

from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path

if os.environ.get("BROKEN") == "import":
    raise ValueError("as asked")
if os.environ.get("BROKEN") == "exit":
    sys.exit("as asked")

urlpatterns = [
    path("inner/", include("lazysite.inner")),
    *i18n_patterns(path("translated/", include("lazysite.inner"))),
]
