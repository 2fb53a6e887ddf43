"""Writes a Django project of many models, to measure the memory of servers with.

    python memory_project.py DIRECTORY [--apps 30] [--models 10] [--database-url URL]

The project is `project.wsgi`. Its pages:

    /             hello
    /page/        fifty rows with their relations, through a template
    /admin/       the admin with every model; the login page walks over all of them
    /collect/     one full collection of the worker that answers

`project.warm` is the same application after the warm-up that myserver would make of the requests in
$WARM (separated by commas), $WARM_ROUNDS times: what other servers are given to preload.
Each response names its process in X-Worker; "?hold=SECONDS" keeps the worker busy that long after
the work is done, so that simultaneous requests go to different workers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

SETTINGS = '''\
"""Settings of a generated project."""

import os
from pathlib import Path
from urllib.parse import urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "generated"
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
APPS = {apps!r}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    *APPS,
]
MIDDLEWARE = [
    "project.middleware.name_worker",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
TEMPLATES = [
    {{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {{
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        }},
    }}
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
DATABASES = {{
    "default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
}}
if os.environ.get("DATABASE_URL"):
    url = urlsplit(os.environ["DATABASE_URL"])
    DATABASES["default"] = {{
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path[1:],
        "HOST": url.hostname,
        "PORT": url.port,
        "USER": url.username,
        "CONN_MAX_AGE": None,
    }}
'''

MIDDLEWARE = '''\
"""Says in each response which process has answered."""

import os
import time


def name_worker(get_response):
    """X-Worker: the pid; ?hold=SECONDS keeps the worker busy."""

    def middleware(request):
        response = get_response(request)
        response["X-Worker"] = str(os.getpid())
        if "hold" in request.GET:
            time.sleep(float(request.GET["hold"]))
        return response

    return middleware
'''

URLS = '''\
"""Pages of a generated project."""

import gc

from django.contrib import admin
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import path

from app00.models import Model00


def hello(request):
    """Nothing but the middlewares."""
    return HttpResponse("hello")


def page(request):
    """Fifty rows and their relations."""
    rows = Model00.objects.select_related("parent").order_by("number")[:50]
    return render(request, "page.html", {"rows": rows, "total": Model00.objects.count()})


def collect(request):
    """One full collection."""
    return HttpResponse(str(gc.collect()))


urlpatterns = [
    path("", hello),
    path("page/", page),
    path("collect/", collect),
    path("admin/", admin.site.urls),
]
'''

PAGE = """\
{% extends "base.html" %}
{% block title %}Rows{% endblock %}
{% block content %}
<h1>{{ total }} rows</h1>
<table>
{% for row in rows %}
<tr class="{% cycle 'odd' 'even' %}">
  <td>{{ row.number }}</td><td>{{ row.name|title }}</td><td>{{ row.state }}</td>
  <td>{{ row.created|date:"Y-m-d H:i" }}</td><td>{{ row.price|floatformat:2 }}</td>
  <td>{% if row.parent %}{{ row.parent.name }}{% else %}none{% endif %}</td>
  <td>{{ row.text|truncatewords:5 }}</td>
</tr>
{% endfor %}
</table>
{% endblock %}
"""

BASE = """\
<!doctype html>
<html lang="en"><head><title>{% block title %}{% endblock %}</title></head>
<body>{% block content %}{% endblock %}</body></html>
"""

WSGI = '''\
"""The application."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
application = get_wsgi_application()
'''

WARM = '''\
"""The application after its warm-up."""

import io
import os
import sys

from project.wsgi import application


