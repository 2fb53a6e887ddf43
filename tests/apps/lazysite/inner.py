"""Patterns that are included."""

from django.urls import path

import myserver
from lazysite import late
from told import event

event(f"urls imported in {myserver.worker_id()}")
urlpatterns = [path("state", late.state, name="state"), path("private", late.private)]