def request(path):
    """One request; raises unless it answers below 400."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path.partition("?")[0],
        "QUERY_STRING": path.partition("?")[2],
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    status = []
    answer = application(environ, lambda line, headers, error=None: status.append(line))
    for piece in answer:
        pass
    answer.close()
    assert status[0] < "4", (path, status)


def warm_up():
    """What the environment asks for."""
    paths = [path for path in os.environ.get("WARM", "").split(",") if path]
    for _ in range(int(os.environ.get("WARM_ROUNDS", "25"))):
        for path in paths:
            request(path)
    from django.db import connections

    connections.close_all()


warm_up()
'''

MODELS_HEAD = '''\
"""Models of a generated application."""

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models


class State(models.TextChoices):
    """Where a thing stands."""

    NEW = "new", "New"
    OPEN = "open", "Open"
    DONE = "done", "Done"

'''

MODEL = '''
class {name}(models.Model):
    """{name} of {app}."""

    number = models.IntegerField(
        unique=True, validators=[MinValueValidator(0), MaxValueValidator(10**6)]
    )
    name = models.CharField("name", max_length=100, db_index=True)
    slug = models.SlugField(max_length=60, validators=[RegexValidator("^[a-z0-9-]+$")])
    state = models.CharField(max_length=10, choices=State.choices, default=State.NEW)
    text = models.TextField(blank=True, help_text="Anything that {name} of {app} may need.")
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)
    email = models.EmailField(blank=True)
    parent = models.ForeignKey(
        {parent}, null=True, blank=True, on_delete=models.SET_NULL, related_name="children_{lower}"
    )
    {many}

    class Meta:
        ordering = ["number"]
        verbose_name = "{lower} of {app}"
        indexes = [models.Index(fields=["state", "created"], name="{app}_{lower}_state")]

    def __str__(self):
        return f"{{self.name}} ({{self.number}})"

    def is_done(self):
        """Whether it is done."""
        return self.state == State.DONE

    def total(self):
        """Price of it and its children."""
        return self.price + sum(child.price for child in self.children_of())

    def children_of(self):
        """Everything below."""
        return type(self).objects.filter(parent_id=self.pk) if self.pk else []
'''

FORM = '''
class {name}Form(forms.ModelForm):
    """Edits a {name}."""

    class Meta:
        model = models.{name}
        fields = ["number", "name", "slug", "state", "text", "price", "email", "parent"]

    def clean_name(self):
        """Names have no spaces at their ends."""
        return self.cleaned_data["name"].strip()

    def clean(self):
        """Done things have a price."""
        data = super().clean()
        if data.get("state") == "done" and not data.get("price"):
            self.add_error("price", "Done, but without a price.")
        return data
'''

ADMIN = '''
@admin.register(models.{name})
class {name}Admin(admin.ModelAdmin):
    """Lists and edits {name}."""

    form = forms.{name}Form
    list_display = ["number", "name", "state", "price", "created", "is_late"]
    list_filter = ["state", "created"]
    search_fields = ["name", "text", "slug"]
    date_hierarchy = "created"
    readonly_fields = ["created", "changed"]
    fieldsets = [
        (None, {{"fields": ["number", "name", "slug", "state"]}}),
        ("More", {{"fields": ["text", "price", "email", "parent"], "classes": ["collapse"]}}),
    ]
    actions = ["finish"]

    @admin.display(boolean=True, description="late")
    def is_late(self, row):
        """Whether it waits for long."""
        return row.state == "new"

    @admin.action(description="Finish what is chosen")
    def finish(self, request, rows):
        """Sets the state."""
        rows.update(state="done")
'''


def model_source(app: str, index: int) -> str:
    """One model: a relation to the one before it, every third with a many-to-many one too."""
    many = (
        'others = models.ManyToManyField("self", blank=True)'
        if index % 3 == 2
        else "weight = models.FloatField(null=True, blank=True)"
    )
    name = f"Model{index:02}"
    parent = '"self"' if index == 0 else f'"{app}.Model{index - 1:02}"'
    return MODEL.format(name=name, lower=name.lower(), app=app, parent=parent, many=many)


def write_app(directory: Path, app: str, models: int) -> None:
    """One Django application: models, forms, admin."""
    names = [f"Model{index:02}" for index in range(models)]
    folder = directory / app
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "models.py").write_text(
        MODELS_HEAD + "\n".join(model_source(app, index) for index in range(models))
    )
    (folder / "forms.py").write_text(
        f'"""Forms of {app}."""\n\nfrom django import forms\n\nfrom {app} import models\n'
        + "".join("\n" + FORM.format(name=name) for name in names)
    )
    (folder / "admin.py").write_text(
        f'"""Admin of {app}."""\n\nfrom django.contrib import admin\n\n'
        f"from {app} import forms, models\n"
        + "".join("\n" + ADMIN.format(name=name) for name in names)
    )


POPULATE = """\
from app00.models import Model00
rows = [Model00(number=i, name=f"row {i}", slug=f"row-{i}", text="word " * 20) for i in range(200)]
Model00.objects.bulk_create(rows)
first = Model00.objects.first()
Model00.objects.filter(number__gt=100).update(parent=first)
"""


def manage(directory: Path, *arguments: str, database_url: str | None) -> None:
    """django-admin for the project, with the Python that runs this."""
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "project.settings", "PYTHONPATH": str(directory)}
    if database_url:
        env["DATABASE_URL"] = database_url
    command = [sys.executable, "-m", "django", *arguments]
    subprocess.run(command, env=env, cwd=directory, check=True, stdout=subprocess.DEVNULL)


def write_project(
    directory: Path, apps: int = 30, models: int = 10, database_url: str | None = None
) -> None:
    """The whole project with its database, in a directory that does not exist yet."""
    names = [f"app{index:02}" for index in range(apps)]
    for name in names:
        write_app(directory, name, models)
    files = {
        "project/__init__.py": "",
        "project/settings.py": SETTINGS.format(apps=names),
        "project/middleware.py": MIDDLEWARE,
        "project/urls.py": URLS,
        "project/wsgi.py": WSGI,
        "project/warm.py": WARM,
        "templates/base.html": BASE,
        "templates/page.html": PAGE,
    }
    for path, text in files.items():
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(text)
    manage(directory, "migrate", "--run-syncdb", "-v0", database_url=database_url)
    manage(directory, "shell", "-v0", "-c", POPULATE, database_url=database_url)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--apps", type=int, default=30)
    parser.add_argument("--models", type=int, default=10, help="of each application")
    parser.add_argument("--database-url", help="PostgreSQL instead of SQLite")
    args = parser.parse_args()
    write_project(args.directory, args.apps, args.models, args.database_url)


if __name__ == "__main__":
    main()
